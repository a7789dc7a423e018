"""From a finished run to a released checkpoint, scored by the file that is shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from app import checkpoint as checkpoints
from app.checkpoint import Split
from training import card as cards
from training import export
from training.calibrate import fit_temperature
from training.evaluate import EvaluationError, check_labels, fingerprint, logits_of, probabilities
from training.inception import EmotionInception
from training.metrics import measure_with_intervals, reference_levels
from training.run import restore

if TYPE_CHECKING:
    from app.checkpoint import Card, Checkpoint, Score
    from training.affective_set import AffectiveSet, Partition
    from training.run import Run

Scores = dict[str, "Score"]
References = dict[str, dict[str, float]]


def describe_split(
    rated: AffectiveSet,
    partition: Partition,
    *,
    seed: int,
    min_agreement: float | None,
    top_classes: int | None,
) -> Split:
    """What the card must know to divide the same pictures in the same way."""
    return Split(
        train=len(partition.train),
        validation=len(partition.validation),
        test=len(partition.test),
        seed=seed,
        min_agreement=min_agreement,
        top_classes=top_classes,
        test_fingerprint=fingerprint(rated, partition.test),
    )


def check_split(recorded: Split, rated: AffectiveSet, partition: Partition) -> None:
    """Make sure that no picture that was trained on is scored.

    Raises:
        EvaluationError: these pictures do not divide into the parts that were recorded.
    """
    if fingerprint(rated, partition.test) != recorded.test_fingerprint:
        raise EvaluationError(
            f"the test pictures found here ({len(partition.test)}) are not those that training kept apart "
            f"({recorded.test}): scoring them would count pictures that were learned"
        )


def score(checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition) -> tuple[Scores, References]:
    """Every figure of the card on the test pictures, and the levels to compare them with."""
    logits = logits_of(checkpoint, rated, partition.test)
    predicted = probabilities(logits, checkpoint.card.temperature)
    truth = rated.agreement[partition.test]
    raters = None if rated.raters is None else rated.raters[partition.test]
    seed = checkpoint.card.split.seed
    known = rated.agreement[partition.train]
    return (
        measure_with_intervals(predicted, truth, seed=seed),
        reference_levels(known, truth, raters, seed=seed),
    )


def release(
    run: Run,
    rated: AffectiveSet,
    partition: Partition,
    output: Path,
    *,
    version: str,
    command: str,
    note: str = "",
) -> Card:
    """Export a run's best epoch with its card, in TorchScript and in Markdown.

    The temperature is fitted on the validation pictures; the scores are those of an exported file on the
    test pictures. `output` is written once, when its card is complete.

    Raises:
        EvaluationError: the pictures are not those of the run.
        RunError: the folder holds no run.
    """
    record = run.record()
    split = Split(**record["split"])
    check_labels(record["labels"], rated)
    check_split(split, rated, partition)
    network = EmotionInception(
        len(rated.labels),
        mean=record["mean"],
        std=record["std"],
        count_border=record["count_border"],
        reads=record["settings"]["reads"],
    )
    restore(run.best, network, None)
    made_by = [*record["earlier_commands"], record["command"], command]
    card = cards.fill(
        record, name=output.stem, version=version, split=split, command="\n".join(made_by), note=note
    )
    exported = _as_served(network, card)
    logits = logits_of(exported, rated, partition.validation)
    temperature = fit_temperature(logits, rated.agreement[partition.validation])
    card = card.model_copy(update={"temperature": temperature})
    scores, references = score(replace(exported, card=card), rated, partition)
    card = card.model_copy(update={"scores": scores, "references": references})
    digest = export.write(network, card, output)
    output.with_suffix(".md").write_text(cards.to_markdown(card, digest), "utf-8")
    return card


def _as_served(network: EmotionInception, card: Card) -> Checkpoint:
    """The checkpoint as the service would load it: what is measured is a file, not the network."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        export.write(network, card, path)
        return checkpoints.load(path, torch.device("cpu"))
