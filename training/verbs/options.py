"""Options that several verbs have."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from training.fit import FitSettings
from training.partition import VALIDATION_SHARE
from training.sources import SOURCES, SourceOptions
from training.tune import TuneSettings

if TYPE_CHECKING:
    from collections.abc import Callable

_NEARLY = 0.05
"""How far a share may be from what is met, as a share of it."""


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
        device = torch.device(name)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is not cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise argparse.ArgumentTypeError(f"{name!r} is not cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"there is no {name} here; torch {torch.__version__} sees {torch.cuda.device_count()} GPUs"
        )
    return device


def add_validation_share(
    verb: argparse.ArgumentParser,
    default: float = VALIDATION_SHARE,
    none: str = "; with 0 the last epoch is the result",
) -> None:
    """How many pictures choose the best epoch, or else the penalty of a last layer."""
    verb.add_argument(
        "--validation-share",
        type=_whole_folds,
        default=default,
        help="of the pictures that are not for the test, one of a whole number of parts: 0.5, 0.33, 0.25, "
        f"0.2 and so on{none} ({default:g} by default)",
    )


def add_with_test(verb: argparse._ActionsContainer, how: str = "") -> None:
    """Whether the test pictures are learned from, too."""
    verb.add_argument(
        "--with-test",
        action="store_true",
        help=f"learn from the pictures for the test, too; those for validation still choose{how}",
    )


def _whole_folds(text: str) -> float:
    """A share that can be met; one that is out of range is refused where the pictures are divided."""
    share = float(text)
    if not 0 < share <= 0.5 or abs(share * round(1 / share) - 1) <= _NEARLY + 1e-9:  # noqa: PLR2004 - a half
        return share
    parts = int(1 / share)
    raise argparse.ArgumentTypeError(
        f"{share:g} is not one of a whole number of parts; take {1 / parts:.3g} or {1 / (parts + 1):.3g}"
    )


def add_fit_settings(verb: argparse.ArgumentParser) -> None:
    """Every field of `FitSettings`, the number of workers, and what `add_seen_test` adds."""
    default = FitSettings()
    verb.add_argument("--target", choices=("distribution", "class"), default=default.target)
    verb.add_argument("--head-pictures", type=int, default=default.head_pictures, help="in phase one; 0: all")
    add_study_settings(verb)


def add_study_settings(verb: argparse.ArgumentParser) -> None:
    """The same without those that a study has no use for: it learns both targets, from all pictures."""
    default = FitSettings()
    verb.set_defaults(target=default.target, head_pictures=default.head_pictures)
    verb.add_argument(
        "--weights", default=default.weights, help="torchvision, .safetensors, or a checkpoint (.pt)"
    )
    verb.add_argument(
        "--reads", type=_names, default=default.reads, help="blocks that the last layer reads, a,b"
    )
    verb.add_argument("--side", type=int, default=default.side, help="of the square input, pixels")
    verb.add_argument("--epochs", type=int, default=default.epochs, help="of phase two")
    verb.add_argument("--rate", type=float, default=default.rate, help="of the last layer in phase two")
    verb.add_argument("--layer-decay", type=float, default=default.layer_decay, help="from block to block")
    verb.add_argument("--batch", type=int, default=default.batch)
    verb.add_argument(
        "--frozen", metavar="BLOCK", default=default.frozen, help="the last block that does not learn"
    )
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
    verb.add_argument("--workers", type=at_least(0), default=0, help="processes that decode")
    verb.add_argument("--seed", type=int, default=default.seed)
    add_seen_test(verb)


def add_tune_settings(verb: argparse.ArgumentParser) -> None:
    """Every field of `TuneSettings`, the number of workers, and what `add_seen_test` adds."""
    default = TuneSettings()
    verb.add_argument("--epochs", type=int, default=default.epochs, help="passes over the larger set")
    verb.add_argument(
        "--rate",
        type=float,
        default=default.rate,
        help="the highest; the last stage has --layer-decay of it, the last layers twice as much",
    )
    verb.add_argument("--layer-decay", type=float, default=default.layer_decay, help="from layer to layer")
    verb.add_argument(
        "--frozen",
        type=int,
        metavar="STAGES",
        default=default.frozen,
        help="so many first stages do not learn; `fit` names a block instead",
    )
    verb.add_argument("--side", type=int, default=default.side, help="of the square input, pixels")
    verb.add_argument("--batch", type=int, default=default.batch)
    verb.add_argument("--weight-decay", type=float, default=default.weight_decay)
    verb.add_argument("--dropout", type=float, default=default.dropout)
    verb.add_argument("--augment", type=_names, default=default.augment, help="flip,crop,turn,light,colour")
    verb.add_argument("--mixup", type=float, default=default.mixup, help="strength of blending; 0: none")
    verb.add_argument("--smoothing", type=float, default=default.smoothing, help="share spread over all")
    verb.add_argument("--memory", type=float, default=default.memory, help="of the weights' moving average")
    verb.add_argument("--precision", choices=("float32", "bfloat16"), default=default.precision)
    verb.add_argument("--workers", type=at_least(0), default=0, help="processes that decode")
    verb.add_argument("--seed", type=int, default=default.seed)
    add_seen_test(verb)


def add_seen_test(verb: argparse.ArgumentParser) -> None:
    """What to do about test pictures that were learned from before."""
    verb.add_argument(
        "--seen-test",
        action="store_true",
        help="go on though the start weights or a teacher learned from pictures that are to be scored",
    )


def at_least(least: int) -> Callable[[str], int]:
    """How to read a whole number that is not below another."""

    def number(text: str) -> int:
        if (read := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{read} is below {least}")
        return read

    return number


def tune_settings(chosen: argparse.Namespace) -> TuneSettings:
    """What `add_tune_settings` asked for."""
    return TuneSettings(**{field.name: getattr(chosen, field.name) for field in fields(TuneSettings)})


def fit_settings(chosen: argparse.Namespace) -> FitSettings:
    """What `add_fit_settings` asked for."""
    return FitSettings(**{field.name: getattr(chosen, field.name) for field in fields(FitSettings)})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
