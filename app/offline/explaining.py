"""What in one picture raises or lowers an emotion, by the dream or by another method to compare it with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from app.checkpoint import judge
from app.engine import Explanation, Prediction
from app.explain.dream import Dream, take_step
from app.explain.presets import PRESETS
from app.offline import peers

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from app.picture import Pixels


def explain(
    copy: Checkpoint,
    pixels: Pixels,
    emotion: int | None,
    quality: str,
    *,
    method: str = "dream",
    layer: str | None = None,
) -> Explanation:
    """Explain one emotion on the checkpoint's device, in the calling thread.

    Args:
        copy: the checkpoint.
        pixels: ``uint8 [3, S, S]`` with the card's S.
        emotion: index in the card's labels; None is the dominant one.
        quality: one of `app.explain.presets.PRESETS`.
        method: "dream", or one of `app.offline.peers.METHODS`.
        layer: an inner layer to dream of instead of the emotion.

    Raises:
        FloatingPointError: a gradient is not a number.
        PeerMissing: the method needs a library that is not installed.
    """
    prediction = _predict(copy, pixels)
    chosen = int(prediction.probabilities.argmax()) if emotion is None else emotion
    return _explained(copy, pixels, chosen, quality, prediction, method=method, layer=layer)


def explain_all(
    copy: Checkpoint, pixels: Pixels, quality: str, *, method: str = "dream"
) -> list[Explanation]:
    """An explanation of each emotion, the most probable first; takes and raises what `explain` does."""
    prediction = _predict(copy, pixels)
    order = (-prediction.probabilities).argsort(kind="stable")
    return [_explained(copy, pixels, int(emotion), quality, prediction, method=method) for emotion in order]


def _predict(copy: Checkpoint, pixels: Pixels) -> Prediction:
    began = time.monotonic()
    judged = judge(copy, pixels[np.newaxis])
    took = time.monotonic() - began
    return Prediction(judged.probabilities[0], 0.0, took, judged.novelty_of(0))


def _explained(
    copy: Checkpoint,
    pixels: Pixels,
    emotion: int,
    quality: str,
    prediction: Prediction,
    *,
    method: str = "dream",
    layer: str | None = None,
) -> Explanation:
    began = time.monotonic()
    if method != "dream":
        found = peers.attribute(copy, pixels, emotion, method)
        return Explanation(
            emotion=emotion,
            prediction=prediction,
            relevance=found.relevance,
            dreamed=pixels.astype(np.float32),
            original=pixels,
            rise=found.rise,
            completeness_error=found.completeness_error,
            imbalance=0.0,
            steps=0,
            queue_seconds=0.0,
            infer_seconds=prediction.infer_seconds + time.monotonic() - began,
        )
    dream = Dream(pixels, emotion, copy, PRESETS[quality], layer)
    while not dream.done:
        take_step(copy.network, [dream])
    return Explanation(
        emotion=emotion,
        prediction=prediction,
        relevance=dream.relevance(),
        dreamed=dream.dreamed(),
        original=pixels,
        rise=dream.rise,
        completeness_error=dream.completeness_error,
        imbalance=dream.imbalance,
        steps=dream.steps_taken,
        queue_seconds=0.0,
        infer_seconds=prediction.infer_seconds + time.monotonic() - began,
        layer=layer,
    )
