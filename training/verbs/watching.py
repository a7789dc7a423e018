"""``tensorboard``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.run import Run, RunError
from training.verbs.printing import OUT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of this verb."""
    del pictures
    verb = verbs.add_parser("tensorboard", help="the log of a run as TensorBoard reads it")
    verb.add_argument("run", type=Path, help="folder of the run")
    verb.add_argument("--out", type=Path, help="folder for the events; `tensorboard` in the run by default")
    verb.set_defaults(verb=_tensorboard)


def _tensorboard(chosen: argparse.Namespace) -> None:
    rows = Run(chosen.run).epochs()
    folder = chosen.out or chosen.run / "tensorboard"
    if folder.exists():
        raise RunError(f"{folder} is there already; TensorBoard would show both: remove it, or name another")
    _write(rows, folder)
    OUT.print(f"{folder}: {len(rows)} epochs; look at it with: tensorboard --logdir {folder}")


def _write(rows: Sequence[dict[str, str]], folder: Path) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RunError("TensorBoard is not installed: pip install -e '.[training,tensorboard]'") from error
    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            losses = {name: float(row[f"{name}_loss"]) for name in ("train", "validation")}
            for name, loss in losses.items():
                writer.add_scalar(f"loss/{name}", loss, int(row["epoch"]))
            writer.add_scalar("seconds", float(row["seconds"]), int(row["epoch"]))
