"""From a file's name to the network's input, or to the reason why not."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.picture import PictureError, Pixels, decode

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_FILE = 1024**3
"""Bytes; a picture of the most pixels that are accepted has fewer in any of the formats."""


class UnusableFile(Exception):
    """What has this name is no file that would be read; the message says why."""


@dataclass(frozen=True)
class Refused:
    """A picture without an answer.

    Attributes:
        source: the picture's name.
        problem: the kind, as the service names it in its problem documents where it knows it too.
        detail: what went wrong this time.
    """

    source: str
    problem: str
    detail: str


@dataclass(frozen=True)
class Ready:
    """A picture that the network can look at.

    Attributes:
        source: the picture's name.
        pixels: ``uint8 [3, S, S]``.
        width: of the upright picture, in pixels.
        height: likewise.
        format: by its bytes, one of `app.picture.FORMATS`.
    """

    source: str
    pixels: Pixels
    width: int
    height: int
    format: str


def read_file(name: str) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: it cannot be read.
        UnusableFile: it is no ordinary file, which could block for ever, or too large to be a picture.
    """
    if "\0" in name:
        raise UnusableFile("its name has a null byte; a list has one name a line")
    path = Path(name)
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise UnusableFile("it is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise UnusableFile("it is not an ordinary file")
    if state.st_size > LARGEST_FILE:
        raise UnusableFile(f"it has {state.st_size:,} bytes; at most {LARGEST_FILE:,} are read")
    return path.read_bytes()


def prepare(
    source: str, side: int, max_pixels: int, read: Callable[[str], bytes] = read_file
) -> Ready | Refused:
    """Read and decode a picture, with the same lines as the service.

    Args:
        source: the picture's name.
        side: S of the network's input.
        max_pixels: refuse a picture whose header announces more.
        read: gets the bytes of a name.
    """
    try:
        picture = decode(read(source), max_pixels=max_pixels, side=side)
        return Ready(source, picture.as_input(side), picture.width, picture.height, picture.format)
    except (PictureError, UnusableFile, OSError, MemoryError) as error:
        return refusal(source, error)


def refusal(source: str, error: Exception) -> Refused:
    """Why there is no answer for a picture."""
    if isinstance(error, PictureError):
        return Refused(source, _slug(type(error).__name__), str(error))
    if isinstance(error, UnusableFile):
        return Refused(source, "unusable-file", str(error))
    if isinstance(error, MemoryError):
        return Refused(source, "out-of-memory", "there is not enough memory for this picture")
    if isinstance(error, OSError):
        return Refused(source, "unreadable-file", error.strerror or str(error))
    return Refused(source, "model-failed", f"the network failed on this picture: {gist(error)}")


def _slug(name: str) -> str:
    """``BrokenPicture`` as ``broken-picture``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def gist(error: Exception) -> str:
    """What happened, in a line: TorchScript puts a whole stack before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
