"""Options that several verbs have."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import torch

from training.affective_set import VALIDATION_SHARE
from training.fit import FitSettings
from training.sources import SOURCES, SourceOptions
from training.tune import TuneSettings


def picture_options() -> argparse.ArgumentParser:
    """Which pictures, and how to read them."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("source", choices=sorted(SOURCES), help="kind of database")
    options.add_argument("path", type=Path, help="its folder; for cap_d, its table")
    options.add_argument("--name", help="of the pictures, for the card")
    options.add_argument("--terms", default=SourceOptions.terms, help="what the pictures' owners allow")
    options.add_argument("--citation", default=SourceOptions.citation, help="how to cite the pictures")
    options.add_argument(
        "--skip-missing", action="store_true", help="leave out missing or unreadable pictures"
    )
    table = options.add_argument_group("cap_d tables")
    table.add_argument("--unit", choices=("auto", "fraction", "percent", "count"), default="auto")
    table.add_argument("--picture-column", help="of file names; the first column by default")
    table.add_argument("--raters-column", help="number of raters; n, raters or n_raters by default")
    table.add_argument("--group-column", help="pictures that must not be split apart")
    table.add_argument("--ignore-column", action="append", default=[], help="no emotion; may be repeated")
    return options


def filter_options() -> argparse.ArgumentParser:
    """Which of them."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--min-agreement", type=float, help="of the dominant emotion, 0..1, e.g. 0.5")
    options.add_argument("--top-classes", type=int, help="keep the K most common dominant emotions")
    return options


def device_option() -> argparse.ArgumentParser:
    """Where to compute."""
    options = argparse.ArgumentParser(add_help=False)
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    options.add_argument("--device", type=_device, default=automatic, help=f"here {automatic} by default")
    return options


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is not cpu, cuda or cuda:N") from error


def add_validation_share(verb: argparse.ArgumentParser, default: float = VALIDATION_SHARE) -> None:
    """How many pictures choose the best epoch."""
    verb.add_argument(
        "--validation-share",
        type=float,
        default=default,
        help="of the pictures that are not for the test; with 0 the last epoch is the result "
        f"({default:g} by default)",
    )


def add_fit_settings(verb: argparse.ArgumentParser) -> None:
    """Every field of `FitSettings`, and the number of workers."""
    default = FitSettings()
    verb.add_argument("--target", choices=("distribution", "class"), default=default.target)
    verb.add_argument(
        "--weights", default=default.weights, help="torchvision, .safetensors, or a checkpoint (.pt)"
    )
    verb.add_argument(
        "--reads", type=_names, default=default.reads, help="blocks that the last layer reads, a,b"
    )
    verb.add_argument("--side", type=int, default=default.side, help="of the square input, pixels")
    verb.add_argument("--head-pictures", type=int, default=default.head_pictures, help="in phase one; 0: all")
    verb.add_argument("--epochs", type=int, default=default.epochs, help="of phase two")
    verb.add_argument("--rate", type=float, default=default.rate, help="of the last layer in phase two")
    verb.add_argument("--layer-decay", type=float, default=default.layer_decay, help="from block to block")
    verb.add_argument("--batch", type=int, default=default.batch)
    verb.add_argument("--frozen", default=default.frozen, help="the last block that does not learn")
    verb.add_argument("--weight-decay", type=float, default=default.weight_decay)
    verb.add_argument("--dropout", type=float, default=default.dropout)
    verb.add_argument("--augment", type=_names, default=default.augment, help="flip,crop,turn,light,colour")
    verb.add_argument("--teacher", default=default.teacher, help="a file that `teacher` made, to imitate")
    verb.add_argument("--teacher-weight", type=float, default=default.teacher_weight)
    verb.add_argument(
        "--teacher-share",
        type=float,
        default=default.teacher_share,
        help="of the target that is the opinion of a teacher that `tune` made; 0: none",
    )
    verb.add_argument("--mixup", type=float, default=default.mixup, help="strength of blending; 0: none")
    verb.add_argument(
        "--precision", choices=("float32", "bfloat16"), default=default.precision, help="of phase two"
    )
    verb.add_argument("--workers", type=int, default=0, help="processes that decode")
    verb.add_argument("--seed", type=int, default=default.seed)


def add_tune_settings(verb: argparse.ArgumentParser) -> None:
    """Every field of `TuneSettings`, and the number of workers."""
    default = TuneSettings()
    verb.add_argument("--epochs", type=int, default=default.epochs, help="passes over the larger set")
    verb.add_argument("--rate", type=float, default=default.rate, help="of the last stage")
    verb.add_argument("--layer-decay", type=float, default=default.layer_decay, help="from layer to layer")
    verb.add_argument("--frozen", type=int, default=default.frozen, help="stages that do not learn")
    verb.add_argument("--side", type=int, default=default.side, help="of the square input, pixels")
    verb.add_argument("--batch", type=int, default=default.batch)
    verb.add_argument("--weight-decay", type=float, default=default.weight_decay)
    verb.add_argument("--dropout", type=float, default=default.dropout)
    verb.add_argument("--augment", type=_names, default=default.augment, help="flip,crop,turn,light,colour")
    verb.add_argument("--mixup", type=float, default=default.mixup, help="strength of blending; 0: none")
    verb.add_argument("--smoothing", type=float, default=default.smoothing, help="share spread over all")
    verb.add_argument("--memory", type=float, default=default.memory, help="of the weights' moving average")
    verb.add_argument("--precision", choices=("float32", "bfloat16"), default=default.precision)
    verb.add_argument("--workers", type=int, default=0, help="processes that decode")
    verb.add_argument("--seed", type=int, default=default.seed)


def tune_settings(chosen: argparse.Namespace) -> TuneSettings:
    """What `add_tune_settings` asked for."""
    return TuneSettings(**{field.name: getattr(chosen, field.name) for field in fields(TuneSettings)})


def fit_settings(chosen: argparse.Namespace) -> FitSettings:
    """What `add_fit_settings` asked for."""
    return FitSettings(**{field.name: getattr(chosen, field.name) for field in fields(FitSettings)})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
