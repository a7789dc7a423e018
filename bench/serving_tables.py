"""The tables of `bench.serving`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bench.machine import MEBIBYTE
from bench.report import bullets, table
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.bare import Bare
    from bench.serving import Result, Results


def section(results: Results, facts: Sequence[str]) -> str:
    """All of it, in Markdown."""
    kinds = list(dict.fromkeys(kind for _, kind, _ in results.cells))
    threads, rounds = results.bare[0].threads, len(results.bare)
    notes = [
        *facts,
        f"Torch computes with {threads} threads everywhere; servers and load generator share the machine.",
        f"Figures are medians of {rounds} rounds, least and greatest in brackets; ratios are within a round.",
        *(_generator(results, kind) for kind in kinds),
    ]
    parts = ["## Serving, beside peers and the bare model", bullets(notes)]
    parts += ["### The bare model", _bare(results.bare)]
    for kind in kinds:
        parts += [f"### Pictures of {kind}", _throughput(results, kind), _latency(results, kind)]
    parts += ["### What one client waits beyond the bare decoder and model", _overhead(results, kinds)]
    return "\n\n".join(parts)


def _generator(results: Results, kind: str) -> str:
    cpu = [each.generator for (_, of, _), cell in results.cells.items() if of == kind for each in cell]
    return f"The generator took {Spread.of(1000 * each for each in cpu):.1f} ms for a request of {kind}."


def _bare(rounds: Sequence[Bare]) -> str:
    """Milliseconds; the spread is that of the rounds' medians."""
    medians: defaultdict[str, list[float]] = defaultdict(list)
    for each in rounds:
        for size, spread in each.picture.items():
            medians[f"model, a picture in a batch of {size}"].append(spread.median)
        for kind, spread in each.decode.items():
            medians[f"decoding {kind}"].append(spread.median)
        for kind, spread in each.predict.items():
            medians[f"decoding and model, {kind}"].append(spread.median)
        for side, spread in each.step.items():
            medians[f"gradient step of {side} x {side} pixels"].append(spread.median)
    rows = [(name, f"{Spread.of(values).scaled(1000):.1f}") for name, values in medians.items()]
    return table(("", "ms"), rows)


def _throughput(results: Results, kind: str) -> str:
    rows = []
    for (name, of_kind, clients), each in results.cells.items():
        if of_kind != kind:
            continue
        pairs = list(zip(each, results.bare, strict=True))
        model = Spread.of(100 * result.summary.goodput * _best(bare) for result, bare in pairs)
        whole = Spread.of(100 * result.summary.goodput * bare.predict[kind].median for result, bare in pairs)
        rows.append(
            (
                f"{name}, {clients}",
                f"{Spread.of(result.summary.goodput for result in each):.2f}",
                f"{model:.0f} %",
                f"{whole:.0f} %",
                f"{Spread.of(1000 * result.cpu for result in each):.0f}",
                f"{Spread.of(result.memory / MEBIBYTE for result in each):.0f}",
                str(sum(_not_answered(result) for result in each)),
            )
        )
    head = ("server, clients", "pictures/s", "of bare model", "of bare decoder + model")
    return table((*head, "processor ms/picture", "memory, MiB", "not answered 200"), rows)


def _latency(results: Results, kind: str) -> str:
    rows = []
    for (name, of_kind, clients), each in results.cells.items():
        known = [result.summary.accepted for result in each if result.summary.accepted]
        if of_kind != kind or not known:
            continue
        figures = (
            Spread.of(1000 * latency for latency in latencies)
            for latencies in zip(*((some.p50, some.p90, some.p99) for some in known), strict=True)
        )
        answers = sum(some.count for some in known)
        rows.append((f"{name}, {clients}", *(f"{figure:.0f}" for figure in figures), str(answers)))
    return table(("server, clients", "p50, ms", "p90, ms", "p99, ms", "answers"), rows)


def _overhead(results: Results, kinds: Sequence[str]) -> str:
    """Paired within a round."""
    rows = []
    for name in dict.fromkeys(name for name, _, _ in results.cells):
        cells = [name]
        for kind in kinds:
            pairs = zip(results.cells[name, kind, 1], results.bare, strict=True)
            extra = [
                1000 * (result.summary.accepted.p50 - bare.predict[kind].median)
                for result, bare in pairs
                if result.summary.accepted
            ]
            cells.append(f"{Spread.of(extra):.1f}" if extra else "no answer")
        rows.append(cells)
    return table(("", *(f"{kind}, ms" for kind in kinds)), rows)


def _best(bare: Bare) -> float:
    """Seconds for a picture at the batch size that serves most of them."""
    return bare.picture[bare.best_batch].median


def _not_answered(result: Result) -> int:
    """Requests that got another answer, or none."""
    others = sum(count for status, count in result.summary.statuses.items() if status != 200)  # noqa: PLR2004
    return others + sum(result.summary.errors.values())
