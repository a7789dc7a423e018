"""What a map must do whatever the picture: depend on the network and the emotion, and on nothing else."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from app.explain.heatmap import softened
from bench.explanations.maps import Explained, dream
from bench.explanations.subjects import as_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.explain.dream import DreamSettings
    from bench.explanations.maps import Map
    from bench.explanations.subjects import Subject
    from training.inception import EmotionInception

_JPEG_QUALITY = 85
_SMALLER = 0.9


@dataclass(frozen=True)
class Soundness:
    """Rank correlations of one picture's map with another map, and how well its sum adds up.

    Attributes:
        randomised: with the map of a network whose weights are shuffled.
        other_emotion: with the map of the emotion that is expected next.
        jpeg: with the map of the upload after JPEG at quality 85.
        resized: with the map of the upload at 90 % of its size.
        again: whether a second dream gave the same bytes.
        completeness_error: as a share of the rise.
        trapezoid_error: the same before the sides were balanced.
        imbalance: by how much the weights for and against were changed to get there.
    """

    randomised: float
    other_emotion: float
    jpeg: float
    resized: float
    again: bool
    completeness_error: float
    trapezoid_error: float
    imbalance: float

    def figures(self) -> dict[str, float]:
        """As numbers, by name."""
        return {name: float(value) for name, value in asdict(self).items()}


def soundness(
    subject: Subject, asked: Explained, settings: DreamSettings, strange: EmotionInception, drawn: Map
) -> Soundness:
    """Dream five times of one picture, of which `drawn` is the map of another time, softened."""
    first = dream(asked, settings)

    def alike(other: Explained, network: EmotionInception | None = None) -> float:
        return rank_correlation(first.relevance(), dream(other, settings, network).relevance())

    def altered(rgb: Image.Image) -> Explained:
        return replace(asked, pixels=as_input(rgb, asked.checkpoint))

    width, height = subject.rgb.size
    smaller = subject.rgb.resize(
        (round(width * _SMALLER), round(height * _SMALLER)), Image.Resampling.BICUBIC
    )
    return Soundness(
        randomised=alike(asked, strange),
        other_emotion=alike(replace(asked, emotion=subject.second)),
        jpeg=alike(altered(_as_jpeg(subject.rgb))),
        resized=alike(altered(smaller)),
        again=softened(first.relevance()).tobytes() == drawn.tobytes(),
        completeness_error=first.completeness_error,
        trapezoid_error=first.trapezoid_error,
        imbalance=first.imbalance,
    )


def rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's, of the maps as they are drawn."""
    first, second = (np.argsort(np.argsort(softened(each).ravel())).astype(np.float64) for each in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def _as_jpeg(rgb: Image.Image) -> Image.Image:
    stored = io.BytesIO()
    rgb.save(stored, "JPEG", quality=_JPEG_QUALITY)
    return Image.open(stored).convert("RGB")
