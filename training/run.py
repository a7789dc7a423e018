"""A training run's folder: what was asked for, where it stands, and what it has found so far.

Of several processes only the first reads and writes it; the others are told what it has read.

``run.json``           the settings, the labels and the provenance of the start weights
``last.safetensors``   network and optimiser after the last whole epoch
``best.safetensors``   the network of the epoch with the lowest validation loss
``log.csv``            one line an epoch
"""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from app.offline.files import replacing
from training import distributed
from training.written import save_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn


class RunError(Exception):
    """The folder does not fit what is asked of it; the message says how."""


_LATER = {"ratings", "seen"}


@dataclass(frozen=True)
class Run:
    """One folder."""

    folder: Path

    @property
    def last(self) -> Path:
        """Where `save` keeps the state of the last whole epoch."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The best network so far, in the form that `training.pretrained.load` reads."""
        return self.folder / "best.safetensors"

    def begin(self, record: Mapping[str, Any], *, resume: bool) -> None:
        """Write down what the run is, or check that it is the one that is resumed.

        Raises:
            RunError: the folder holds a run already, or another one than is to be resumed.
        """
        distributed.by_first(lambda: self._begin(record, resume=resume))

    def _begin(self, record: Mapping[str, Any], *, resume: bool) -> None:
        path = self.folder / "run.json"
        wanted = json.loads(json.dumps(record))
        if path.exists():
            if not resume:
                raise RunError(f"{self.folder} holds a run already; pass --resume or another folder")
            found = self.record()
            # The command line also says what changes nothing: the device, the workers, the order of options.
            # What older runs have not written down cannot be compared.
            wanted["split"] = _as_written(wanted.get("split"), found.get("split"))
            compared = (wanted.keys() | found) - {"command"} - (_LATER - found.keys())
            if changed := sorted(key for key in compared if wanted.get(key) != found.get(key)):
                raise RunError(f"{self.folder} was begun with other settings: {', '.join(changed)}")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(wanted, indent=2) + "\n", "utf-8")

    def record(self) -> dict[str, Any]:
        """What `begin` wrote down.

        Raises:
            RunError: nothing, or it cannot be read.
        """
        path = self.folder / "run.json"
        if not path.is_file():
            raise RunError(f"{self.folder} holds no run")
        try:
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error
        return record

    def epochs_left(self) -> int:
        """How many of the epochs that were asked for have not been finished.

        Raises:
            RunError: the folder holds no run, or a damaged one.
        """
        # The log is a moment ahead of the weights; but the last ones may have been thrown away since.
        at = notes_of(self.last) if self.last.exists() else self.epochs()[-1]
        return int(self.record()["settings"]["epochs"]) - int(at["epoch"])

    def complete_record(self) -> dict[str, Any]:
        """The same, of a run that says how its pictures were divided and what was typed, as a card does.

        Raises:
            RunError: it does not say so.
        """
        record = self.record()
        if missing := sorted({"command", "split"} - record.keys()):
            raise RunError(
                f"the run in {self.folder} has no {' and no '.join(missing)} written down, which a card must "
                "tell; train it anew with `fit`, `crossval` or `study`"
            )
        return record

    def epochs(self) -> list[dict[str, str]]:
        """The lines of ``log.csv``."""
        path = self.folder / "log.csv"
        if not path.is_file():
            raise RunError(f"{self.folder} holds no log")
        with path.open(newline="", encoding="utf-8") as file:
            return [*csv.DictReader(file)]

    def log(self, row: Mapping[str, Any]) -> None:
        """Add an epoch's line to ``log.csv``, in place of one that a cut has left of the same epoch."""
        if not distributed.first():
            return
        path = self.folder / "log.csv"
        rows: list[Mapping[str, Any]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [*csv.DictReader(file)]
        same = (str(row["phase"]), str(row["epoch"]))
        rows = [old for old in rows if (old["phase"], old["epoch"]) != same]
        with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows([*rows, row])


def _as_written(split: Any, found: Any) -> Any:  # noqa: ANN401 - a part of a JSON file
    """How pictures were divided, less what an older run has not written down: it names the pictures, too."""
    if not isinstance(split, dict) or not isinstance(found, dict):
        return split
    return {key: value for key, value in split.items() if key in found}


def save(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer | None, meta: Mapping[str, str]
) -> None:
    """Write network, optimiser and progress as one file, or leave the old file as it was."""
    if not distributed.first():
        return
    tensors: dict[str, Tensor] = {key: value.contiguous() for key, value in network.state_dict().items()}
    if optimiser is not None:
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value.contiguous() for key, value in state.items()}
    save_tensors(tensors, path, meta)


def notes_of(path: Path) -> dict[str, str]:
    """The progress notes in a file that `save` wrote.

    Raises:
        RunError: it is damaged.
    """
    with _opened(path) as file:
        return dict(file.metadata())


def restore(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer | None) -> dict[str, str]:
    """Read back what `save` wrote and return its progress notes.

    Raises:
        RunError: it is damaged.
    """
    weights, states, meta = distributed.by_first(lambda: _read(path))
    network.load_state_dict(weights)
    if optimiser is not None:
        optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    return meta


def _read(path: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]], dict[str, str]]:
    """Weights, the optimiser's states by the parameter's number, and progress."""
    weights: dict[str, Tensor] = {}
    states: dict[int, dict[str, Tensor]] = {}
    with _opened(path) as file:
        for key in file.keys():  # noqa: SIM118 - not a dict
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                states.setdefault(int(index), {})[name] = file.get_tensor(key)
            else:
                weights[key] = file.get_tensor(key)
        return weights, states, dict(file.metadata())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error
