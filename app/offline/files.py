"""Files that are there whole or not at all, and their names as text."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside the given one to write to; what is there in the end takes the given one's place.

    If that fails, a file that was there before is as it was.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def as_text(name: str) -> str:
    r"""A file's name as text that can be shown and written: a byte that is no UTF-8 becomes \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
