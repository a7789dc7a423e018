"""Drawings of what training found: each is a figure of matplotlib's, and says nothing that is not measured.

Two colours stand for the same two things everywhere: what is predicted, and what the raters said. They can
be told apart without colour vision (Okabe and Ito 2008), and in grey by their lightness.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from PIL import Image

    from app.card import Confusion, ReliabilityBin
    from training.metrics import Floats

mpl.rcParams["text.parse_math"] = False  # names of files and emotions may have dollars, and are no formulas
PREDICTED, RATED = "#0072b2", "#e69f00"
_DOTS_PER_INCH = 110
_COLUMNS = 3
_DARK = 0.5  # on a cell filled more than this, black is hard to read


@dataclass(frozen=True, eq=False)
class Example:
    """One picture, and what is said of it.

    Attributes:
        image: to be shown, of any size.
        title: above it.
        predicted: ``[K]``.
        rated: ``[K]``.
    """

    image: Image.Image
    title: str
    predicted: Floats
    rated: Floats


def png(figure: Figure) -> bytes:
    """The figure as a file; without the date and the version that would make each drawing another."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return target.getvalue()


def learning_curves(logs: Mapping[str, Sequence[Mapping[str, str]]], chance: float) -> Figure:
    """Losses after every epoch, as ``log.csv`` has them.

    Args:
        logs: the lines of each run, by its name.
        chance: the loss of the uniform distribution.
    """
    figure, axes = _blank(7, 4)
    for number, rows in enumerate(logs.values()):
        for key, colour, style in (("train_loss", RATED, "--"), ("validation_loss", PREDICTED, "-")):
            axes.plot(
                [int(row["epoch"]) for row in rows],
                [float(row[key]) for row in rows],
                style,
                color=colour,
                marker=".",
                alpha=1 if len(logs) == 1 else 0.5,
                label=None if number else key.partition("_")[0],
            )
    axes.axhline(chance, color="grey", linewidth=1, linestyle=":", label="chance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch (0: the last layer alone)", ylabel="cross-entropy, nats")
    axes.legend()
    return figure


def frequencies(counts: Mapping[str, int]) -> Figure:
    """How many pictures each emotion dominates."""
    figure, axes = _blank(7, 0.38 * len(counts) + 1)
    labels = [*counts]
    bars = axes.barh(labels, [counts[label] for label in labels], color=RATED)
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="pictures whose raters chose it most often")
    axes.margins(x=0.1)
    return figure


def confusion(found: Confusion) -> Figure:
    """A row for each rated emotion, filled by the share of its pictures, with their number written in."""
    counts = np.array(found.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 0.75 * len(found.labels) + 1.8
    figure, axes = _blank(size, size)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > _DARK else "black"
        axes.text(column, row, f"{count:.4g}", ha="center", va="center", color=colour)
    places = range(len(found.labels))
    axes.set_xticks(places, found.labels, rotation=45, ha="right")
    axes.set_yticks(places, found.labels)
    axes.set(xlabel="predicted most", ylabel="rated most")
    axes.spines[:].set_visible(True)
    return figure


def reliability(bins: Sequence[ReliabilityBin]) -> Figure:
    """What the raters said where so much was predicted; on the diagonal, predictions mean what they say."""
    figure, axes = _blank(5, 5)
    _reliability(axes, bins)
    axes.set(
        xlabel="share predicted for the emotion predicted most",
        ylabel="share of the raters who chose it",
    )
    return figure


def reliability_by_emotion(bins: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    """The same for every emotion, whether it is predicted most or not."""
    rows = -(-len(bins) // _COLUMNS)
    figure = Figure(figsize=(9, 3 * rows), layout="constrained")
    for place, (label, each) in enumerate(bins.items(), start=1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        _reliability(axes, each)
        axes.set_title(label)
    figure.supxlabel("share predicted")
    figure.supylabel("share of the raters who chose it")
    return figure


def examples(shown: Sequence[Example], labels: Sequence[str]) -> Figure:
    """Pictures, each with the predicted bars beside the raters' bars."""
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(11, (0.6 + 0.27 * len(labels)) * rows + 0.5), layout="constrained")
    grid = figure.add_gridspec(rows, 2 * _COLUMNS, width_ratios=[1, 1.25] * _COLUMNS)
    for place, example in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        picture = figure.add_subplot(grid[row, 2 * column])
        picture.imshow(np.asarray(example.image))
        picture.set_axis_off()
        picture.set_title(example.title, fontsize=8, loc="left")
        bars = _bars(figure.add_subplot(grid[row, 2 * column + 1]), example, labels)
        if place == 0:  # beside the pictures, where it hides no bar
            figure.legend(handles=bars, loc="outside upper right", ncols=2, fontsize=8)
    return figure


def _bars(axes: Axes, example: Example, labels: Sequence[str]) -> list[BarContainer]:
    places = np.arange(len(labels))
    bars = [
        axes.barh(places - 0.2, example.predicted, 0.4, color=PREDICTED, label="predicted"),
        axes.barh(places + 0.2, example.rated, 0.4, color=RATED, label="raters"),
    ]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return bars


def _reliability(axes: Axes, bins: Sequence[ReliabilityBin]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    largest = max((each.count for each in bins), default=1)
    axes.plot([each.confidence for each in bins], [each.rated for each in bins], color=PREDICTED, linewidth=1)
    axes.scatter(
        [each.confidence for each in bins],
        [each.rated for each in bins],
        s=[10 + 90 * each.count / largest for each in bins],
        color=PREDICTED,
        clip_on=False,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)


def _blank(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
