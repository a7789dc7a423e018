"""The measurements as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench import machine
from bench.explanations.bars import Bar, faithfulness_bars, interval, soundness_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DREAMS = ("dream", "dream-raw", "dream-thorough")
_FIGURES = {
    "log_odds": "insertion less deletion, log-odds",
    "share": "insertion less deletion, probability",
    "insertion": "insertion, log-odds",
    "deletion": "deletion, log-odds (lower is better)",
    "road": "ROAD, log-odds",
}


def report(records: Sequence[dict[str, Any]], checkpoint: str, points: int) -> str:
    """The section of ``RESULTS.md``: tables of every method's figures, and of every bar.

    Args:
        records: of one checkpoint, measured at as many points and in the order of one seed.
        checkpoint: its name and version.
        points: at which each curve was looked at.
    """
    methods = list(dict.fromkeys(name for record in records for name in record["methods"]))
    lines = [
        "## Explanations",
        "",
        _circumstances(len(records), checkpoint, points),
        "",
        *_faithfulness_table(records, methods),
    ]
    for ours in (name for name in DREAMS if name in methods):
        lines += ["", f"### Bars for `{ours}`"]
        for figure in ("log_odds", "share", "road"):
            column = _paired(records, ours, figure)
            if ours in column:
                count = len(column[ours])
                lines += _bars(f"{_FIGURES[figure]}, {count} pictures", faithfulness_bars(ours, column))
        sound = [record["soundness"][ours] for record in records if ours in record["soundness"]]
        if sound:
            figures = {name: np.array([each[name] for each in sound]) for name in sound[0]}
            lines += _bars(f"soundness, {len(sound)} pictures", soundness_bars(figures))
            lines += ["", _completeness(figures)]
    return "\n".join(lines) + "\n"


def _circumstances(pictures: int, checkpoint: str, points: int) -> str:
    return (
        f"Written by `python -m bench.explain --report LOG`; checkpoint {checkpoint}, {pictures} pictures "
        f"that it never learned from, the first in an order that a seed decides. Figures are means with 95 % "
        f"bootstrap intervals; areas are by {points} points a curve. The seconds were taken beside other "
        f"work on the machine ({machine.describe()}): compare them with each other only."
    )


def _completeness(figures: dict[str, NDArray[np.float64]]) -> str:
    before, late = interval(figures["trapezoid_error"], "median"), interval(figures["trapezoid_error"], "p95")
    weights = interval(figures["imbalance"], "median"), interval(figures["imbalance"], "p95")
    return (
        f"The completeness error is that after the two sides were balanced. Before, its median was "
        f"{before[0]:.3f} and its 95th percentile {late[0]:.3f}; the balance changed the weight of each side "
        f"by {weights[0][0]:.2%} (median), {weights[1][0]:.2%} (95th percentile)."
    )


def _faithfulness_table(records: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    lines = [
        f"| method | pictures | {' | '.join(_FIGURES.values())} | seconds |",
        "|---|" + "---|" * (len(_FIGURES) + 2),
    ]
    for method in methods:
        having = [record["methods"][method] for record in records if method in record["methods"]]
        cells = []
        for figure in _FIGURES:
            values = np.array([each[figure] for each in having if figure in each])
            fewer = "" if values.size == len(having) else f", {values.size} pictures"
            told = "{:.3f} ({:.3f} to {:.3f}){}"
            cells.append(told.format(*interval(values), fewer) if values.size else "")
        seconds = np.median([each["seconds"] for each in having])
        lines.append(f"| {method} | {len(having)} | {' | '.join(cells)} | {seconds:.2f} |")
    return lines


def _bars(title: str, bars: Sequence[Bar]) -> list[str]:
    if not bars:
        return []
    rows = [f"| {bar.asked} | {bar.found} | {'pass' if bar.passed else '**fail**'} |" for bar in bars]
    return ["", f"| {title} | found | |", "|---|---|---|", *rows]


def _paired(records: Sequence[dict[str, Any]], ours: str, figure: str) -> dict[str, NDArray[np.float64]]:
    """``[N]`` by method, over the pictures where our method has this figure; what is not there for all of
    them is no rival.
    """
    having = [record["methods"] for record in records if figure in record["methods"].get(ours, {})]
    names = [] if not having else list(having[0])
    return {
        name: np.array([methods[name][figure] for methods in having])
        for name in names
        if all(figure in methods.get(name, {}) for methods in having)
    }
