"""What bounds the engine, and the two kinds of request that it tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Kind(StrEnum):
    """What is asked of the engine."""

    PREDICTION = "prediction"
    EXPLANATION = "explanation"


@dataclass(frozen=True)
class EngineLimits:
    """What bounds the engine.

    Attributes:
        max_batch: pictures in one forward pass.
        max_predictions: predictions under way at once, from before their decoding until their answer.
        max_explanations: explanations that may wait, besides those that run.
        running_explanations: dreams that share gradient steps on a device; None is 1 on a CPU, 8 on a GPU.
        hang_seconds: a device that is busy with one piece of work for longer has hung.
    """

    max_batch: int = 8
    max_predictions: int = 128
    max_explanations: int = 16
    running_explanations: int | None = None
    hang_seconds: float = 60.0

    def running_on(self, device: torch.device) -> int:
        """Dreams that share gradient steps on this device.

        A CPU gains nothing from sharing: the step would only take as long as its parts one by one, and every
        prediction would wait for half of all that.
        """
        if self.running_explanations is not None:
            return self.running_explanations
        return 1 if device.type == "cpu" else 8
