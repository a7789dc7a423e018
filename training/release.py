"""From a finished run to a released checkpoint, scored by the file that is shipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from app.card import Split
from app.offline.files import replacing
from training import card as cards
from training import cross_validate, export
from training.abstain import thresholds
from training.calibrate import fit_temperature
from training.division import check_split
from training.evaluate import (
    EvaluationError,
    check_labels,
    outputs_of,
    probabilities,
    ratings,
)
from training.inception import EmotionInception
from training.learned import LEARNED, note_of
from training.metrics import common_labels, measure_with_intervals, reference_levels
from training.novelty import with_novelty
from training.run import notes_of, restore
from training.stand_in import compared, standing_in
from training.valence import valence_by_emotion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from app.card import Card, CardPlots, Score
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.metrics import Floats
    from training.novelty import JudgingNetwork
    from training.partition import Partition
    from training.run import Run

Scores = dict[str, "Score"]
References = dict[str, dict[str, float]]

_UNSCORED = "this run was trained on every picture: name the cross-validation to score it"
_UNSCORED_WITH_TEST = (
    "this run has learned from the pictures for the test, too: name a checkpoint that has not, --stand-in"
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A checkpoint's figures on the test pictures, and what they are made of.

    Attributes:
        scores: every figure of the card.
        references: the levels to compare them with.
        plots: what is drawn of them.
        predicted: ``[N, K]``.
        rated: ``[N, K]``.
    """

    scores: Scores
    references: References
    plots: CardPlots
    predicted: Floats
    rated: Floats


def _check_learned(record: Mapping[str, Any], rated: AffectiveSet, partition: Partition) -> None:
    """Make sure that a run has learned from these training pictures and ratings, as its card will say.

    Raises:
        EvaluationError: it has learned from others.
    """
    count = record["data"][-1]["pictures"]
    if count != len(partition.train):
        raise EvaluationError(
            f"this run has not learned from these {len(partition.train)} pictures, but from {count}: it is a "
            "fold of a cross-validation, which has learned from some of them only"
        )
    if (now := ratings(rated)) != record.get("ratings", now):  # older runs have not written it down
        raise EvaluationError(
            "this run has not learned from these ratings: they have changed since. Train it anew, or give "
            "the ratings as they were"
        )


def evaluation(checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition) -> Evaluation:
    """Every figure of the card on the test pictures, and the levels to compare them with.

    Raises:
        EvaluationError: there are no test pictures.
    """
    if not len(partition.test):
        raise EvaluationError(_untested(checkpoint.card))
    test = partition.test
    outputs = outputs_of(checkpoint, rated, test)
    predicted = probabilities(outputs.logits, checkpoint.card.temperature)
    truth = rated.agreement[test]
    raters = None if rated.raters is None else rated.raters[test]
    seed, common = checkpoint.card.split.seed, common_labels(rated.agreement)
    known = rated.agreement[partition.train]
    return Evaluation(
        measure_with_intervals(predicted, truth, seed=seed, common=common, groups=rated.groups[test]),
        reference_levels(known, truth, raters, seed=seed, common=common, votes=rated.votes),
        cards.plots_of(predicted, truth, rated.labels),
        predicted,
        truth,
    )


def _untested(card: Card) -> str:
    """Why there are no test pictures, and what to do."""
    if (other := card.stand_in) is None:
        return (
            "training kept no picture apart to score; score a set that is new to the checkpoint with "
            "--unseen, or train with a test part"
        )
    return (
        "this checkpoint has learned from the pictures for the test, too; the scores on its card are "
        f"those of {other.release} (sha256 {other.sha256}): look at that one, or score a set that is new "
        "to both with --unseen"
    )


def score(checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition) -> tuple[Scores, References]:
    """The scores and references of `evaluation` alone."""
    found = evaluation(checkpoint, rated, partition)
    return found.scores, found.references


def release(
    run: Run,
    rated: AffectiveSet,
    partition: Partition,
    output: Path,
    *,
    version: str,
    command: str,
    note: str = "",
    crossval: Path | None = None,
    stand_in: Path | None = None,
) -> Card:
    """Export a run's best epoch with its card, in TorchScript and in Markdown.

    The temperature is fitted on the validation pictures; the scores are those of an exported file on the
    test pictures. With a cross-validation both are its own, and so are the thresholds for abstaining. A run
    that has learned from the test pictures shows the scores of `stand_in`, a checkpoint that has not.
    `output` is written once, when its card is complete.

    Raises:
        CheckpointError: `stand_in` is no checkpoint.
        EvaluationError: the pictures are not those of the run, of the cross-validation or of `stand_in`; or
            there are no test pictures, and nothing else to take the scores from; or the run was cut short,
            and the scores would be a cross-validation's.
        RunError: the folder holds no run, or that of the cross-validation no finished one.
    """
    record = run.complete_record()
    cut = _cut_short(run, record, crossval)
    split = Split(**record["split"])
    check_labels(record["labels"], rated)
    check_split(split, rated, partition)
    _check_learned(record, rated, partition)
    validated = None if crossval is None else cross_validate.load(crossval)
    if validated is not None:
        validated.check(record, rated)
    elif stand_in is None and not split.test:
        raise EvaluationError(_UNSCORED_WITH_TEST if split.with_test else _UNSCORED)
    other = None if stand_in is None else _substitute(stand_in, output, split, rated, record)
    seen = record.get("seen", {}) if validated is None else validated.seen
    # After another checkpoint's remarks, which may speak of "this version", one's own need a name.
    own = f"Of {output.stem}@{version} itself: {note}" if note and other and other.card.note else note
    made_by = [*record["earlier_commands"], record["command"], *(validated.commands if validated else ())]
    card = cards.fill(
        record,
        name=output.stem,
        version=version,
        split=split,
        command="\n".join([*made_by, command]),
        note=" ".join(filter(None, (cut, note_of(seen), _note_of(other), own))),
    )
    valence = valence_by_emotion(rated, partition.train)
    scale = None if valence is None else rated.valence_scale
    card = card.model_copy(update={"valence": valence, "valence_scale": scale})
    network = _judging(run, record, rated, partition)
    if validated is None:
        card = _measured(network, card, rated, partition, other)
    else:
        card = card.model_copy(update=validated.for_card(record))
    digest = export.write(network, card, output, notes_of(run.best).get(LEARNED, ""))
    with replacing(output.with_suffix(".md")) as unfinished:
        unfinished.write_text(cards.to_markdown(card, digest), "utf-8")
    return card


def _substitute(
    path: Path, output: Path, split: Split, rated: AffectiveSet, record: Mapping[str, Any]
) -> Checkpoint:
    """`standing_in`, unless the run has seen what the two are compared on, or would replace it."""
    if path.resolve() == output.resolve():
        raise EvaluationError(f"{output} would replace the checkpoint whose scores it shows: keep both")
    if record.get("seen", {}).get("validation", 0):
        raise EvaluationError(
            "the start weights or a teacher of this run have learned from validation pictures, on which it "
            "would be compared with the checkpoint that stands in"
        )
    return standing_in(path, split, rated)


def _cut_short(run: Run, record: Mapping[str, Any], crossval: Path | None) -> str:
    """What a card says of a run that has not done all of its epochs.

    Raises:
        EvaluationError: the scores would be a cross-validation's, whose networks have done theirs.
    """
    asked, left = record["settings"]["epochs"], run.epochs_left()
    if left <= 0:
        return ""
    if crossval is not None:
        raise EvaluationError(
            f"the run in {run.folder} has done {asked - left} of its {asked} epochs; the scores of the "
            "cross-validation are those of networks that have done them all: go on with `fit --resume`"
        )
    return f"This run was ended after {asked - left} of its {asked} epochs."


def _note_of(other: Checkpoint | None) -> str:
    """What the card of the checkpoint that stands in says of its scores."""
    if other is None or not other.card.note:
        return ""
    return f"Of {other.card.release}, whose scores these are: {other.card.note}"


def _judging(run: Run, record: dict[str, Any], rated: AffectiveSet, partition: Partition) -> JudgingNetwork:
    """The run's best network, with what its training pictures tell about novelty."""
    settings = record["settings"]
    network = EmotionInception(
        len(rated.labels),
        mean=record["mean"],
        std=record["std"],
        count_border=record["count_border"],
        reads=settings["reads"],
    )
    restore(run.best, network, None)
    return with_novelty(
        network,
        rated,
        partition.train,
        side=settings["side"],
        seed=settings["seed"],
        device=torch.device("cpu"),
    )


def _measured(
    network: JudgingNetwork,
    card: Card,
    rated: AffectiveSet,
    partition: Partition,
    other: Checkpoint | None,
) -> Card:
    """The card with what the validation and the test pictures say of the file, or of `other` in its place.

    A run without validation pictures keeps the temperature at 1, and never abstains.
    """
    exported = export.as_served(network, card, torch.device("cpu"))
    if len(partition.validation):
        held_out = outputs_of(exported, rated, partition.validation)
        temperature = fit_temperature(held_out.logits, rated.agreement[partition.validation])
        calibrated = probabilities(held_out.logits, temperature)
        abstain = None if held_out.novelty is None else thresholds(calibrated, held_out.novelty)
        card = card.model_copy(update={"temperature": temperature, "abstain": abstain})
        if other is not None:
            scores = {name: getattr(other.card, name) for name in ("scores", "references", "plots")}
            differs = compared(other, calibrated, rated, partition)
            return card.model_copy(update={**scores, "stand_in": differs})
    found = evaluation(replace(exported, card=card), rated, partition)
    return card.model_copy(
        update={"scores": found.scores, "references": found.references, "plots": found.plots}
    )
