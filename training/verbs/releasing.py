"""``export``, ``compile``, ``quantise``, ``halve`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from app import loading
from app.card import Split
from app.checkpoint import load_torchscript
from training.division import check_split
from training.evaluate import EvaluationError
from training.learned import tell_known
from training.lower_precision import halve
from training.metrics import gap_closed, reliability_by_emotion
from training.partition import Partition
from training.phases import terminal
from training.release import evaluation, release
from training.run import Run
from training.sources import SourceOptions
from training.verbs import options, reading
from training.verbs.printing import OUT, print_changes, print_confusion, print_scores, print_stand_in

if TYPE_CHECKING:
    import argparse

    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.release import Evaluation

_WHOSE_MEAN = (
    "the levels majority and mean are those of the scored pictures themselves, not of the pictures that the "
    "checkpoint has learned from"
)


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of these verbs."""
    verb = verbs.add_parser("export", parents=[pictures], help="make a checkpoint of a run and score it")
    verb.add_argument("--run", type=Path, required=True, help="folder of the run")
    verb.add_argument("--output", type=Path, required=True, help="the checkpoint, name.pt")
    scored = verb.add_mutually_exclusive_group()
    scored.add_argument(
        "--crossval", type=Path, help="folder of a cross-validation: its temperature and scores are taken"
    )
    scored.add_argument(
        "--stand-in",
        type=Path,
        metavar="CHECKPOINT",
        help="of a run with --with-test: one that has not learned from the test; its scores are taken",
    )
    verb.add_argument("--version", default="1", help="of the checkpoint")
    verb.add_argument("--note", default="", help="what else a reader of the scores should know, for the card")
    verb.add_argument("--compile", action="store_true", help="compile it, too")
    verb.set_defaults(verb=_export)

    verb = verbs.add_parser(
        "compile", help="make the graph beside a checkpoint that predicts faster on processors"
    )
    verb.add_argument("checkpoint", type=Path)
    verb.set_defaults(verb=_compile)

    verb = verbs.add_parser(
        "quantise",
        parents=[pictures],
        help="make the graph beside a checkpoint that predicts in 8-bit integers, and tell what they change",
    )
    verb.add_argument("checkpoint", type=Path)
    verb.add_argument(
        "--pictures", type=int, default=256, help="training pictures that tell how large the numbers get"
    )
    verb.set_defaults(verb=_quantise)

    verb = verbs.add_parser(
        "halve",
        parents=[pictures, options.device_option()],
        help="measure what a checkpoint's half precision changes, without which no GPU predicts in it",
    )
    verb.add_argument("checkpoint", type=Path)
    verb.set_defaults(verb=_halve)

    verb = verbs.add_parser(
        "evaluate",
        parents=[pictures, options.device_option()],
        help="score a checkpoint on the test pictures of its split",
    )
    verb.add_argument("checkpoint", type=Path)
    verb.add_argument(
        "--unseen",
        action="store_true",
        help="score every picture: you say that the checkpoint has not learned from any of them",
    )
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(verb=_evaluate)


def _export(chosen: argparse.Namespace) -> None:
    given = {name: getattr(chosen, name) for name in ("name", "terms", "citation")}
    usual = {"name": None, "terms": SourceOptions.terms, "citation": SourceOptions.citation}
    if late := [f"--{name}" for name, value in given.items() if value != usual[name]]:
        raise EvaluationError(f"give {', '.join(late)} to `fit`: the card says what its run was told")
    run = Run(chosen.run)
    rated, partition = reading.divided_as(Split(**run.complete_record()["split"]), chosen)
    card = release(
        run,
        rated,
        partition,
        chosen.output,
        version=chosen.version,
        command=reading.command(chosen),
        note=chosen.note,
        crossval=chosen.crossval,
        stand_in=chosen.stand_in,
    )
    print_scores(card.scores, card.references)
    print_stand_in(card)
    if chosen.compile:
        _compile_file(chosen.output)


def _compile(chosen: argparse.Namespace) -> None:
    _compile_file(chosen.checkpoint)


def _compile_file(path: Path) -> None:
    from training.compile import compile_checkpoint  # noqa: PLC0415 - the other verbs need not wait for it

    written = compile_checkpoint(load_torchscript(path, torch.device("cpu")), path)
    OUT.print(f"{written}: {written.stat().st_size:,} bytes", highlight=False)


def _quantise(chosen: argparse.Namespace) -> None:
    from training.quantise import quantise  # noqa: PLC0415 - the other verbs need not wait for it

    checkpoint = load_torchscript(chosen.checkpoint, torch.device("cpu"))
    rated, partition = _divided_as_recorded(checkpoint, chosen)
    found = quantise(checkpoint, chosen.checkpoint, rated, partition, pictures=chosen.pictures)
    print_changes(found, "8-bit integers")


def _halve(chosen: argparse.Namespace) -> None:
    checkpoint = load_torchscript(chosen.checkpoint, chosen.device)
    rated, partition = _divided_as_recorded(checkpoint, chosen)
    print_changes(halve(checkpoint, chosen.checkpoint, rated, partition), "half precision")


def _divided_as_recorded(
    checkpoint: Checkpoint, chosen: argparse.Namespace
) -> tuple[AffectiveSet, Partition]:
    recorded = checkpoint.card.split
    rated, partition = reading.divided_as(recorded, chosen)
    check_split(recorded, rated, partition)
    return rated, partition


def _evaluate(chosen: argparse.Namespace) -> None:
    checkpoint = loading.load(chosen.checkpoint, torch.device(chosen.device))
    if chosen.unseen:
        rated = reading.with_labels(chosen, checkpoint.card.labels)
        everything = np.arange(len(rated))
        partition = Partition(train=everything, validation=everything[:0], test=everything)
        tell_known(rated, chosen.checkpoint)
        terminal().print(_WHOSE_MEAN)
    else:
        rated, partition = _divided_as_recorded(checkpoint, chosen)
    found = evaluation(checkpoint, rated, partition)
    if chosen.json:
        OUT.print_json(json.dumps(_as_json(found, rated.labels)))
    else:
        print_scores(found.scores, found.references)
        print_confusion(found.plots.confusion)


def _as_json(found: Evaluation, labels: tuple[str, ...]) -> dict[str, Any]:
    by_emotion = reliability_by_emotion(found.predicted, found.rated, labels)
    way = gap_closed(found.scores, found.references)
    return {
        "scores": {name: figure.model_dump() for name, figure in found.scores.items()},
        "references": found.references,
        "gap_closed": {name: figure.model_dump() for name, figure in way.items()},
        **found.plots.model_dump(),
        "reliability_by_emotion": {
            label: [each.model_dump() for each in bins] for label, bins in by_emotion.items()
        },
    }
