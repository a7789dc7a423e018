"""What in one picture raises or lowers an emotion, from the dream's first step to its last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from app.checkpoint import judge
from app.engine import Explanation, Prediction
from app.explain.dream import Dream, take_step
from app.explain.presets import PRESETS

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from app.picture import Pixels


def explain(copy: Checkpoint, pixels: Pixels, emotion: int | None, quality: str) -> Explanation:
    """Explain one emotion on the checkpoint's device, in the calling thread.

    Args:
        copy: the checkpoint.
        pixels: ``uint8 [3, S, S]`` with the card's S.
        emotion: index in the card's labels; None is the dominant one.
        quality: one of `app.explain.presets.PRESETS`.

    Raises:
        FloatingPointError: a gradient is not a number.
    """
    prediction = _predict(copy, pixels)
    chosen = int(prediction.probabilities.argmax()) if emotion is None else emotion
    return _dream(copy, pixels, chosen, quality, prediction)


def explain_all(copy: Checkpoint, pixels: Pixels, quality: str) -> list[Explanation]:
    """An explanation of each emotion, the most probable first; takes and raises what `explain` does."""
    prediction = _predict(copy, pixels)
    order = (-prediction.probabilities).argsort(kind="stable")
    return [_dream(copy, pixels, int(emotion), quality, prediction) for emotion in order]


def _predict(copy: Checkpoint, pixels: Pixels) -> Prediction:
    began = time.monotonic()
    judged = judge(copy, pixels[np.newaxis])
    took = time.monotonic() - began
    return Prediction(judged.probabilities[0], 0.0, took, judged.novelty_of(0))


def _dream(
    copy: Checkpoint, pixels: Pixels, emotion: int, quality: str, prediction: Prediction
) -> Explanation:
    began = time.monotonic()
    dream = Dream(pixels, emotion, copy, PRESETS[quality])
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
    )
