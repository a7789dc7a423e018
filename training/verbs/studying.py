"""``study``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.study import study
from training.study_table import Condition, Row, cells_of, conditions
from training.verbs import options, reading
from training.verbs.printing import OUT, print_study

if TYPE_CHECKING:
    from collections.abc import Callable


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of this verb."""
    verb = verbs.add_parser(
        "study",
        parents=[pictures, options.device_option()],
        help="last layer or all, which agreement, distribution or class, how many emotions: a table",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for runs and tables; it resumes")
    verb.add_argument("--layers", type=_listed(_one_of("head", "all")), default=["head", "all"])
    verb.add_argument(
        "--targets", type=_listed(_one_of("distribution", "class")), default=["distribution", "class"]
    )
    verb.add_argument("--thresholds", type=_listed(_share), default=[0.0, 0.4, 0.5, 0.6], help="of agreement")
    verb.add_argument("--classes", type=_listed(_count), default=[None, 6], help="most common; or all")
    options.add_study_settings(verb)
    verb.set_defaults(verb=_study)


def _study(chosen: argparse.Namespace) -> None:
    whole = reading.filtered(chosen, None, None)
    asked: list[Condition] = conditions(
        len(whole.labels),
        layers=chosen.layers,
        targets=chosen.targets,
        thresholds=chosen.thresholds,
        classes=chosen.classes,
    )
    rows = study(
        whole,
        options.fit_settings(chosen),
        asked,
        chosen.out,
        device=chosen.device,
        workers=chosen.workers,
        command=reading.command(chosen),
        seen_test=chosen.seen_test,
        report=_tell,
    )
    print_study(rows)


def _tell(row: Row) -> None:
    OUT.print("  ".join(cells_of(row)[:6]), style="dim", highlight=False)


def _listed(one: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def listed(text: str) -> list[Any]:
        return [one(each) for each in text.split(",")]

    return listed


def _one_of(*known: str) -> Callable[[str], str]:
    def choice(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return text

    return choice


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"an agreement of {share:g} is not between 0 and 1")
    return share


def _count(text: str) -> int | None:
    return None if text == "all" else int(text)
