"""``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from app import loading
from training import report
from training.evaluate import EvaluationError
from training.run import Run
from training.verbs import options, reading
from training.verbs.printing import OUT

if TYPE_CHECKING:
    import argparse


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of this verb."""
    verb = verbs.add_parser(
        "report",
        parents=[pictures, options.device_option()],
        help="draw what training found, on a page of its own",
    )
    verb.add_argument("checkpoint", type=Path)
    made = verb.add_mutually_exclusive_group(required=True)
    made.add_argument("--run", type=Path, help="folder of the run that the checkpoint was made of")
    made.add_argument("--crossval", type=Path, help="folder of the cross-validation that it was scored by")
    verb.add_argument("--out", type=Path, help="folder for the report; `report` in that folder by default")
    verb.set_defaults(verb=_report)


def _report(chosen: argparse.Namespace) -> None:
    checkpoint = loading.load(chosen.checkpoint, torch.device(chosen.device))
    rated, partition = reading.divided_as(checkpoint.card.split, chosen)
    if chosen.crossval is not None:
        runs = [Run(path.parent) for path in sorted(chosen.crossval.glob("repeat-*/fold-*/run.json"))]
        found = report.of_cross_validation(checkpoint, rated, chosen.crossval, runs)
    elif checkpoint.card.cross_validation is not None:
        raise EvaluationError("this checkpoint was scored by a cross-validation: name it with --crossval")
    else:
        found = report.of_run(checkpoint, rated, partition, Run(chosen.run))
    folder = chosen.out or (chosen.crossval or chosen.run) / "report"
    OUT.print(f"{report.write(found, folder)}")
