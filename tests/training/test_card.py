from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from app.card import Card, DataSource, Score
from tests.tiny import tiny_card
from training.card import fill, to_markdown

RECORD: dict[str, Any] = {
    "settings": {"side": 224, "target": "class", "seed": 3},
    "labels": ["awe", "fear"],
    "start_weights": "random",
    "data": [
        {"name": "FI", "pictures": 20, "terms": "academic", "citation": "You"},
        {"name": "Emotion6", "pictures": 10, "terms": "research", "citation": "Peng"},
    ],
}


@pytest.fixture
def card() -> Card:
    split = tiny_card().split.model_copy(update={"test": 400, "validation": 200, "seed": 3})
    return fill(
        RECORD,
        name="two",
        version="1.2",
        split=split,
        command="python -m training fit\nand export",
        note="Mind the gap.",
    )


def test_a_card_is_filled_from_the_record_of_a_run(card: Card) -> None:
    assert (card.name, card.version, card.labels) == ("two", "1.2", ("awe", "fear"))
    assert (card.input_size, card.target, card.seed, card.start_weights) == (224, "class", 3, "random")
    assert [source.name for source in card.data] == ["FI", "Emotion6"]
    assert card.data[0] == DataSource(name="FI", pictures=20, terms="academic", citation="You")
    assert "2 emotions" in card.description
    assert dt.date.fromisoformat(card.created) <= dt.datetime.now(dt.UTC).date()
    assert card.versions.keys() == {"python", "torch", "torchvision", "pillow", "numpy"}
    assert "not be used to diagnose" in card.limits
    assert "Mind the gap." in to_markdown(card, "")
    assert "Mind the gap." not in to_markdown(card.model_copy(update={"note": ""}), "")
    assert (card.temperature, card.scores, card.references) == (1, {}, {}), "still to be measured"
    assert Card.model_validate_json(card.model_dump_json()) == card


def test_the_page_for_people_has_every_figure(card: Card) -> None:
    measured = card.model_copy(
        update={
            "temperature": 1.23456,
            "scores": {
                "kl": Score(value=0.5125, low=0.4, high=0.6254),
                "accuracy": Score(value=2 / 3, low=0.5, high=0.75),
            },
            "references": {
                "raters": {"accuracy": 0.9, "kl": 0.1},
                "chance": {"accuracy": 0.5},
            },
        }
    )
    text = to_markdown(measured, "f" * 64)
    narrow = card.split.model_copy(update={"min_agreement": 0.5, "top_classes": 2})
    told = to_markdown(card.model_copy(update={"split": narrow}), "")
    assert "below 0.5 and those that another emotion than the 2 most common dominates had been left" in told
    assert text.startswith("# two 1.2\n\n")
    for line in (
        "- Emotions: awe, fear",
        "- Target: class",
        "- Input: 224 x 224 (stretch)",
        "- Temperature: 1.235",
        "- Start weights: random",
        f"- sha256: `{'f' * 64}`",
        "| FI | 20 | academic | You |",
        "| Emotion6 | 10 | research | Peng |",
        "| figure | this checkpoint | chance | raters | of the way | meaning |",
        "|---|---|---|---|---|---|",
        "| accuracy | **0.667** (0.500 to 0.750) | 0.500 | 0.900 | 42% | dominant emotion right |",
        "| kl | **0.512** (0.400 to 0.625) |  | 0.100 |  | KL(rated ‖ predicted), nats, lower is better |",
        "- **chance**: the uniform distribution",
        "python -m training fit",
        "and export",
        card.limits,
    ):
        assert line in text.splitlines(), line
    assert "On 400 pictures that training kept apart" in text
    assert "seed 3," in text
    assert "had been left out" not in text
    assert "chosen on 200 other pictures" in text
    assert "majority" not in text, "what was not measured is not explained"
    assert text.index("| accuracy |") < text.index("| kl |")


def test_words_with_bars_and_lines_stay_in_their_cell(card: Card) -> None:
    card = card.model_copy(update={"data": (card.data[0].model_copy(update={"citation": "A | B\nC"}),)})
    (row,) = [line for line in to_markdown(card, "0" * 64).splitlines() if "A " in line and "| B" in line]
    assert row.endswith(r"| A \| B C |")
