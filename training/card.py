"""The checkpoint's card: filled from a run, and written out for people in Markdown."""

from __future__ import annotations

import datetime as dt
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
import torchvision

from app.card import Card, CardPlots, Confusion, DataSource, Split, StandIn
from training.metrics import confusion, gap_closed, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.metrics import Floats

LIMITS = (
    "The distribution says how a group of raters would be expected to answer, not what one person feels. "
    "It must not be used to diagnose, select, profile or manipulate people, nor to read the emotions of the "
    "people in a picture. It carries the taste and culture of its raters, and of the sites that the pictures "
    "come from."
)
_ORDER = (
    "accuracy", "accuracy_when_clear", "accuracy_when_clear_and_common", "balanced_accuracy",
    "balanced_accuracy_when_clear_and_common", "macro_f1", "kl", "chebyshev", "clark", "canberra", "cosine",
    "intersection", "negative_log_likelihood", "brier", "calibration_error", "classwise_calibration_error",
)  # fmt: skip
_MEANING = {
    "accuracy": "dominant emotion right",
    "accuracy_when_clear": "the same, where more than half of the raters agreed",
    "accuracy_when_clear_and_common": "the same, among the emotions that dominate 40 such pictures or more",
    "balanced_accuracy": "mean over emotions of the share found",
    "balanced_accuracy_when_clear_and_common": "the same, on clear pictures of those common emotions",
    "macro_f1": "mean over emotions of F1, of precision and recall",
    "kl": "KL(rated ‖ predicted), nats, lower is better",
    "chebyshev": "largest difference of a share, lower is better",
    "clark": "Clark distance over the root of the number of emotions, lower is better",
    "canberra": "Canberra distance over the number of emotions, lower is better",
    "cosine": "cosine similarity",
    "intersection": "shared mass",
    "negative_log_likelihood": "of a rater's choice, nats, lower is better",
    "brier": "squared distance from a rater's choice, 0 to 2, lower is better",
    "calibration_error": "share predicted for the dominant emotion against the raters' own, lower is better",
    "classwise_calibration_error": "the same for every emotion, lower is better",
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


def plots_of(predicted: Floats, rated: Floats, labels: tuple[str, ...]) -> CardPlots:
    """What is drawn of predictions ``[N, K]``, or ``[R, N, K]`` of R repeats, beside the rated shares."""
    repeats = predicted if predicted.ndim > 2 else predicted[None]  # noqa: PLR2004 - one repeat
    counts = np.mean([confusion(each, rated) for each in repeats], axis=0)
    return CardPlots(
        confusion=Confusion(labels=labels, counts=tuple(map(tuple, counts.tolist()))),
        reliability=reliability(np.concatenate(repeats), np.tile(rated, (len(repeats), 1))),
    )


def _cell(text: str) -> str:
    """Somebody's words in a row of a table, which neither a bar nor a new line ends."""
    return " ".join(text.split()).replace("|", "\\|")


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
        *_abstains(card),
        *_valence(card),
        f"- Start weights: {card.start_weights}",
        f"- sha256: `{sha256}`",
        "",
        "## Data and its terms",
        "",
        "| set | pictures trained on | terms | source |",
        "|---|---|---|---|",
        *(f"| {_cell(d.name)} | {d.pictures} | {_cell(d.terms)} | {_cell(d.citation)} |" for d in card.data),
        "",
        "## Scores",
        "",
        how_scored(card),
        "",
        *_score_lines(card),
        "",
        *([card.note, ""] if card.note else []),
        *(f"- **{name}**: {text}" for name, text in _REFERENCES.items() if name in card.references),
        *([f"- **of the way**: {_OF_THE_WAY}"] if gap_closed(card.scores, card.references) else []),
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
    "On {split.test} pictures that training kept apart (80/20 split, seed {split.seed}, near duplicates kept "
    "together), with 95 % bootstrap intervals. "
)
_CHOSEN = (
    "The temperature, and the epoch or how closely the last layer fits, were chosen on {split.validation} "
    "other pictures."
)
_NOTHING_CHOSEN = (
    "The temperature stayed at 1 and the last epoch was taken, as no pictures were kept to choose by."
)
_HOW_CROSS_VALIDATED = (
    "These are not measurements of this file, which was trained on {trained}. They are those of "
    "{cv.networks} networks ({cv.folds} folds, repeats: {cv.repeats}, seed {cv.seed}), each trained in the "
    "same way on the pictures of all folds but one and scored on those of the fold left out, near duplicates "
    "kept together, until each of the {cv.pictures} pictures was scored in each repeat. A figure is the mean "
    "of the repeats', with a 95 % bootstrap interval over pictures. The temperature was fitted on "
    "predictions for pictures left out; for these scores, on those of the other folds alone."
)
_STOOD_IN = (
    "These are not measurements of this file, which has learned from the pictures for the test, too: from "
    "{split.train} of this set, where {other.release} (sha256 `{other.sha256}`) learned from {other.train}. "
    "They are "
    "those of {other.release}, on the {other.test} pictures that its training kept apart (80/20 split, seed "
    "{split.seed}, near duplicates kept together), with 95 % bootstrap intervals. On {split.validation} "
    "pictures that neither has learned from, but by which the temperature and the epoch, or how closely the "
    "last layer fits, were chosen, this file's figures differ from those of {other.release} by: {changes}."
)
_TOLD = ("kl", "cosine", "accuracy", "negative_log_likelihood")
"""What is told of the changes from a checkpoint that stands in; the card itself has them all."""
_DIFFERS = " This file was trained with other settings than the folds in: {differs}."
_OF_THE_WAY = (
    "the share of the way from chance to the raters' level; 100 % is as good as the ratings can tell"
)


def how_scored(card: Card) -> str:
    """How the scores were measured, in words."""
    if (other := card.stand_in) is not None:
        told = _STOOD_IN.format(split=card.split, other=other, changes=_changes(other))
        return told + _filters(card.split)
    if (cv := card.cross_validation) is None:
        chosen = _CHOSEN if card.split.validation else _NOTHING_CHOSEN
        return (_HOW_SCORED + chosen).format(split=card.split) + _filters(card.split)
    trained = (
        f"{card.split.train} of them" if card.split.test or card.split.validation else "all of these pictures"
    )
    differs = _DIFFERS.format(differs=", ".join(cv.differs)) if cv.differs else ""
    return _HOW_CROSS_VALIDATED.format(trained=trained, cv=cv) + differs + _filters(card.split)


def _changes(other: StandIn) -> str:
    found = [(name, other.changes[name]) for name in _TOLD if name in other.changes]
    return ", ".join(f"{name} {by.value:+.3f} ({by.low:+.3f} to {by.high:+.3f})" for name, by in found)


def _filters(split: Split) -> str:
    """What had been left out before the pictures were divided, which makes the task an easier one."""
    left_out = []
    if split.min_agreement is not None:
        left_out.append(f"those with an agreement below {split.min_agreement:g}")
    if split.top_classes is not None:
        left_out.append(f"those that another emotion than the {split.top_classes} most common dominates")
    return f" Of all pictures, {' and '.join(left_out)} had been left out." if left_out else ""


def _abstains(card: Card) -> list[str]:
    if (at := card.abstain) is None:
        return []
    above = f"an entropy of {at.entropy:.3f} nats or a novelty of {at.novelty:.3f}"
    return [f"- Not to be relied on above {above}; each was set to flag {at.share:.1%} of held-out pictures"]


def _valence(card: Card) -> list[str]:
    if card.valence is None:
        return []
    figures = ", ".join(f"{label} {value:.2f}" for label, value in card.valence.items())
    return [f"- Valence that goes with each emotion: {figures}; {card.valence_scale}"]


_REFERENCES = {
    "chance": "the uniform distribution",
    "majority": "always the most common dominant emotion of the training pictures",
    "mean": "always the mean distribution of the training pictures",
    "raters": "each picture's true distribution, as far as its votes tell it, scored against these votes: "
    "the noise of the ratings",
}


def score_table(card: Card) -> tuple[list[str], list[list[str]]]:
    """The heads, and a row for each figure: its name, value, interval, levels beside it, and meaning."""
    names = [name for name in _REFERENCES if name in card.references]
    way = gap_closed(card.scores, card.references)
    spread = {} if card.cross_validation is None else card.cross_validation.spread
    whose = "left out" if spread else "this checkpoint" if card.stand_in is None else card.stand_in.release
    heads = ["figure", whose, "95 % interval"]
    heads += [*(["SD over folds"] if spread else []), *names, *(["of the way"] if way else []), "meaning"]
    rows = []
    for figure in _ORDER:
        if figure in card.scores:
            score = card.scores[figure]
            levels = [card.references[name].get(figure) for name in names]
            rows.append(
                [
                    figure,
                    f"{score.value:.3f}",
                    f"{score.low:.3f} to {score.high:.3f}",
                    *([f"{spread[figure].sd:.3f}" if figure in spread else ""] if spread else []),
                    *("" if level is None else f"{level:.3f}" for level in levels),
                    *([f"{way[figure].value:.0%}" if figure in way else ""] if way else []),
                    _MEANING[figure],
                ]
            )
    return heads, rows


def _score_lines(card: Card) -> list[str]:
    heads, rows = score_table(card)
    return [
        f"| {' | '.join(heads[:2] + heads[3:])} |",
        f"|{'---|' * (len(heads) - 1)}",
        *(
            f"| {figure} | **{value}** ({interval}) | {' | '.join(rest)} |"
            for figure, value, interval, *rest in rows
        ),
    ]
