"""The bars that the maps must pass, each with a paired bootstrap over the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Figures = Mapping[str, NDArray[np.float64]]

_RESAMPLES = 10_000
_P = 0.01
_CLOSE = 0.95
CHANCE = ("random", "centre", "edges")
PEERS = (
    "integrated-gradients", "integrated-gradients-soft", "smoothgrad", "smoothgrad-soft", "occlusion",
)  # fmt: skip
CAMS = ("grad-cam", "grad-cam-7a", "grad-cam-6e")


@dataclass(frozen=True)
class Bar:
    """One bar: what is asked, what was found with its 95 % interval, and whether that is enough."""

    asked: str
    found: str
    passed: bool


def interval(
    values: NDArray[np.float64], statistic: str = "mean", seed: int = 0
) -> tuple[float, float, float]:
    """A statistic over pictures, and its 95 % bootstrap interval."""
    picked = values[_resamples(len(values), seed)]
    low, high = np.percentile(_of_each(picked, statistic), [2.5, 97.5])
    return float(_of_each(values[np.newaxis], statistic)[0]), float(low), float(high)


def _of_each(rows: NDArray[np.float64], statistic: str) -> NDArray[np.float64]:
    if statistic == "mean":
        return np.asarray(rows.mean(axis=1))
    return np.asarray(np.percentile(rows, {"median": 50, "p95": 95}[statistic], axis=1))


def faithfulness_bars(ours: str, figures: Figures) -> list[Bar]:
    """Against every other method that was measured."""
    mine = figures[ours]
    bars = []
    for rival in (name for name in (*CHANCE, *PEERS, *CAMS) if name in figures):
        gain = mine - figures[rival]
        drawn = gain[_resamples(len(gain))].mean(axis=1)
        p = float((drawn <= 0).mean())
        value, low, high = interval(gain)
        found = f"{value:+.3f} ({low:+.3f} to {high:+.3f}), p = {max(p, 1 / _RESAMPLES):.4f}"
        if rival in CHANCE:
            bars.append(Bar(f"better than {rival}, p < {_P}", found, p < _P))
        elif rival in PEERS:
            bars.append(Bar(f"at least {rival}", found, value >= 0))
        else:
            theirs = float(figures[rival].mean())
            least = theirs - (1 - _CLOSE) * abs(theirs)  # also where it is below 0
            bars.append(
                Bar(
                    f"at least {_CLOSE} of {rival}",
                    f"{mine.mean():.3f} beside {theirs:.3f}; {found}",
                    float(mine.mean()) >= least,
                )
            )
    return bars


def soundness_bars(figures: Figures) -> list[Bar]:
    """Of one method."""
    return [
        _bar(figures, "randomised", "rank correlation with a randomised network's map below 0.3", below=0.3),
        _bar(figures, "other_emotion", "rank correlation with another emotion's map below 0.7", below=0.7),
        _bar(figures, "jpeg", "rank correlation after JPEG at quality 85 at least 0.9", above=0.9),
        _bar(figures, "resized", "rank correlation after a resize to 90 % at least 0.9", above=0.9),
        _bar(figures, "again", "the same bytes again, in every picture", above=1.0),
        _bar(figures, "completeness_error", "completeness error, median at most 5 %", "median", below=0.05),
        _bar(
            figures,
            "completeness_error",
            "completeness error, 95th percentile at most 15 %",
            "p95",
            below=0.15,
        ),
    ]


def _bar(
    figures: Figures,
    name: str,
    asked: str,
    statistic: str = "mean",
    *,
    below: float = np.inf,
    above: float = -np.inf,
) -> Bar:
    value, low, high = interval(figures[name], statistic)
    return Bar(asked, f"{value:.3f} ({low:.3f} to {high:.3f})", above <= value <= below)


def _resamples(count: int, seed: int = 0) -> NDArray[np.int64]:
    """The same pictures for every figure: that is what makes the comparison paired."""
    return np.random.default_rng(seed).integers(0, count, (_RESAMPLES, count))
