"""Deep Dream for one emotion, taken a step at a time, and the relevance that its path gives to each pixel.

The dream (Mordvintsev et al. 2015) climbs the gradient of one emotion's log-odds with respect to the picture,
over octaves from coarse to fine, and never leaves a small box around the original. Along its path
x_0, x_1, ... the relevance of a pixel is the line integral of the gradient,

    R = sum over t of (g_t + g_t+1) / 2 * (x_t+1 - x_t),

summed over colours. By the gradient theorem its sum is the rise of the log-odds from the path's start to its
end. What is left over, by the trapezoids, is the completeness error, and it is reported with every map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.checkpoint import SMALLEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

_STILL = 1e-12  # a gradient below this moves nothing


@dataclass(frozen=True)
class DreamSettings:
    """How far and how finely to dream.

    Attributes:
        octaves: sides of the picture as shares of the network's input, coarse to fine.
        steps: gradient steps in each octave.
        radius: largest change of a pixel's colour channel, of 255.
        smoothing: the gradient's blur in pixels (standard deviation), before the picture follows it.
    """

    octaves: tuple[float, ...] = (0.5, 1.0)
    steps: tuple[int, ...] = (3, 3)
    radius: float = 2.0
    smoothing: float = 3.0

    def __post_init__(self) -> None:
        if len(self.octaves) != len(self.steps) or min(self.steps) < 1:
            raise ValueError(f"octaves {self.octaves} need as many positive steps, not {self.steps}")


DEFAULTS = DreamSettings()


class Dream:
    """One picture's dream. `take_step` moves it on until it is `done`, and touches the device alone.

    Args:
        pixels: ``uint8 [3, S, S]``.
        emotion: index of the emotion whose log-odds rise.
        checkpoint: tells the device and the temperature; the network itself is handed to `take_step`.
        settings: how far and how finely.
    """

    picture: Tensor
    _previous: Tensor

    def __init__(
        self, pixels: NDArray[np.uint8], emotion: int, checkpoint: Checkpoint, settings: DreamSettings
    ) -> None:
        self.emotion = emotion
        self.temperature = checkpoint.card.temperature
        self.rise = 0.0
        self.steps_taken = 0
        self._settings = settings
        self._pixels = pixels
        self._device = checkpoint.device
        self._full_side: int = pixels.shape[-1]
        self._gradient: Tensor | None = None
        self._octave = 0
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether every octave is over."""
        return self._octave == len(self._settings.octaves)

    @property
    def side(self) -> int:
        """Of the picture that the next step looks at."""
        share = self._settings.octaves[self._octave]
        return min(self._full_side, max(SMALLEST_SIDE, round(self._full_side * share)))

    def begin(self) -> None:
        """Put the picture on the device, if it is not there yet."""
        if self._begun:
            return
        self._original = torch.from_numpy(self._pixels).to(self._device).float()
        self._change = torch.zeros_like(self._original)
        self._relevance = torch.zeros_like(self._original[0])
        self._begin_octave()
        self._begun = True

    def follow(self, log_odds: float, gradient: Tensor) -> None:
        """Take in what the network says of `picture`, and move on.

        Args:
            log_odds: of the emotion.
            gradient: of the log-odds, ``[3, side, side]``.
        """
        self.steps_taken += 1
        if self._gradient is None:
            self._first_log_odds = log_odds
        else:
            moved = self.picture - self._previous
            self._octave_relevance += ((self._gradient + gradient) / 2 * moved).sum(dim=0)
        self._gradient = gradient
        if self._steps_left:
            self._steps_left -= 1
            self._previous, self.picture = self.picture, self._climbed(gradient)
            return
        self.rise += log_odds - self._first_log_odds
        self._relevance += self._to_full(self._octave_relevance[None])[0] * (self.side / self._full_side) ** 2
        self._change = self._to_full(self.picture - self._base)
        self._octave += 1
        if not self.done:
            self._begin_octave()

    def relevance(self) -> NDArray[np.float32]:
        """``[S, S]``, signed; the sum is about `rise`."""
        return np.asarray(self._relevance.cpu().numpy(), dtype=np.float32)

    def dreamed(self) -> NDArray[np.float32]:
        """The picture after the dream, ``[3, S, S]`` in 0..255."""
        return np.asarray((self._original + self._change).clamp(0, 255).cpu().numpy(), dtype=np.float32)

    @property
    def completeness_error(self) -> float:
        """Distance of the relevance's sum from the rise, as a share of the rise."""
        return abs(float(self._relevance.sum()) - self.rise) / max(abs(self.rise), _STILL)

    def _begin_octave(self) -> None:
        self._base = _resize(self._original, self.side)
        self._steps_left = self._settings.steps[self._octave]
        self._octave_relevance = torch.zeros_like(self._base[0])
        self._gradient = None
        self._first_log_odds = 0.0
        self.picture = (self._base + _resize(self._change, self.side)).clamp(0, 255)
        self._previous = self.picture

    def _climbed(self, gradient: Tensor) -> Tensor:
        """The picture one step up, inside the box and inside what a pixel can be."""
        direction = _blur(gradient, self._settings.smoothing)
        stride = self._settings.radius / self._settings.steps[self._octave]
        scale = direction.abs().mean()
        if scale < _STILL:
            return self.picture
        moved = self.picture + stride * direction / (2 * scale)
        radius = self._settings.radius
        return (self._base + (moved - self._base).clamp(-radius, radius)).clamp(0, 255)

    def _to_full(self, picture: Tensor) -> Tensor:
        return _resize(picture, self._full_side)


def take_step(network: torch.jit.ScriptModule, dreams: Sequence[Dream]) -> None:
    """One gradient for several dreams of the same `side`, in one batch.

    Raises:
        FloatingPointError: a gradient or a log-odds is not a number; no dream has moved.
    """
    for dream in dreams:
        dream.begin()
    with torch.enable_grad():
        pictures = torch.stack([dream.picture for dream in dreams])
        pictures = pictures.to(memory_format=torch.channels_last).requires_grad_()
        logits = network(pictures)
        odds = torch.stack(
            [_log_odds(row / d.temperature, d.emotion) for row, d in zip(logits, dreams, strict=True)]
        )
        (gradients,) = torch.autograd.grad(odds.sum(), pictures)
    values = odds.detach().cpu()
    if not (torch.isfinite(values).all() and torch.isfinite(gradients).all()):
        raise FloatingPointError("the gradient is not a number")
    for dream, value, gradient in zip(dreams, values.tolist(), gradients, strict=True):
        dream.follow(value, gradient)


def _log_odds(logits: Tensor, emotion: int) -> Tensor:
    """Log p / (1 - p) of one emotion, from logits ``[K]``."""
    others = torch.cat([logits[:emotion], logits[emotion + 1 :]])
    return logits[emotion] - torch.logsumexp(others, dim=0)


def _resize(picture: Tensor, side: int) -> Tensor:
    """``[C, H, W]`` to ``[C, side, side]``."""
    if picture.shape[-1] == side:
        return picture
    return functional.interpolate(
        picture[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )[0]


def _blur(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``[C, H, W]``, its border mirrored."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = picture.shape[0]
    across = kernel.repeat(channels, 1).view(channels, 1, 1, -1)
    padded = functional.pad(picture[None], (reach, reach, reach, reach), mode="reflect")
    blurred = functional.conv2d(padded, across, groups=channels)
    return functional.conv2d(blurred, across.transpose(2, 3), groups=channels)[0]
