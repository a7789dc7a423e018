"""One checkpoint on every device of the engine."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.loading import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.card import Card, Quantised
    from app.checkpoint import Checkpoint, Precision
    from app.devices import Device


@dataclass(frozen=True, eq=False)
class Model:
    """What requests are answered with. Each keeps to the one that it began with, so a reload mixes nothing.

    Attributes:
        copies: the checkpoint on each device, in the order of the engine's devices.
    """

    copies: tuple[Checkpoint, ...]

    @property
    def card(self) -> Card:
        """What the checkpoint says of itself."""
        return self.copies[0].card

    @property
    def layers(self) -> tuple[str, ...]:
        """The inner layers that can be dreamed of."""
        return self.copies[0].layers

    @property
    def predicts(self) -> str:
        """What computes predictions, in words."""
        return self.copies[0].predicts

    @property
    def precision(self) -> Precision:
        """Of predictions."""
        return self.copies[0].precision

    @property
    def quantised(self) -> Quantised | None:
        """What predicting in a lower precision changes; None in single precision."""
        return self.copies[0].quantised

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the checkpoint's file."""
        return self.copies[0].sha256


def load_model(path: Path, devices: Sequence[Device], precision: Precision = "float32") -> Model:
    """Verify and load a checkpoint onto each device, to predict in a precision.

    Raises:
        CheckpointError: see `app.loading.load`.
    """
    return Model(
        tuple(
            load(
                path,
                each.torch,
                precision=precision,
                threads=each.threads,
                cpus=each.cpus,
                streams=each.streams,
            )
            for each in devices
        )
    )


async def load_model_apart(path: Path, devices: Sequence[Device], precision: Precision = "float32") -> Model:
    """`load_model`, in a thread of its own that ends with it. Raises what it does.

    OpenMP keeps a team of threads for every thread that ever computed with it, for as long as that one lives.
    With one team more than there are processors, GNU's OpenMP no longer waits for a moment where two threads
    meet, but sleeps at once, whenever a forward pass is shared out; a thread of a pool, which lives on, would
    slow down every prediction after it.

    It is never cut short, be it that nobody waits any more or that the process ends: torch would abort.
    """
    loaded: Future[Model] = Future()
    loaded.set_running_or_notify_cancel()  # so that it cannot be cancelled

    def load_it() -> None:
        try:
            loaded.set_result(load_model(path, devices, precision))
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            loaded.set_exception(error)

    threading.Thread(target=load_it, name="load").start()
    return await asyncio.wrap_future(loaded)
