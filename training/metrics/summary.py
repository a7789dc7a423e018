"""Every figure of a set of pictures at once, with bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app.card import Score
from training.metrics import calibration, dominant, pictures

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def trials(self, groups: NDArray[np.int64]) -> dict[str, float]:
        """For each figure that is a share of right answers, of how many groups ``[N]`` of pictures."""
        top = self.rated.argmax(axis=1)
        common = self.clear & np.isin(top, self.common)
        balanced = dominant.trials_in(top, groups)
        return {
            "accuracy": float(len(np.unique(groups))),
            "accuracy_when_clear": float(len(np.unique(groups[self.clear]))),
            "accuracy_when_clear_and_common": float(len(np.unique(groups[common]))),
            "balanced_accuracy": balanced,
            "balanced_accuracy_when_clear_and_common": dominant.trials_in(top[common], groups[common]),
            "macro_f1": balanced,
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

    A share of all or none, which no resample changes, has Wilson's interval, of as many trials as there are
    groups. Calibration errors, which a resample only makes larger, have the basic bootstrap's, mirrored about
    the figure and no narrower than to hold it. Resamples without a rare emotion take their mean over fewer,
    so that the intervals of balanced accuracy and macro F1 reach too high where an emotion has few pictures.

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

    return _with_intervals(figures, sheets[0], groups, seed, resamples)


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

    The intervals are those of the difference: each resample has both predictions of its pictures. A share of
    right answers that no resample changes may yet change on other pictures, either way: where it has not on
    n groups, it does on up to z² / (n + z²) of others, the end of Wilson's interval of 0 of n (Wilson 1927).

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

    return _with_intervals(figures, new, groups, seed, resamples, changes=True)


def _with_intervals(
    figures: Callable[[Floats], dict[str, float]],
    sheet: _Sheet,
    groups: NDArray[np.int64] | None,
    seed: int,
    resamples: int,
    *,
    changes: bool = False,
) -> dict[str, Score]:
    """Figures of how often each picture of a sheet counts, with what they are where groups are drawn anew.

    Changes are differences, which have a sign.
    """
    count = len(sheet.rated)
    _, group = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    members = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, members, members), minlength=members)
        for name, value in figures(times[group].astype(np.float64)).items():
            draws.setdefault(name, []).append(value)
    trials = sheet.trials(group)
    return {
        name: _change(value, draws[name], trials=trials.get(name, 0.0))
        if changes
        else _score(value, draws[name], biased=name in BIASED, trials=trials.get(name, 0.0))
        for name, value in figures(np.ones(count)).items()
        if np.isfinite(value)
    }


def _change(value: float, draws: list[float], *, trials: float) -> Score:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    if trials and not np.nan_to_num(draws).any():
        high = _NORMAL**2 / (trials + _NORMAL**2)
        low = -high
    return Score(value=value, low=float(low), high=float(high))


def _score(value: float, draws: list[float], *, biased: bool, trials: float) -> Score:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    if trials and low == high == value and value in {0.0, 1.0}:
        # Of pictures that are all right no resample has a wrong one, but others would (Wilson 1927).
        edge = trials / (trials + _NORMAL**2)
        return Score(value=value, low=value * edge, high=1 - (1 - value) * edge)
    if biased:
        low, high = max(0.0, 2 * value - high), max(value, 2 * value - low)
    return Score(value=value, low=float(low), high=float(high))
