"""``python -m training <verb>``: rated pictures in, a checkpoint out. The verbs are in `training.verbs`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from app.checkpoint import CheckpointError
from training import distributed
from training.affective_set import DataError
from training.augment import AugmentationError
from training.evaluate import EvaluationError
from training.fit import FitError
from training.inception import InceptionError
from training.pretrained import WeightsError
from training.run import RunError
from training.verbs import crossval, fitting, releasing, reporting, studying, watching
from training.verbs.options import picture_options

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSALS = (
    AugmentationError, CheckpointError, DataError, EvaluationError, FitError, InceptionError, RunError,
    WeightsError, OSError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; 0 when it did its work, 1 with a message when it refused, 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser().parse_args(words)
    chosen.words = words
    try:
        if distributed.launched() > 1 and not chosen.shared:
            raise FitError("several processes share the work of fit alone; start this verb without torchrun")
        chosen.verb(chosen)
    except distributed.FirstFailed:
        return 1
    except REFUSALS as error:
        where = "" if distributed.first() else f" in process {distributed.rank()}"
        message = f"[red]error{where}:[/red] {escape(str(error))}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    top = argparse.ArgumentParser(
        prog="python -m training", description="rated pictures in, a checkpoint out"
    )
    top.set_defaults(shared=False)
    verbs = top.add_subparsers(required=True, metavar="VERB")
    pictures = picture_options()
    for each in (fitting, releasing, crossval, reporting, studying, watching):
        each.add(verbs, pictures)
    return top


if __name__ == "__main__":
    sys.exit(main())
