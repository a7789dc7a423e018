"""What is said of an explanation, the same words and figures wherever it is told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from app import distribution
from app.explain.heatmap import has_evidence
from app.explain.regions import regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.card import Card
    from app.distribution import Reason
    from app.engine import Explanation
    from app.explain.regions import Region


_ROUNDED = 1e-9
"""Of a pixel, at least as much as a share times a width may be off from the whole number that it is."""
_FELT = ("distribution", "entropy", "novelty", "valence", "abstained_because")


def facts(card: Card, explanations: Sequence[Explanation], quality: str) -> dict[str, str]:
    """What a PNG's text chunks and a response's headers say: of a sheet, the first, and the largest errors.

    Args:
        card: of the checkpoint that answered.
        explanations: that are shown.
        quality: one of `app.explain.presets.PRESETS`.
    """
    first = explanations[0]
    return ({} if first.layer is None else {"Layer": first.layer}) | {
        "Emotion": card.labels[first.emotion],
        "Probability": f"{first.prediction.probabilities[first.emotion]:.6f}",
        "Completeness-Error": f"{max(each.completeness_error for each in explanations):.4g}",
        "Imbalance": f"{max(each.imbalance for each in explanations):.4g}",
        "Evidence": "yes" if any(has_evidence(each) for each in explanations) else "no",
        "Abstained": doubt(card, first) or "no",
        "Settings": quality,
        "Model": card.release,
    }


def doubt(card: Card, explanation: Explanation) -> Reason | None:
    """Why the prediction that is explained should not be relied on, if so."""
    prediction = explanation.prediction
    return distribution.why_abstain(card, prediction.probabilities.tolist(), prediction.novelty)


def felt(card: Card, explanation: Explanation) -> dict[str, Any]:
    """The prediction that is explained, for programs; each explanation has its own emotion's probability."""
    prediction = explanation.prediction
    said = distribution.described(card, prediction.probabilities.tolist(), prediction.novelty)
    return {name: said[name] for name in _FELT}


def notes(card: Card, sha256: str, explanations: Sequence[Explanation], quality: str) -> dict[str, str]:
    """The text chunks of a PNG: its facts, and the digest of the checkpoint."""
    named = {f"DeepEmotion-{name}": value for name, value in facts(card, explanations, quality).items()}
    return named | {"DeepEmotion-Model-SHA256": sha256}


def described(explanation: Explanation, labels: Sequence[str], width: int, height: int) -> dict[str, Any]:
    """An explanation for programs.

    Args:
        explanation: of one emotion.
        labels: of the checkpoint's card.
        width: of the upright picture, in pixels.
        height: likewise.
    """
    return {
        "emotion": labels[explanation.emotion],
        "probability": float(explanation.prediction.probabilities[explanation.emotion]),
        "layer": explanation.layer,
        "evidence": has_evidence(explanation),
        "rise": explanation.rise,
        "completeness_error": explanation.completeness_error,
        "imbalance": explanation.imbalance,
        "regions": [_box(region, width, height) for region in regions(explanation)],
    }


def _box(region: Region, width: int, height: int) -> dict[str, Any]:
    # Outwards, so that no box is empty, however small the picture is.
    return {
        "left": math.floor(region.left * width + _ROUNDED),
        "top": math.floor(region.top * height + _ROUNDED),
        "right": math.ceil(region.right * width - _ROUNDED),
        "bottom": math.ceil(region.bottom * height - _ROUNDED),
        "share": region.share,
        "effect": "raises" if region.raises else "lowers",
    }
