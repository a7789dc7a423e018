"""Other methods of attribution, by Captum, to compare a dream with.

They explain the same log-odds as the dream, in the same units, signed as its map is.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from app.explain.dream import log_odds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from app.checkpoint import Checkpoint
    from app.picture import Pixels

GREY = 127.5
"""What a picture is compared with: the baseline of integrated gradients, and the colour that hides a part."""
INTEGRATED_STEPS = 32
WINDOW = 0.2
"""Side of the part that occlusion hides, as a share of the picture's side."""
STRIDE = 0.1
_TOGETHER = 4  # pictures in a batch
_NOTHING = 1e-12


class PeerMissing(Exception):
    """A method needs a library that is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Attribution:
    """A map by another method.

    Attributes:
        relevance: ``[S, S]``, signed, in units of the log-odds.
        rise: of the log-odds from a grey picture to this one.
    """

    relevance: NDArray[np.float32]
    rise: float

    @property
    def completeness_error(self) -> float:
        """Distance of the relevance's sum from the rise, as a share of the rise. Occlusion promises none."""
        return abs(float(self.relevance.sum()) - self.rise) / max(abs(self.rise), _NOTHING)


def attribute(copy: Checkpoint, pixels: Pixels, emotion: int, method: str) -> Attribution:
    """The map of one emotion.

    Args:
        copy: the checkpoint.
        pixels: ``uint8 [3, S, S]`` with the card's S.
        emotion: index in the card's labels.
        method: one of `METHODS`.

    Raises:
        FloatingPointError: the map is not of numbers.
        PeerMissing: Captum is not installed.
    """
    picture = torch.from_numpy(pixels).to(copy.device).float()[None]

    def explained(pictures: Tensor) -> Tensor:
        return log_odds(copy.network(pictures) / copy.card.temperature, emotion)

    found = METHODS[method](_captum(), explained, picture)
    relevance = np.asarray(found.detach().cpu().numpy(), dtype=np.float32)
    with torch.no_grad():
        grey, whole = explained(torch.cat([torch.full_like(picture, GREY), picture])).tolist()
    if not np.isfinite([*relevance.ravel(), grey, whole]).all():
        raise FloatingPointError("the map is not of numbers")
    return Attribution(relevance, whole - grey)


def _integrated_gradients(captum: Any, explained: Callable[[Tensor], Tensor], picture: Tensor) -> Tensor:  # noqa: ANN401
    found: Tensor = captum.IntegratedGradients(explained).attribute(
        picture, baselines=GREY, n_steps=INTEGRATED_STEPS, internal_batch_size=_TOGETHER
    )
    return found[0].sum(dim=0)


def _occlusion(captum: Any, explained: Callable[[Tensor], Tensor], picture: Tensor) -> Tensor:  # noqa: ANN401
    window, stride = (max(1, round(share * picture.shape[-1])) for share in (WINDOW, STRIDE))
    with torch.no_grad():
        found: Tensor = captum.Occlusion(explained).attribute(
            picture,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=GREY,
            perturbations_per_eval=_TOGETHER,
        )
    # Each pixel of a part is given all that hiding the part changes; its share of that adds up.
    return found[0].mean(dim=0) / window**2


METHODS = {"integrated-gradients": _integrated_gradients, "occlusion": _occlusion}
"""By the name that is asked for."""


def _captum() -> Any:  # noqa: ANN401 - a library that need not be there
    try:
        return importlib.import_module("captum.attr")
    except ImportError as error:
        raise PeerMissing(
            "this method is Captum's; get it with: pip install 'deepemotion[compare]'"
        ) from error
