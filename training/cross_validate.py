"""Repeated stratified group k-fold: every picture is scored by networks that have not learned from it.

``run.json``             what was asked for
``repeat-1/fold-1/``     a run each, see `training.run`, and ``outputs.npz``, what it says of its fold
``out_of_fold.npz``      what the networks of each repeat say of every picture
``scores.json``          temperature, thresholds, figures and their spread over folds
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.card import Abstain, CardPlots, CrossValidation, Score, Split, Spread
from app.offline.files import replacing
from training import card as cards
from training import export
from training.abstain import thresholds
from training.calibrate import fit_temperature
from training.evaluate import (
    EvaluationError,
    Outputs,
    fingerprints,
    identity,
    outputs_of,
    ratings,
)
from training.fit import check_start, digests, fit
from training.metrics import common_labels, measure, measure_with_intervals, reference_levels
from training.novelty import with_novelty
from training.out_of_fold import OutOfFold, cross_fitted, keep
from training.partition import VALIDATION_SHARE, Partition, cross_validation
from training.run import Run, RunError
from training.written import save_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.fit import FitSettings
    from training.metrics import Floats

_RETRAINED = frozenset({"seed"})
"""Settings that a cross-validation says nothing about: another seed is another run of the same recipe."""


@dataclass(frozen=True)
class Plan:
    """How often the pictures are divided, into how many folds."""

    folds: int = 5
    repeats: int = 1
    validation_share: float = VALIDATION_SHARE


class CrossValidated(BaseModel):
    """What a finished cross-validation found."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...]
    split: Split
    settings: dict[str, Any]
    digests: dict[str, str] = {}  # of the files that it started from; older ones have none written down
    ratings: str | None = None  # likewise
    seen: dict[str, int] = {}  # pictures that those files had learned from
    validation_share: float = VALIDATION_SHARE  # where nothing is written, it was this
    commands: tuple[str, ...]
    temperature: float
    abstain: Abstain
    scores: dict[str, Score]
    references: dict[str, dict[str, float]]
    plots: CardPlots
    cross_validation: CrossValidation

    def check(self, record: Mapping[str, Any], rated: AffectiveSet) -> None:
        """Make sure that a run was made of the pictures, ratings and emotions of this cross-validation.

        Args:
            record: what the run wrote down.
            rated: its pictures.

        Raises:
            EvaluationError: it was not.
        """
        if tuple(record["labels"]) != self.labels:
            raise EvaluationError(
                f"the cross-validation was of {', '.join(self.labels)}; the run is of "
                f"{', '.join(record['labels'])}"
            )
        if self.split.fingerprint not in {None, *fingerprints(rated, np.arange(len(rated)))}:
            raise EvaluationError("the cross-validation was of other pictures than the run")
        if self.ratings not in {None, ratings(rated)}:
            raise EvaluationError("the cross-validation was of other ratings of these pictures than the run")

    def for_card(self, record: Mapping[str, Any]) -> dict[str, object]:
        """The card's fields for a run, with the settings in which it differs from the folds."""
        found = json.loads(json.dumps(record["settings"]))
        keys = (found.keys() | self.settings.keys()) - _RETRAINED
        differs = {key for key in keys if found.get(key) != self.settings.get(key)}
        then, now = self.digests, record.get("digests", {})
        differs |= {
            key  # of a file that was made anew under its old name
            for key in ("weights", "teacher")
            if (path := found.get(key)) in then.keys() & now.keys() and then[path] != now[path]
        }
        if Split(**record["split"]).validation_share != self.validation_share:
            differs.add("validation_share")  # which chooses the epoch
        how = self.cross_validation.model_copy(update={"differs": tuple(sorted(differs))})
        return {
            "temperature": self.temperature,
            "abstain": self.abstain,
            "scores": self.scores,
            "references": self.references,
            "plots": self.plots,
            "cross_validation": how,
        }


def cross_validate(
    rated: AffectiveSet,
    settings: FitSettings,
    plan: Plan,
    folder: Path,
    *,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    notes: dict[str, object],
    seen_test: bool = False,
) -> CrossValidated:
    """Train a network for each fold of each repeat and score what all of them say of their folds.

    Args:
        rated: the pictures.
        settings: of every fold's run.
        plan: the folds.
        folder: where everything is kept.
        device: to train on.
        workers: processes that decode.
        resume: go on where `folder` stands; folds that are finished are not trained again.
        notes: ``split``, of all pictures, and ``command``.
        seen_test: go on though the start weights or the teacher have learned from some of the pictures.

    Raises:
        AugmentationError, FitError, InceptionError, WeightsError: the settings are refused, see
            `training.fit.fit`.
        DataError: there are too few pictures or groups for so many folds, or some were learned from before.
        RunError: the folder holds something else.
    """
    repeats = cross_validation(
        rated,
        folds=plan.folds,
        repeats=plan.repeats,
        seed=settings.seed,
        validation_share=plan.validation_share,
    )
    count, none = len(rated), np.arange(0)
    everything = Partition(none, none, np.arange(count))
    record = {
        "settings": asdict(settings),
        "labels": rated.labels,
        "digests": digests(settings),
        "plan": asdict(plan),
        "pictures": identity(rated),
        "ratings": ratings(rated),
        "seen": check_start(rated, everything, settings, seen_test=seen_test),
        **notes,
    }
    Run(folder).begin(record, resume=resume)
    found = OutOfFold(
        np.full((plan.repeats, count, len(rated.labels)), np.nan),
        np.full((plan.repeats, count), np.nan),
        np.zeros((plan.repeats, count), np.int64),
    )
    for repeat, partitions in enumerate(repeats):
        for fold, partition in enumerate(partitions):
            run = Run(folder / f"repeat-{repeat + 1}" / f"fold-{fold + 1}")
            outputs = _fold(rated, partition, settings, run, device=device, workers=workers, notes=notes)
            found.logits[repeat, partition.test] = outputs.logits
            found.novelty[repeat, partition.test] = outputs.novelty
            found.fold[repeat, partition.test] = fold
    keep(rated, found, folder)
    scored = judge(rated, found, plan, Run(folder).record(), seed=settings.seed)
    with replacing(folder / "scores.json") as unfinished:
        unfinished.write_text(scored.model_dump_json(indent=2) + "\n", "utf-8")
    return scored


def _fold(
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    run: Run,
    *,
    device: torch.device,
    workers: int,
    notes: dict[str, object],
) -> Outputs:
    """What the network of one fold says of the pictures that it has not learned from."""
    path = run.folder / "outputs.npz"
    if path.exists():
        kept = np.load(path, allow_pickle=False)
        if not np.array_equal(kept["indices"], partition.test):
            raise RunError(f"{path} is of another fold")
        return Outputs(kept["logits"], kept["novelty"])
    network = fit(
        rated,
        partition,
        settings,
        run,
        device=device,
        workers=workers,
        resume=True,
        notes=notes,
        seen_test=True,  # of all folds it has been asked before
    )
    judging = with_novelty(
        network, rated, partition.train, side=settings.side, seed=settings.seed, device=device
    )
    card = cards.fill(run.record(), name="fold", version="0", split=_split(notes), command="")
    outputs = outputs_of(export.as_served(judging, card, device), rated, partition.test)
    assert outputs.novelty is not None  # noqa: S101 - it has just been given
    save_arrays(path, indices=partition.test, logits=outputs.logits, novelty=outputs.novelty)
    run.last.unlink()  # nothing is left to resume, and it is three times the size of the network
    return outputs


def _split(notes: Mapping[str, object]) -> Split:
    return Split.model_validate(notes["split"])


def judge(
    rated: AffectiveSet, found: OutOfFold, plan: Plan, record: Mapping[str, Any], *, seed: int
) -> CrossValidated:
    """The figures of out-of-fold predictions, the mean of the repeats', and what is fitted to them.

    The temperature that is kept is fitted on all out-of-fold logits; figures are of `cross_fitted`
    predictions, so that none is calibrated on the picture that it is scored on.
    """
    predicted, truth, common = cross_fitted(rated, found), rated.agreement, common_labels(rated.agreement)
    pooled = np.tile(truth, (plan.repeats, 1))
    return CrossValidated(
        labels=rated.labels,
        split=_split(record),
        settings=record["settings"],
        digests=record["digests"],
        ratings=record.get("ratings"),
        seen=record.get("seen", {}),
        validation_share=plan.validation_share,
        commands=(record["command"],),
        temperature=fit_temperature(found.logits.reshape(pooled.shape), pooled),
        abstain=thresholds(predicted.reshape(pooled.shape), found.novelty.ravel()),
        scores=measure_with_intervals(predicted, truth, seed=seed, common=common, groups=rated.groups),
        references=reference_levels(truth, truth, rated.raters, seed=seed, common=common, votes=rated.votes),
        plots=cards.plots_of(predicted, truth, rated.labels),
        cross_validation=CrossValidation(
            folds=plan.folds,
            repeats=plan.repeats,
            pictures=len(rated),
            seed=seed,
            spread=_spread(predicted, truth, found.fold, common),
        ),
    )


def _spread(
    predicted: Floats, rated: Floats, fold: NDArray[np.int64], common: NDArray[np.int64]
) -> dict[str, Spread]:
    figures = [
        measure(each[places == number], rated[places == number], common=common)
        for each, places in zip(predicted, fold, strict=True)
        for number in np.unique(places)
    ]
    values = {name: np.array([figure[name] for figure in figures]) for name in figures[0]}
    return {
        name: Spread(mean=float(value.mean()), sd=float(value.std(ddof=1)))
        for name, value in values.items()
        if np.isfinite(value).all()
    }


def load(folder: Path) -> CrossValidated:
    """Read back what a finished cross-validation found.

    Raises:
        RunError: it is not finished, or there is none.
    """
    path = folder / "scores.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no finished cross-validation")
    return CrossValidated.model_validate_json(path.read_text("utf-8"))
