from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.card import Confusion, ReliabilityBin
from training import plots

LABELS = ("awe", "fear", "joy")
LOG = [
    {"phase": "head", "epoch": "0", "train_loss": "1.0", "validation_loss": "1.2", "seconds": "1"},
    {"phase": "all", "epoch": "1", "train_loss": "0.8", "validation_loss": "1.1", "seconds": "1"},
]
BINS = (
    ReliabilityBin(low=0.2, high=0.3, confidence=0.25, rated=0.3, count=4),
    ReliabilityBin(low=0.5, high=0.6, confidence=0.55, rated=0.4, count=1),
)


def test_curves_are_those_of_the_log() -> None:
    axes = plots.learning_curves({"": LOG}, chance=1.1).axes[0]
    train, validation, chance = axes.lines
    assert np.column_stack(train.get_data()).tolist() == [[0, 1.0], [1, 0.8]]
    assert np.column_stack(validation.get_data()).tolist() == [[0, 1.2], [1, 1.1]]
    assert np.unique(chance.get_ydata()).tolist() == [1.1]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation", "chance"]


def test_the_curves_of_many_runs_share_one_legend() -> None:
    axes = plots.learning_curves({"fold-1": LOG, "fold-2": LOG}, chance=1.1).axes[0]
    assert len(axes.lines) == 5
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 3


def test_confusion_writes_every_number_where_it_belongs() -> None:
    found = Confusion(labels=LABELS, counts=((5, 1, 0), (2, 8, 0), (0, 0.5, 4)))
    axes = plots.confusion(found).axes[0]
    written = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert written[0, 1] == "1"
    assert written[1, 0] == "2"
    assert written[2, 1] == "0.5"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(LABELS)
    filled = axes.images[0].get_array()
    assert filled is not None
    assert filled[1, 0] == pytest.approx(0.2), "of the pictures rated fear, one in five"


def test_a_row_without_pictures_is_empty() -> None:
    plots.confusion(Confusion(labels=LABELS, counts=((0, 0, 0), (0, 1, 0), (0, 0, 1))))


def test_reliability_is_drawn_against_its_diagonal() -> None:
    axes = plots.reliability(BINS).axes[0]
    diagonal, shares = axes.lines
    assert np.column_stack(diagonal.get_data()).tolist() == [[0, 0], [1, 1]]
    assert np.column_stack(shares.get_data()).tolist() == [[0.25, 0.3], [0.55, 0.4]]
    sizes = axes.collections[0].get_sizes()  # type: ignore[attr-defined]  # of a scatter
    assert sizes[0] > sizes[1]


def test_every_emotion_has_its_own_reliability() -> None:
    figure = plots.reliability_by_emotion({"awe": BINS, "fear": BINS[:1], "joy": (), "anger": BINS})
    assert [axes.get_title() for axes in figure.axes] == ["awe", "fear", "joy", "anger"]


def test_frequencies_are_the_lengths_of_bars() -> None:
    axes = plots.frequencies({"awe": 12, "fear": 3}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [12, 3]  # type: ignore[attr-defined]


def test_an_example_has_its_picture_and_both_distributions() -> None:
    predicted, rated = np.array([0.2, 0.5, 0.3]), np.array([0.0, 1.0, 0.0])
    image = Image.new("RGB", (8, 4), "red")
    shown = [plots.Example(image, "joy/1.jpg", predicted, rated)] * 4
    figure = plots.examples(shown, LABELS)
    assert len(figure.axes) == 8
    picture, bars = figure.axes[:2]
    assert picture.get_title(loc="left") == "joy/1.jpg"
    drawn = picture.images[0].get_array()
    assert drawn is not None
    assert drawn.shape == (4, 8, 3)
    assert [bar.get_width() for bar in bars.patches] == [*predicted, *rated]  # type: ignore[attr-defined]


def test_a_name_with_dollars_is_no_formula() -> None:
    flat = np.array([0.5, 0.5])
    shown = [plots.Example(Image.new("RGB", (8, 4)), "a$x_$b.jpg", flat, flat)]
    figure = plots.examples(shown, ("$1_$2", "joy"))
    figure.savefig(io.BytesIO())
    plots.reliability_by_emotion({"$1_$2": []}).savefig(io.BytesIO())
    plots.frequencies({"$1_$2": 3}).savefig(io.BytesIO())
    table = Confusion(labels=("$1_$2", "joy"), counts=((1, 0), (0, 1)))
    plots.confusion(table).savefig(io.BytesIO())


def test_the_same_drawing_is_the_same_file() -> None:
    first, second = (plots.png(plots.frequencies({"awe": 12, "fear": 3})) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).format == "PNG"
