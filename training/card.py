"""The checkpoint's card: filled from a run, and written out for people in Markdown."""

from __future__ import annotations

import datetime as dt
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
import torchvision

from app.checkpoint import Card, DataSource, Split

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = (
    "The distribution says how a group of raters would be expected to answer, not what one person feels. "
    "It must not be used to diagnose, select, profile or manipulate people, nor to read the emotions of the "
    "people in a picture. It carries the taste and culture of its raters, and of the sites that the pictures "
    "come from."
)
_ORDER = (
    "accuracy", "accuracy_when_clear", "balanced_accuracy", "kl", "chebyshev", "cosine", "intersection",
    "calibration_error",
)  # fmt: skip
_MEANING = {
    "accuracy": "dominant emotion right",
    "accuracy_when_clear": "the same, where more than half of the raters agreed",
    "balanced_accuracy": "mean over emotions of the share found",
    "kl": "KL(rated ‖ predicted), nats, lower is better",
    "chebyshev": "largest difference of a share, lower is better",
    "cosine": "cosine similarity",
    "intersection": "shared mass",
    "calibration_error": "share predicted for the dominant emotion against the raters' own, lower is better",
}


def fill(
    record: Mapping[str, Any],
    *,
    name: str,
    version: str,
    split: Split,
    command: str,
    note: str = "",
) -> Card:
    """A card from what a run wrote down, with its temperature and scores still to be measured."""
    settings = record["settings"]
    return Card(
        name=name,
        version=version,
        created=dt.datetime.now(dt.UTC).date().isoformat(),
        description=f"Inception-V3 that predicts which of {len(record['labels'])} emotions a picture evokes",
        labels=tuple(record["labels"]),
        input_size=settings["side"],
        resize="stretch",
        temperature=1.0,
        target=settings["target"],
        data=tuple(DataSource(**source) for source in record["data"]),
        start_weights=record["start_weights"],
        split=split,
        scores={},
        references={},
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        seed=settings["seed"],
        command=command,
        note=note,
        limits=LIMITS,
    )


def to_markdown(card: Card, sha256: str) -> str:
    """The card for people."""
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"{card.description}. Made on {card.created}.",
        "",
        f"- Emotions: {', '.join(card.labels)}",
        f"- Target: {card.target}",
        f"- Input: {card.input_size} x {card.input_size} ({card.resize})",
        f"- Temperature: {card.temperature:.3f}",
        f"- Start weights: {card.start_weights}",
        f"- sha256: `{sha256}`",
        "",
        "## Data and its terms",
        "",
        "| set | pictures trained on | terms | source |",
        "|---|---|---|---|",
        *(f"| {d.name} | {d.pictures} | {d.terms} | {d.citation} |" for d in card.data),
        "",
        "## Scores",
        "",
        _HOW_SCORED.format(split=card.split),
        "",
        *_score_table(card),
        "",
        *([card.note, ""] if card.note else []),
        *(f"- **{name}**: {text}" for name, text in _REFERENCES.items() if name in card.references),
        "",
        "## How it was made",
        "",
        "```sh",
        card.command,
        "```",
        "",
        f"Versions: {', '.join(f'{name} {version}' for name, version in card.versions.items())}.",
        "",
        "## Limits",
        "",
        card.limits,
        "",
    ]
    return "\n".join(lines)


_HOW_SCORED = (
    "On {split.test} pictures that were neither trained on nor used for any choice (80/20 split, seed "
    "{split.seed}, near duplicates kept together), with 95 % bootstrap intervals. The temperature and the "
    "best epoch were chosen on {split.validation} other pictures."
)
_REFERENCES = {
    "chance": "the uniform distribution",
    "majority": "always the most common dominant emotion of the training pictures",
    "mean": "always the mean distribution of the training pictures",
    "raters": "each picture's true distribution, scored against as many votes drawn from it as it had: the "
    "noise of the ratings, which no predictor can pass",
}


def _score_table(card: Card) -> list[str]:
    names = [name for name in _REFERENCES if name in card.references]
    rows = [
        f"| figure | this checkpoint | {' | '.join(names)} | meaning |",
        f"|---|---|{'---|' * len(names)}---|",
    ]
    for figure in _ORDER:
        if figure in card.scores:
            score = card.scores[figure]
            levels = [card.references[name].get(figure) for name in names]
            cells = " | ".join("" if level is None else f"{level:.3f}" for level in levels)
            rows.append(
                f"| {figure} | **{score.value:.3f}** ({score.low:.3f} to {score.high:.3f}) | {cells} | "
                f"{_MEANING[figure]} |"
            )
    return rows
