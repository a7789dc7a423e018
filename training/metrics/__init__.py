"""How well predicted distributions of emotions match the raters', with intervals and reference levels.

Every function takes ``predicted`` and ``rated``, both ``[N, K]`` with rows that sum to 1.

``pictures``        what each picture alone is worth: distances of distributions, proper scores
``dominant``        the most frequent choice: confusion, accuracy, F1
``calibration``     whether a predicted share is the share that raters give
``summary``         every figure at once, with intervals
``reference``       what there is to compare a figure with, and how far the way to the best possible is
"""

from training.metrics.calibration import (
    BINS,
    calibration_error,
    classwise_calibration_error,
    reliability,
    reliability_by_emotion,
)
from training.metrics.dominant import (
    CLEAR_AGREEMENT,
    accuracy_when_clear,
    balanced_accuracy,
    clear_and_common,
    common_labels,
    confusion,
    hits,
    macro_f1,
)
from training.metrics.pictures import (
    SMALLEST,
    Floats,
    brier,
    canberra,
    chebyshev,
    clark,
    cosine,
    intersection,
    kl_divergence,
    negative_log_likelihood,
)
from training.metrics.reference import gap_closed, reference_levels
from training.metrics.summary import measure, measure_changes, measure_with_intervals

__all__ = [
    "BINS", "CLEAR_AGREEMENT", "SMALLEST", "Floats", "accuracy_when_clear", "balanced_accuracy", "brier",
    "calibration_error", "canberra", "chebyshev", "clark", "classwise_calibration_error", "clear_and_common",
    "common_labels", "confusion", "cosine", "gap_closed", "hits", "intersection", "kl_divergence", "macro_f1",
    "measure", "measure_changes", "measure_with_intervals", "negative_log_likelihood", "reference_levels",
    "reliability", "reliability_by_emotion",
]  # fmt: skip
