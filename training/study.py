"""The seed study, redone: does training all layers help, and which pictures and targets make it easy?

Every combination of what is asked for is trained on four fifths of the pictures that it keeps, and scored on
the rest, as the study did; but each figure has its interval and the levels of predictors without eyes.

``features.npz``      what the frozen blocks say of every picture, once
``all-…/``            a run each, see `training.run`
``study.csv``         the table
``study.md``          the table, for people; of both, `study.unfinished.…` is what a study has found so far
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from training import pretrained
from training.affective_set import DataError
from training.calibrate import fit_temperature
from training.diagnosis import causes, least_accuracy
from training.division import describe_split
from training.evaluate import identity, probabilities
from training.fit import check_start, fit, last_layer, with_target
from training.fit_settings import FitError
from training.head import extract, fit_head
from training.inception import build
from training.learned import note_of
from training.metrics import measure_with_intervals, reference_levels
from training.partition import Partition, split
from training.pictures import RatedPictures, batches
from training.run import Run
from training.study_table import Row, to_csv, to_markdown
from training.written import save_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from app.card import Score
    from training.affective_set import AffectiveSet
    from training.fit_settings import FitSettings
    from training.inception import EmotionInception
    from training.metrics import Floats
    from training.study_table import Condition

_NO_BETTER = 1.1  # times chance, in balanced accuracy: as of a network that always says the same


class StudyError(FitError):
    """The last layer alone learned nothing; the message says which of the usual causes it is."""


def study(
    whole: AffectiveSet,
    settings: FitSettings,
    asked: Sequence[Condition],
    folder: Path,
    *,
    device: torch.device,
    workers: int = 0,
    command: str,
    seen_test: bool = False,
    report: Callable[[Row], None],
) -> list[Row]:
    """Train and score every condition, and write the table.

    Args:
        whole: all pictures.
        settings: of every run; the condition's target takes the place of theirs.
        asked: conditions.
        folder: where runs and tables are kept; what is finished there is not done again.
        device: to train on.
        workers: processes that decode.
        command: that asked for the study, for the cards of its runs.
        seen_test: go on though the start weights or the teacher have learned from some of the pictures.
        report: told of each row as soon as it is there.

    Raises:
        AugmentationError, InceptionError, WeightsError: the settings are refused, see `training.fit.fit`.
        DataError: some of the pictures, each of which may be scored, were learned from before.
        StudyError: the last layer alone, on all that the study is given, learned nothing.
    """
    none, everything = np.arange(0), np.arange(len(whole))
    partition = Partition(none, none, everything)
    seen = check_start(whole, partition, settings, seen_test=seen_test, other_labels=True)
    folder.mkdir(parents=True, exist_ok=True)
    start = pretrained.load(settings.weights)
    frozen = build(len(whole.labels), start, reads=settings.reads).to(device)
    features = _features(frozen, whole, settings, folder, device=device, workers=workers)
    _gate(frozen, whole, features, settings)
    rows = []
    for condition in asked:
        rows.append(
            _row(
                condition, whole, features, settings, folder, device=device, workers=workers, command=command
            )
        )
        report(rows[-1])
        _write(rows, whole, settings, note_of(seen), folder, finished=len(rows) == len(asked))
    return rows


def _write(
    rows: Sequence[Row],
    whole: AffectiveSet,
    settings: FitSettings,
    note: str,
    folder: Path,
    *,
    finished: bool,
) -> None:
    """The table, which takes the place of an earlier one when it is finished and not before."""
    tables = {"csv": to_csv(rows), "md": _told(to_markdown(rows, whole, settings), note)}
    for ending, table in tables.items():
        unfinished, path = folder / f"study.unfinished.{ending}", folder / f"study.{ending}"
        unfinished.write_text(table, "utf-8")
        if finished:
            unfinished.replace(path)


def _told(table: str, note: str) -> str:
    """A table and, if there is one, a paragraph of its own."""
    return f"{table}\n{note}\n" if note else table


def _features(
    network: EmotionInception,
    whole: AffectiveSet,
    settings: FitSettings,
    folder: Path,
    *,
    device: torch.device,
    workers: int,
) -> Tensor:
    """Pooled features ``[N, F]`` of every picture, kept for the next time."""
    path, everything = folder / "features.npz", np.arange(len(whole))
    key = repr((identity(whole), pretrained.digest(settings.weights), settings.side, settings.reads))
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return torch.from_numpy(kept["features"])
    pictures = RatedPictures(whole, everything, side=settings.side)
    features, _ = extract(network, batches(pictures, batch=settings.batch, workers=workers), device)
    save_arrays(path, key=key, features=features.numpy())
    return features


def _gate(network: EmotionInception, whole: AffectiveSet, features: Tensor, settings: FitSettings) -> None:
    """Stop before hours are spent on a set that nothing can be learned from."""
    partition = split(whole, seed=settings.seed)
    training, held_out = (_part(whole, features, part) for part in (partition.train, partition.validation))
    fit_head(network.cpu(), training, held_out)
    scores = _scores(_logits(network, features), whole, partition, seed=settings.seed)
    accuracy, balanced = scores["accuracy"].value, scores["balanced_accuracy"].value
    if not (lacking := _lacking(accuracy, balanced, len(whole.labels))):
        return
    found = causes(network, whole, partition, training, held_out, side=settings.side)
    because = "; ".join(found) or (
        "none of the usual causes was found: the labels tell a little, but less than that. Collect more "
        "pictures, or take those on which raters disagree out of the table"
    )
    raise StudyError(
        f"the last layer alone finds the dominant emotion of {accuracy:.1%} of the test pictures "
        f"({balanced:.1%} as a mean over emotions); {lacking}. {because}"
    )


def _lacking(accuracy: float, balanced: float, count: int) -> str:
    """Which of the two figures that a set of so many emotions must reach is too low; nothing if none is."""
    least, no_better = least_accuracy(count), _NO_BETTER / count
    missed = []
    if accuracy < least:
        missed.append(f"{least:.1%} is the least for {count} emotions")
    if balanced <= no_better:
        missed.append(
            f"a mean of {no_better:.1%} or less for {count} emotions is that of always answering the same"
        )
    return ", and ".join(missed)


def _row(
    condition: Condition,
    whole: AffectiveSet,
    features: Tensor,
    settings: FitSettings,
    folder: Path,
    *,
    device: torch.device,
    workers: int,
    command: str,
) -> Row:
    try:
        rated = condition.keep(whole)
        partition = split(rated, seed=settings.seed)
    except DataError as error:
        return Row(condition, refused=str(error))
    targets = with_target(rated, condition.target)
    if condition.layers == "head":
        places = {path: place for place, path in enumerate(whole.pictures)}
        own = features[[places[path] for path in rated.pictures]]
        start = pretrained.load(settings.weights)
        network = build(len(rated.labels), start, reads=settings.reads)
        training, held_out = (_part(targets, own, part) for part in (partition.train, partition.validation))
        earlier = last_layer(start, rated, network.reads)  # which a row of all layers begins with
        fit_head(network, training, held_out, earlier)
        logits = _logits(network, own)
    else:
        wanted = replace(settings, target=condition.target)
        run = Run(folder / condition.name)
        recorded = describe_split(
            rated,
            partition,
            seed=settings.seed,
            min_agreement=condition.threshold or None,
            top_classes=condition.classes,
        )
        notes: dict[str, object] = {"split": recorded.model_dump(), "command": command}
        try:
            network = fit(
                rated,
                partition,
                wanted,
                run,
                device=device,
                workers=workers,
                resume=True,
                notes=notes,
                seen_test=True,  # of all pictures it has been asked before
            )
        except FitError as error:  # one row that cannot be is no reason to end the others
            return Row(condition, refused=str(error))
        pictures = RatedPictures(rated, np.arange(len(rated)), side=settings.side)
        own, _ = extract(network, batches(pictures, batch=settings.batch, workers=workers), device)
        logits = _logits(network.cpu(), own)
    known = reference_levels(
        rated.agreement[partition.train], rated.agreement[partition.test], None, seed=settings.seed
    )
    return Row(
        condition,
        len(rated.labels),
        len(rated),
        len(partition.test),
        _scores(logits, rated, partition, seed=settings.seed),
        known["majority"]["accuracy"],
    )


def _part(rated: AffectiveSet, features: Tensor, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return features[indices], torch.from_numpy(rated.agreement[indices]).float()


@torch.no_grad()
def _logits(network: EmotionInception, features: Tensor) -> Floats:
    return np.asarray(network.head(features).double())


def _scores(logits: Floats, rated: AffectiveSet, partition: Partition, *, seed: int) -> dict[str, Score]:
    """On the test pictures, with the temperature that an export would have of the validation pictures."""
    held_out, test = partition.validation, partition.test
    temperature = fit_temperature(logits[held_out], rated.agreement[held_out])
    predicted = probabilities(logits[test], temperature)
    return measure_with_intervals(predicted, rated.agreement[test], seed=seed, groups=rated.groups[test])
