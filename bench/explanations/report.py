"""The measurements as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.explanations.bars import Bar, faithfulness_bars, interval, soundness_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DREAMS = ("dream", "dream-thorough")
_FIGURES = {
    "log_odds": "insertion less deletion, log-odds",
    "share": "insertion less deletion, probability",
    "insertion": "insertion, log-odds",
    "deletion": "deletion, log-odds (lower is better)",
    "road": "ROAD, log-odds",
}


def report(records: Sequence[dict[str, Any]], heading: str) -> str:
    """Tables of every method's figures, and of every bar."""
    methods = list(records[0]["methods"])
    lines = [heading, "", f"{len(records)} pictures; figures are means with 95 % bootstrap intervals.", ""]
    lines += _faithfulness_table(records, methods)
    for ours in (name for name in DREAMS if name in methods):
        lines += ["", f"### Bars for `{ours}`", ""]
        for figure in ("log_odds", "share", "road"):
            if not (column := _column(records, methods, figure)):
                continue
            lines += _bars(_FIGURES[figure], faithfulness_bars(ours, column))
        sound = [record["soundness"][ours] for record in records if ours in record["soundness"]]
        if sound:
            figures = {name: np.array([each[name] for each in sound]) for name in sound[0]}
            lines += _bars(f"soundness, {len(sound)} pictures", soundness_bars(figures))
            lines += ["", _completeness(figures)]
    return "\n".join(lines) + "\n"


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
        f"| method | {' | '.join(_FIGURES.values())} | seconds |",
        "|---|" + "---|" * (len(_FIGURES) + 1),
    ]
    columns = {figure: _column(records, methods, figure) for figure in _FIGURES}
    for method in methods:
        cells = []
        for figure in _FIGURES:
            values = columns[figure].get(method)
            cells.append("" if values is None else "{:.3f} ({:.3f} to {:.3f})".format(*interval(values)))
        seconds = np.median([record["methods"][method]["seconds"] for record in records])
        lines.append(f"| {method} | {' | '.join(cells)} | {seconds:.2f} |")
    return lines


def _bars(title: str, bars: Sequence[Bar]) -> list[str]:
    if not bars:
        return []
    rows = [f"| {bar.asked} | {bar.found} | {'pass' if bar.passed else '**fail**'} |" for bar in bars]
    return ["", f"| {title} | found | |", "|---|---|---|", *rows]


def _column(
    records: Sequence[dict[str, Any]], methods: Sequence[str], figure: str
) -> dict[str, NDArray[np.float64]]:
    """``[N]`` by method; pictures without this figure are left out for all."""
    having = [record for record in records if figure in record["methods"][methods[0]]]
    if not having:
        return {}
    return {name: np.array([record["methods"][name][figure] for record in having]) for name in methods}
