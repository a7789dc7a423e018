"""Maps of one picture by every method that is compared.

A map is ``[S, S]``, higher where the picture speaks more for the emotion. The dream's is the one that is
drawn for a user, softening included. Captum and pytorch-grad-cam explain the checkpoint's `twin`.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from app.explain.dream import QUICK, THOROUGH, Dream, DreamSettings, take_step
from app.explain.heatmap import softened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.picture import Pixels
    from training.inception import EmotionInception

    Map = NDArray[np.float32]

_GREY = 127.5
_INTEGRATED_STEPS = 16
_NOISY_COPIES = 12
_NOISE = 0.15 * 255  # SmoothGrad's own choice: 10 to 20 % of the range
_CENTRE = 0.25
_WINDOW = 45
_STRIDE = 30
_PEER_LINES = (
    "python -m pip install captum tqdm, python -m pip install --no-deps grad-cam ttach opencv-python-headless"
)


class PeerMissing(Exception):
    """A library to compare with is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Explained:
    """What a method may use: the picture, the emotion's index, the checkpoint, and its twin."""

    pixels: Pixels
    emotion: int
    checkpoint: Checkpoint
    twin: EmotionInception
    seed: int = 0


class LogOdds(nn.Module):
    """The twin's log-odds of every emotion, ``[N, K]``: the same objective as the dream's."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Of pictures in 0..255."""
        log = torch.log_softmax(self.network(pictures) / self.temperature, dim=1)
        return log - torch.log1p(-log.exp())


def dream(asked: Explained, settings: DreamSettings, network: nn.Module | None = None) -> Dream:
    """A dream that is over; of another network if one is given."""
    dreaming = Dream(asked.pixels, asked.emotion, asked.checkpoint, settings)
    while not dreaming.done:
        take_step(cast("torch.jit.ScriptModule", network or asked.checkpoint.network), [dreaming])
    return dreaming


def _dream_map(asked: Explained, settings: DreamSettings) -> Map:
    return softened(dream(asked, settings).relevance())


def _raw_dream_map(asked: Explained) -> Map:
    """As ``map=npz`` gives it: every pixel for itself, as the other methods have it."""
    return dream(asked, QUICK).relevance()


def _random(asked: Explained) -> Map:
    side = asked.pixels.shape[-1]
    return np.random.default_rng(asked.seed).normal(size=(side, side)).astype(np.float32)


def _centre(asked: Explained) -> Map:
    """A Gaussian, because photographers put things in the middle."""
    side = asked.pixels.shape[-1]
    square = ((np.arange(side) - (side - 1) / 2) / (_CENTRE * side)) ** 2
    return np.asarray(np.exp(-(square[:, None] + square) / 2), np.float32)


def _edges(asked: Explained) -> Map:
    """Sobel's edges, softened as the dream's map is."""
    sobel = importlib.import_module("scipy.ndimage").sobel
    grey = asked.pixels.mean(axis=0)
    return softened(np.hypot(sobel(grey, 0), sobel(grey, 1)).astype(np.float32))


def _integrated_gradients(asked: Explained) -> Map:
    method = peer("captum.attr").IntegratedGradients(_objective(asked))
    inputs = _inputs(asked)
    found = method.attribute(
        inputs,
        baselines=torch.full_like(inputs, _GREY),
        target=asked.emotion,
        n_steps=_INTEGRATED_STEPS,
        internal_batch_size=4,
    )
    return _summed(found)


def _smoothgrad(asked: Explained) -> Map:
    attr = peer("captum.attr")
    method = attr.NoiseTunnel(attr.Saliency(_objective(asked)))
    torch.manual_seed(asked.seed)
    found = method.attribute(
        _inputs(asked),
        nt_type="smoothgrad",
        nt_samples=_NOISY_COPIES,
        nt_samples_batch_size=4,
        stdevs=_NOISE,
        target=asked.emotion,
        abs=False,
    )
    return np.asarray(found.detach()[0].abs().sum(dim=0).numpy(), np.float32)


def _occlusion(asked: Explained) -> Map:
    found = (
        peer("captum.attr")
        .Occlusion(_objective(asked))
        .attribute(
            _inputs(asked),
            sliding_window_shapes=(3, _WINDOW, _WINDOW),
            strides=(3, _STRIDE, _STRIDE),
            baselines=_GREY,
            target=asked.emotion,
            perturbations_per_eval=8,
        )
    )
    return _summed(found)


def _grad_cam(asked: Explained, block: str) -> Map:
    cam = peer("pytorch_grad_cam")
    target = peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(asked.emotion)
    with cam.GradCAM(model=_objective(asked), target_layers=[asked.twin.blocks[block]]) as method:
        return np.asarray(method(input_tensor=_inputs(asked), targets=[target])[0], np.float32)


def _soft(asked: Explained, method: Callable[[Explained], Map]) -> Map:
    return softened(method(asked))


METHODS: dict[str, Callable[[Explained], Map]] = {
    "dream": partial(_dream_map, settings=QUICK),
    "dream-raw": _raw_dream_map,
    "dream-thorough": partial(_dream_map, settings=THOROUGH),
    "random": _random,
    "centre": _centre,
    "edges": _edges,
    "integrated-gradients": _integrated_gradients,
    "integrated-gradients-soft": partial(_soft, method=_integrated_gradients),
    "smoothgrad": _smoothgrad,
    "smoothgrad-soft": partial(_soft, method=_smoothgrad),
    "grad-cam": partial(_grad_cam, block="Mixed_7c"),
    "grad-cam-7a": partial(_grad_cam, block="Mixed_7a"),
    "grad-cam-6e": partial(_grad_cam, block="Mixed_6e"),
    "occlusion": _occlusion,
}
"""By name. ``-soft`` is the same map with the dream's softening: it must not be the softening that wins.
``dream`` is softened as it is drawn, ``dream-raw`` is not."""
DEFAULT_METHODS = tuple(name for name in METHODS if name not in {"occlusion", "grad-cam-6e"})


def timed_maps(asked: Explained, names: Sequence[str]) -> dict[str, tuple[Map, float]]:
    """Maps by these methods and the seconds each took; ``-soft`` is made of the plain map if it is there."""
    maps: dict[str, tuple[Map, float]] = {}
    for name in names:
        began = time.perf_counter()
        plain = name.removesuffix("-soft")
        found = softened(maps[plain][0]) if name != plain and plain in maps else METHODS[name](asked)
        maps[name] = found, time.perf_counter() - began
    return maps


def _objective(asked: Explained) -> LogOdds:
    return LogOdds(asked.twin, asked.checkpoint.card.temperature).eval()


def _inputs(asked: Explained) -> torch.Tensor:
    return torch.from_numpy(asked.pixels).float()[None].requires_grad_()


def _summed(found: torch.Tensor) -> Map:
    return np.asarray(found.detach()[0].sum(dim=0).numpy(), np.float32)


def peer(module: str) -> Any:  # noqa: ANN401 - libraries that need not be there
    """A module of a library to compare with.

    Raises:
        PeerMissing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise PeerMissing(f"{module} cannot be imported ({error}); get it with: {_PEER_LINES}") from error
