"""Every figure of a set of pictures at once, with bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app.card import Score
from training.metrics import calibration, dominant, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from training.metrics.pictures import Floats

RESAMPLES = 2000
_NORMAL = 1.959964  # standard deviations that hold 95 % of a normal distribution
BIASED = frozenset({"calibration_error", "classwise_calibration_error"})
"""Sums of absolute gaps, which grow with the noise of every resample. Their interval is the basic bootstrap's
(Davison and Hinkley 1997, eq. 5.6), which takes that off again, where percentiles may leave the value out."""

_MEANS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "kl": pictures.kl_divergence,
    "chebyshev": pictures.chebyshev,
    "clark": pictures.clark,
    "canberra": pictures.canberra,
    "cosine": pictures.cosine,
    "intersection": pictures.intersection,
    "negative_log_likelihood": pictures.negative_log_likelihood,
    "brier": pictures.brier,
}


class _Sheet:
    """What figures are made of, computed once; pictures may then count any number of times."""

    def __init__(self, predicted: Floats, rated: Floats, common: NDArray[np.int64]) -> None:
        self.means = np.stack([figure(predicted, rated) for figure in _MEANS.values()], axis=1)
        self.clear = dominant.is_clear(rated)
        self.predicted, self.rated, self.common = predicted, rated, common
        self.top = calibration.of_dominant(predicted, rated)
        self.each = calibration.of_each_emotion(predicted, rated)

    def figures(self, weights: Floats) -> dict[str, float]:
        """Every figure where each picture counts so often ``[N]``; NaN where one cannot be measured."""
        counts = dominant.confusion(self.predicted, self.rated, weights)
        clear = dominant.confusion(self.predicted, self.rated, weights * self.clear)
        common = dominant.clear_and_common(self.predicted, self.rated, self.common, weights)
        means = weights @ self.means / weights.sum()
        return {
            "accuracy": dominant.accuracy_in(counts),
            "accuracy_when_clear": dominant.accuracy_in(clear),
            "accuracy_when_clear_and_common": dominant.accuracy_in(common),
            "balanced_accuracy": dominant.recall_in(counts),
            "balanced_accuracy_when_clear_and_common": dominant.recall_in(common),
            "macro_f1": dominant.f1_in(counts),
            **dict(zip(_MEANS, means.tolist(), strict=True)),
            "calibration_error": self.top.error(weights),
            "classwise_calibration_error": float(np.mean([each.error(weights) for each in self.each])),
        }

    def trials(self) -> dict[str, float]:
        """For each figure that is a share of right answers, of how many."""
        counts = dominant.confusion(self.predicted, self.rated)
        common = dominant.clear_and_common(self.predicted, self.rated, self.common)
        return {
            "accuracy": float(len(self.rated)),
            "accuracy_when_clear": float(self.clear.sum()),
            "accuracy_when_clear_and_common": float(common.sum()),
            "balanced_accuracy": dominant.trials_in(counts),
            "balanced_accuracy_when_clear_and_common": dominant.trials_in(common),
            "macro_f1": dominant.trials_in(counts),
        }


def measure(predicted: Floats, rated: Floats, *, common: NDArray[np.int64] | None = None) -> dict[str, float]:
    """Every figure by its name; NaN where these pictures do not allow one.

    Args:
        predicted: ``[N, K]``.
        rated: ``[N, K]``.
        common: emotions for the figures of pictures that are clear and common; those of these pictures by
            default, see `dominant.common_labels`.
    """
    common = dominant.common_labels(rated) if common is None else common
    return _Sheet(predicted, rated, common).figures(np.ones(len(rated)))


def measure_with_intervals(
    predicted: Floats,
    rated: Floats,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    common: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Score]:
    """`measure` with 95 % percentile bootstrap intervals; figures that cannot be measured are left out.

    A share of all or none, which no resample changes, has Wilson's interval. Calibration errors, which a
    resample only makes larger, have the basic bootstrap's, mirrored about the figure and no narrower than to
    hold it. Resamples without a rare emotion take their mean over fewer, so that the intervals of balanced
    accuracy and macro F1 reach too high where an emotion has few pictures.

    Args:
        predicted: ``[N, K]``, or ``[R, N, K]`` of R networks: then a figure is the mean of theirs.
        rated: ``[N, K]``.
        seed: of the resamples.
        resamples: their number.
        common: see `measure`.
        groups: ``[N]``; pictures with the same number are drawn together, because near duplicates and
            their ratings are not independent. Without them each picture is drawn alone.
    """
    common = dominant.common_labels(rated) if common is None else common
    sheets = [_Sheet(each, rated, common) for each in (predicted if predicted.ndim > 2 else [predicted])]  # noqa: PLR2004

    def figures(weights: Floats) -> dict[str, float]:
        found = [sheet.figures(weights) for sheet in sheets]
        return {name: float(np.mean([figure[name] for figure in found])) for name in found[0]}

    return _with_intervals(figures, len(rated), groups, seed, resamples, trials=sheets[0].trials())


def measure_changes(
    before: Floats,
    after: Floats,
    rated: Floats,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    common: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Score]:
    """By how much each figure of `measure` is greater after than before, on the same pictures.

    The intervals are those of the difference: each resample has both predictions of its pictures.

    Args:
        before: ``[N, K]``, predicted.
        after: ``[N, K]``, predicted otherwise.
        rated: ``[N, K]``.
        seed: see `measure_with_intervals`, as for the others.
        resamples: their number.
        common: see `measure`.
        groups: pictures that are drawn together.
    """
    common = dominant.common_labels(rated) if common is None else common
    old, new = _Sheet(before, rated, common), _Sheet(after, rated, common)

    def figures(weights: Floats) -> dict[str, float]:
        was = old.figures(weights)
        return {name: value - was[name] for name, value in new.figures(weights).items()}

    return _with_intervals(figures, len(rated), groups, seed, resamples)


def _with_intervals(
    figures: Callable[[Floats], dict[str, float]],
    count: int,
    groups: NDArray[np.int64] | None,
    seed: int,
    resamples: int,
    *,
    trials: Mapping[str, float] | None = None,
) -> dict[str, Score]:
    """Figures of how often each picture counts, with what they are where groups are drawn anew.

    Without the trials of shares the figures are differences, which have a sign.
    """
    _, group = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    members = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, members, members), minlength=members)
        for name, value in figures(times[group].astype(np.float64)).items():
            draws.setdefault(name, []).append(value)
    return {
        name: _score(value, draws[name])
        if trials is None
        else _score(value, draws[name], biased=name in BIASED, trials=trials.get(name, 0.0))
        for name, value in figures(np.ones(count)).items()
        if np.isfinite(value)
    }


def _score(value: float, draws: list[float], *, biased: bool = False, trials: float = 0.0) -> Score:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    if trials and low == high == value and value in {0.0, 1.0}:
        # Of pictures that are all right no resample has a wrong one, but others would (Wilson 1927).
        edge = trials / (trials + _NORMAL**2)
        return Score(value=value, low=value * edge, high=1 - (1 - value) * edge)
    if biased:
        low, high = max(0.0, 2 * value - high), max(value, 2 * value - low)
    return Score(value=value, low=float(low), high=float(high))
