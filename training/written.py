"""Files that long work ends in: refused before it if they cannot be, and there whole or not at all."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save_file

from app.offline.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor


def check_writable(path: Path) -> None:
    """See that the file can be put there; nothing is made yet.

    Raises:
        OSError: it cannot.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    with tempfile.TemporaryFile(dir=there):
        pass


def save_tensors(tensors: Mapping[str, Tensor], path: Path, notes: Mapping[str, str]) -> None:
    """Write tensors with their notes as a .safetensors file, and make its folder.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as unfinished:
            save_file(dict(tensors), unfinished, metadata=dict(notes))
    except SafetensorError as error:  # of a full disk, for one
        raise OSError(f"{path} cannot be written: {error}") from error


def save_arrays(path: Path, **arrays: NDArray[Any] | str) -> None:
    """Write arrays by their names as an .npz file.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type] # it takes whatever becomes an array
