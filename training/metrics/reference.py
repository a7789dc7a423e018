"""What there is to compare a figure with: predictors without eyes, and the noise of the ratings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import digamma

from app.card import Score
from training.metrics.dominant import common_labels
from training.metrics.summary import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from training.metrics.pictures import Floats

DRAWS = 20
"""Of true distributions, whose mean is the raters' level: one alone would add its own noise."""
_NO_WAY = frozenset({"calibration_error", "classwise_calibration_error", "clark", "canberra"})
"""The uniform distribution is not the worst in these, nor the truth the best: Clark's and Canberra's count a
share of 0 that is predicted as 0.001 like one that is predicted as 1."""
_SMALLEST_GAP = 1e-6
_STEPS = 1000
_CLOSE = 1e-4
_BOUNDS = (1e-3, 1e3)
"""Of a concentration: raters who never, or always, agree would drive it to 0, or to infinity."""


def reference_levels(
    trained_on: Floats,
    rated: Floats,
    raters: Floats | None,
    *,
    seed: int,
    common: NDArray[np.int64] | None = None,
    votes: Floats | None = None,
) -> dict[str, dict[str, float]]:
    """What predictors without eyes reach on the same pictures, and what the raters themselves would.

    ``chance`` is the uniform distribution, ``majority`` always the most common dominant emotion of the
    training pictures, ``mean`` their mean distribution. ``raters`` scores each picture's true distribution
    against the votes that the picture had: the noise floor, which in KL, likelihood and Brier score no
    predictor passes but by luck. The true distributions are not known, and the rated shares are more extreme
    than they are; so they are drawn from what the votes leave open (the posterior of the Dirichlet
    distribution that explains all pictures' votes best). New votes would not do in place of those that there
    were: where these chose the picture, as for its agreement, new ones would agree less. One vote a picture
    leaves everything open, and then there is no such level.

    Args:
        trained_on: agreement levels of the training pictures, ``[M, K]``.
        rated: agreement levels of the scored pictures, ``[N, K]``.
        raters: votes per scored picture, ``[N]``; without it the floor is left out.
        seed: of the drawn distributions.
        common: see `training.metrics.summary.measure`.
        votes: ``[P, K]`` of all pictures that the scored ones were chosen from by their votes. Those of the
            scored pictures by default; where pictures were so chosen, that makes the raters' level too good.
    """
    count, labels = rated.shape
    common = common_labels(rated) if common is None else common
    majority = np.bincount(trained_on.argmax(axis=1), minlength=labels).argmax()
    constant: dict[str, Callable[[], Floats]] = {
        "chance": lambda: np.full(labels, 1 / labels),
        "majority": lambda: np.eye(labels)[majority],
        "mean": lambda: trained_on.mean(axis=0),
    }
    levels = {
        name: measure(np.tile(make(), (count, 1)), rated, common=common) for name, make in constant.items()
    }
    _guess(levels["chance"], rated, len(common))
    if raters is not None and np.rint(raters).max() > 1:
        levels["raters"] = _noise(rated, raters, votes, common, np.random.default_rng(seed))
    return {
        name: {key: value for key, value in level.items() if np.isfinite(value)}
        for name, level in levels.items()
    }


def _guess(level: dict[str, float], rated: Floats, common: int) -> None:
    """A predictor that has no favourite is right as often as a die, and not confident in anything."""
    labels = rated.shape[1]
    level["accuracy"] = level["balanced_accuracy"] = 1 / labels
    if np.isfinite(level["accuracy_when_clear"]):
        level["accuracy_when_clear"] = 1 / labels
    for name in ("accuracy_when_clear_and_common", "balanced_accuracy_when_clear_and_common"):
        level[name] = 1 / common if common else float("nan")
    # A die finds a Kth of every emotion, and what it calls one is it as often as any picture is.
    share, found = np.bincount(rated.argmax(axis=1), minlength=labels) / len(rated), 1 / labels
    level["macro_f1"] = float((2 * share * found / (share + found)).mean())
    level.pop("calibration_error")


def votes_of(rated: Floats, raters: Floats) -> Floats:
    """How many whole votes each emotion of each picture had, ``[N, K]``; one a picture at least."""
    return np.asarray(rated * np.maximum(np.rint(raters), 1)[:, None])


def _noise(
    rated: Floats,
    raters: Floats,
    votes: Floats | None,
    common: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, float]:
    own = votes_of(rated, raters)
    weights = concentration(own if votes is None else votes) + own
    drawn = []
    for _ in range(DRAWS):
        gammas = rng.standard_gamma(weights)
        drawn.append(measure(gammas / gammas.sum(axis=1, keepdims=True), rated, common=common))
    return {name: float(np.mean([figures[name] for figures in drawn])) for name in drawn[0]}


def concentration(votes: Floats) -> Floats:
    """Of the Dirichlet distribution ``[K]`` of pictures that makes their votes ``[N, K]`` likeliest.

    Source: Minka, Estimating a Dirichlet distribution (2000), the fixed point of the Polya distribution.
    """
    alpha = np.ones(votes.shape[1])
    totals = votes.sum(axis=1)
    for _ in range(_STEPS):
        total = alpha.sum()
        gain = (digamma(votes + alpha) - digamma(alpha)).sum(axis=0)
        loss = (digamma(totals + total) - digamma(total)).sum()
        new: Floats = np.clip(alpha * gain / loss, *_BOUNDS)
        if np.allclose(new, alpha, rtol=_CLOSE):
            return new
        alpha = new
    return alpha


def gap_closed(
    scores: Mapping[str, Score], references: Mapping[str, Mapping[str, float]]
) -> dict[str, Score]:
    """The share of the way from the uniform distribution to the raters' level that each figure has come.

    0 is chance, 1 is as good as the ratings can tell; below 0 is worse than chance. The interval is that of
    the figure. Figures without both levels, and those of calibration, are left out.
    """
    chance, floor = references.get("chance", {}), references.get("raters", {})
    ways = {}
    for name in scores.keys() & chance.keys() & floor.keys() - _NO_WAY:
        start, way = chance[name], floor[name] - chance[name]
        if abs(way) > _SMALLEST_GAP:
            reached = (scores[name].value, scores[name].low, scores[name].high)
            value, *ends = ((figure - start) / way for figure in reached)
            ways[name] = Score(value=value, low=min(ends), high=max(ends))
    return {name: ways[name] for name in scores if name in ways}
