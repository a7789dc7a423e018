"""Deep Dream for one emotion, taken a step at a time, and the relevance that its path gives to each pixel.

The dream begins in a haze: a blurred copy of the picture. It first lets the picture surface from there, and
then goes on beyond it, climbing the gradient of one emotion's log-odds with respect to the picture
(Mordvintsev et al. 2015) inside a small box. Along its path x_0, x_1, ... the relevance of a pixel is the
line integral of the gradient,

    R = sum over t of (g_t + g_t+1) / 2 * (x_t+1 - x_t),

summed over colours. The first leg is integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) from
a blurred baseline, a straight short cut of Xu et al. 2020 (arXiv 2004.03383). It gives the map its sign: a
part whose detail lowers the emotion as it surfaces is negative, while a climb alone can only be positive. The
second leg also sees what no blur can take away, such as a colour.

By the gradient theorem the sum of R is the rise of the log-odds from the path's start to its end. A network's
gradient changes faster than a few trapezoids can follow, so what speaks for and what speaks against the
emotion are weighed against each other until the sum is right (`app.explain.balance`). `trapezoid_error` is
how far it was from right before, `imbalance` how much the weights had to change, and `completeness_error`
what is still missing then.

Instead of an emotion, a dream can be of an inner layer: it then climbs the logarithm of the layer's mean
squared activation, whose gradient points where that of Mordvintsev's own objective does. The logarithm makes
layers comparable, whatever their scale: a rise of 0.69 is twice the activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.explain.balance import balanced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

_STILL = 1e-12  # a gradient below this moves nothing, and an activation below it is none


@dataclass(frozen=True)
class DreamSettings:
    """How far and how finely to dream.

    Attributes:
        steps: from the haze to the picture, and from the picture on into the dream.
        haze: standard deviation of the blur that the dream begins in, as a share of the picture's side.
        radius: largest change of a pixel's colour channel beyond the picture, of 255.
        smoothing: the gradient's blur as a share of the side, before the picture climbs along it.
        mirrored: dream once more of the mirror image, and take the mean of both.
    """

    steps: tuple[int, int] = (3, 1)
    haze: float = 0.0167
    radius: float = 1.0
    smoothing: float = 0.01
    mirrored: bool = False

    def __post_init__(self) -> None:
        if min(self.steps) < 1:
            raise ValueError(
                f"a dream needs at least one step to the picture and one beyond, not {self.steps}"
            )
        if min(self.haze, self.radius, self.smoothing) <= 0:
            raise ValueError("haze, radius and smoothing must be above 0")

    @property
    def evaluations(self) -> int:
        """Gradients that one dream takes: one at each end of each step."""
        return (sum(self.steps) + 1) * (2 if self.mirrored else 1)


QUICK = DreamSettings()
"""Five gradients, which take the time of six to seven passes of the network without gradients."""
THOROUGH = DreamSettings(steps=(6, 1), mirrored=True)
"""Sixteen gradients: a finer path, and the mean of the picture and its mirror image."""
DEFAULTS = QUICK


class Dream:
    """One picture's dream. `begin_step`, and what that returns, move it on until it is `done`.

    Args:
        pixels: ``uint8 [3, S, S]``.
        emotion: index of the emotion whose log-odds are explained.
        layer: the inner layer to dream of instead; None for the emotion.
        checkpoint: tells the device and the temperature; the network itself is handed to `begin_step`.
        settings: how far and how finely.

    Attributes:
        rise: of the log-odds from the haze to the end of the dream.
        steps_taken: gradients taken in.
        imbalance: by how much the balance had to change the weight of either side, 0 for not at all.
        trapezoid_error: the completeness error that there was before the balance.
    """

    _before: Tensor

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        emotion: int,
        checkpoint: Checkpoint,
        settings: DreamSettings,
        layer: str | None = None,
    ) -> None:
        self.emotion = emotion
        self.layer = layer
        self.temperature = checkpoint.card.temperature
        self.rise = 0.0
        self.imbalance = 0.0
        self.trapezoid_error = 0.0
        self.steps_taken = 0
        self._settings = settings
        self._pixels = pixels
        self._device = checkpoint.device
        self._views = 2 if settings.mirrored else 1
        self._steps_of_a_view = sum(settings.steps) + 1
        self._gradient: Tensor | None = None
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether the dream is over."""
        return self.steps_taken == self._settings.evaluations

    @property
    def side(self) -> int:
        """Of the picture that the next step looks at."""
        return int(self._pixels.shape[-1])

    def begin(self) -> None:
        """Put the picture on the device, if it is not there yet."""
        if self._begun:
            return
        self._original = torch.from_numpy(self._pixels).to(self._device).float()
        self._haze = _blur(self._original, self._settings.haze * self.side)
        self._change = torch.zeros_like(self._original)
        self._relevance = torch.zeros_like(self._original[0])
        self._at = self._haze
        self._begun = True

    @property
    def view(self) -> Tensor:
        """What the network looks at next, ``[3, S, S]`` in 0..255."""
        return self._at.flip(-1) if self._is_mirror_image else self._at

    def follow(self, height: float, gradient: Tensor) -> None:
        """Take in what the network says of `view`, and move on; whatever fails leaves the dream as it was.

        Args:
            height: the log-odds of the emotion, or the layer's logarithm.
            gradient: of the same, ``[3, S, S]``.
        """
        if self._is_mirror_image:
            gradient = gradient.flip(-1)
        rise, relevance, imbalance = self.rise, self._relevance, self.imbalance
        at, change = self._at, self._change
        if self._gradient is None:
            rise -= height / self._views
        else:
            moved = self._at - self._before
            relevance = relevance + ((self._gradient + gradient) / 2 * moved).sum(dim=0) / self._views
        steps = self.steps_taken + 1
        taken = steps % self._steps_of_a_view
        if taken:
            at = self._next(taken, gradient)
        else:
            rise += height / self._views
            change = change + (self._at - self._original) / self._views
            at = self._haze
        if steps == self._settings.evaluations:
            self.trapezoid_error = _distance(relevance, rise)
            relevance, imbalance = balanced(relevance, rise)
        # Nothing fails from here on.
        self._before, self._at, self._gradient = self._at, at, gradient if taken else None
        self._relevance, self._change = relevance, change
        self.rise, self.imbalance, self.steps_taken = rise, imbalance, steps

    def relevance(self) -> NDArray[np.float32]:
        """``[S, S]``, signed; the sum is `rise`, but for the completeness error."""
        return np.asarray(self._relevance.cpu().numpy(), dtype=np.float32)

    def dreamed(self) -> NDArray[np.float32]:
        """The picture after the dream, ``[3, S, S]`` in 0..255."""
        return np.asarray((self._original + self._change).clamp(0, 255).cpu().numpy(), dtype=np.float32)

    @property
    def completeness_error(self) -> float:
        """Distance of the relevance's sum from the rise, as a share of the rise."""
        return _distance(self._relevance, self.rise)

    @property
    def _is_mirror_image(self) -> bool:
        return self.steps_taken >= self._steps_of_a_view

    def _next(self, taken: int, gradient: Tensor) -> Tensor:
        surfacing = self._settings.steps[0]
        if taken < surfacing:
            return torch.lerp(self._haze, self._original, taken / surfacing)
        return self._original if taken == surfacing else self._climbed(gradient)

    def _climbed(self, gradient: Tensor) -> Tensor:
        """The picture one step up, inside the box and inside what a pixel can be."""
        direction = _blur(gradient, self._settings.smoothing * self.side)
        scale = direction.abs().mean()
        if scale < _STILL:
            return self._at
        radius = self._settings.radius
        moved = self._at + radius / self._settings.steps[1] * direction / (2 * scale)
        return (self._original + (moved - self._original).clamp(-radius, radius)).clamp(0, 255)


def begin_step(network: torch.jit.ScriptModule, dreams: Sequence[Dream]) -> Callable[[], None]:
    """The first half of a gradient for several dreams of the same `side` and `layer`, in one batch.

    Both halves take about as long, and whoever shares the device may use it between them.

    Returns:
        The second half, to be called once. It raises FloatingPointError if a gradient or what it is of is not
        a number; then no dream has moved.
    """
    for dream in dreams:
        dream.begin()
    with torch.enable_grad():
        pictures = torch.stack([dream.view for dream in dreams])
        pictures = pictures.to(memory_format=torch.channels_last).requires_grad_()
        heights = _heights(network, pictures, dreams)
        total = heights.sum()

    def finish() -> None:
        (gradients,) = torch.autograd.grad(total, pictures)
        values = heights.detach().cpu()
        if not (torch.isfinite(values).all() and torch.isfinite(gradients).all()):
            raise FloatingPointError("the gradient is not a number")
        for dream, value, gradient in zip(dreams, values.tolist(), gradients, strict=True):
            dream.follow(value, gradient)

    return finish


def take_step(network: torch.jit.ScriptModule, dreams: Sequence[Dream]) -> None:
    """Both halves of `begin_step`, one after the other.

    Raises:
        FloatingPointError: a gradient or what it is of is not a number; no dream has moved.
    """
    begin_step(network, dreams)()


def _heights(network: torch.jit.ScriptModule, pictures: Tensor, dreams: Sequence[Dream]) -> Tensor:
    """What each dream climbs, ``[N]``."""
    layer = dreams[0].layer
    if layer is not None:
        seen: Tensor = network.activations(pictures)[layer]
        return (seen.square().mean(dim=(1, 2, 3)) + _STILL).log()
    logits = network(pictures)
    return torch.stack(
        [log_odds(row / d.temperature, d.emotion) for row, d in zip(logits, dreams, strict=True)]
    )


def _distance(relevance: Tensor, rise: float) -> float:
    return abs(float(relevance.sum()) - rise) / max(abs(rise), _STILL)


def log_odds(logits: Tensor, emotion: int) -> Tensor:
    """Log p / (1 - p) of one emotion, ``[...]``, from logits ``[..., K]``."""
    others = torch.cat([logits[..., :emotion], logits[..., emotion + 1 :]], dim=-1)
    return logits[..., emotion] - torch.logsumexp(others, dim=-1)


def _blur(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``[C, H, W]``, its border mirrored."""
    reach = min(max(1, round(3 * sigma)), picture.shape[-1] - 1)
    offsets = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = picture.shape[0]
    across = kernel.repeat(channels, 1).view(channels, 1, 1, -1)
    padded = functional.pad(picture[None], (reach, reach, reach, reach), mode="reflect")
    blurred = functional.conv2d(padded, across, groups=channels)
    return functional.conv2d(blurred, across.transpose(2, 3), groups=channels)[0]
