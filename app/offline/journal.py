"""What a long scoring has found so far, on disk, so that the same command can go on after any end.

A journal is a text file of JSON lines: a heading that says what is scored by which checkpoint, then one line
for each picture, in order. Lines are only ever added. One that was cut off by a crash is dropped when the
journal is opened again, and its picture is scored again.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.offline.pictures import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedRandom
    from pathlib import Path

    from app.offline.predicting import Outcome

FORMAT = 4
"""Another when lines, or what pictures look like to the network, are no longer what they were."""
_LEFT_OUT = (None, "", ())


class JournalError(Exception):
    """The journal cannot be gone on with; the message says what to do."""


@dataclass(frozen=True)
class Heading:
    """What decides the lines of a journal.

    Attributes:
        checkpoint: hexadecimal SHA-256 of its file.
        pictures: hexadecimal SHA-256 of the list, see `app.offline.listing.Listing.digest`.
        count: of pictures in the list.
        precision: that they are predicted in.
        max_pixels: larger pictures are refused.
    """

    checkpoint: str
    pictures: str
    count: int
    precision: str = "float32"
    max_pixels: int = 0


@dataclass(frozen=True)
class Entry:
    """One picture's line.

    Attributes:
        path: the picture's name.
        probabilities: of the labels in their order, as single precision in its shortest decimals; empty for a
            picture that was refused.
        width: in pixels; 0 for a picture that was refused.
        height: likewise.
        novelty: in single precision; None for a picture that was refused, or if the checkpoint cannot tell.
        problem: why it was refused, see `app.offline.pictures.Refused`; empty for one that was not.
        detail: likewise.
    """

    path: str
    probabilities: tuple[float, ...] = ()
    width: int = 0
    height: int = 0
    novelty: float | None = None
    problem: str = ""
    detail: str = ""

    @property
    def refused(self) -> bool:
        """Whether there is no answer for the picture."""
        return bool(self.problem)


class Journal:
    """An open journal, which no other process can open meanwhile.

    Attributes:
        path: of the file.
        done: pictures that it has lines for.
        refused: those of them without an answer.
    """

    def __init__(self, path: Path, file: BufferedRandom) -> None:
        self.path = path
        self.done = 0
        self.refused = 0
        self._file = file

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes for the next pictures; they survive this process's death from here on."""
        entries = [_entry(outcome) for outcome in outcomes]
        lines = [
            json.dumps({name: value for name, value in asdict(e).items() if value not in _LEFT_OUT})
            for e in entries
        ]
        self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))
        self._file.flush()
        self.done += len(entries)
        self.refused += sum(entry.refused for entry in entries)

    def entries(self) -> Iterator[Entry]:
        """Every picture's line, from the first."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield _parse(line)

    def remove(self) -> None:
        """Delete the file, when all that it says is elsewhere."""
        self.path.unlink()

    def _begin(self, heading: Heading) -> None:
        self._file.truncate(0)
        self._file.write(_line(heading))
        self._file.flush()

    def _go_on(self) -> None:
        """Count the whole lines, and drop what follows them."""
        end = self._file.tell()
        for line in self._file:
            try:
                entry = _parse(line)
            except (ValueError, TypeError):
                break
            self.done += 1
            self.refused += entry.refused
            end += len(line)
        self._file.truncate(end)
        self._file.seek(end)


@contextmanager
def open_journal(path: Path, heading: Heading, *, restart: bool = False) -> Iterator[Journal]:
    """Go on with the journal of this heading, or begin one.

    Args:
        path: of the file.
        heading: of the work that is to be done.
        restart: begin anew whatever the file says.

    Raises:
        JournalError: the file is of other work, or in use by another process.
        OSError: it cannot be written.
    """
    # Opened for appending, so that nothing that is there can be lost; the position is set where it matters.
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(f"another process is writing {path}") from error
        journal = Journal(path, file)
        file.seek(0)
        first = file.readline()
        nothing_done = not file.peek(1)
        if restart or not _is_whole_heading(path, first, heading, nothing_done=nothing_done):
            journal._begin(heading)  # noqa: SLF001 - this function is how a journal is made
        else:
            journal._go_on()  # noqa: SLF001
        yield journal


def _is_whole_heading(path: Path, first: bytes, wanted: Heading, *, nothing_done: bool) -> bool:
    """Whether the first line is the wanted heading; false if there is none, or one of no work.

    Raises:
        JournalError: it is anything else.
    """
    if first == _line(wanted):
        return True
    if _line(wanted).startswith(first):
        return False
    try:
        found = json.loads(first)
        written = Heading(**found["deepemotion_journal"])
    except (ValueError, TypeError, KeyError) as error:
        raise JournalError(
            f"{path} was not written by this command; remove it, or write elsewhere"
        ) from error
    if nothing_done:
        return False
    if found.get("format") != FORMAT:
        cause = "another version of this program"
    elif written.checkpoint != wanted.checkpoint:
        cause = f"another checkpoint (sha256 {written.checkpoint[:12]}…, now {wanted.checkpoint[:12]}…)"
    elif written.precision != wanted.precision:
        cause = f"another precision ({written.precision}, now {wanted.precision})"
    elif written.max_pixels != wanted.max_pixels:
        cause = f"another DEEPEMOTION_MAX_PIXELS ({written.max_pixels:,}, now {wanted.max_pixels:,})"
    else:
        cause = f"another list of pictures ({written.count:,}, now {wanted.count:,}, or others)"
    raise JournalError(f"{path} holds unfinished work with {cause}; give --restart to throw that work away")


def _line(heading: Heading) -> bytes:
    return (json.dumps({"deepemotion_journal": asdict(heading), "format": FORMAT}) + "\n").encode("ascii")


def _entry(outcome: Outcome) -> Entry:
    if isinstance(outcome, Refused):
        return Entry(outcome.source, problem=outcome.problem, detail=outcome.detail)
    shares = tuple(shortest(value) for value in outcome.probabilities)
    novelty = None if outcome.novelty is None else shortest(outcome.novelty)
    return Entry(outcome.source, shares, outcome.width, outcome.height, novelty)


def shortest(value: float) -> float:
    """A figure in single precision, as the shortest decimals that say so."""
    return float(str(np.float32(value)))


def _parse(line: bytes) -> Entry:
    if not line.endswith(b"\n"):
        raise ValueError("the line was cut off")
    fields: object = json.loads(line)
    if not isinstance(fields, dict):
        raise TypeError("the line is no entry")
    return Entry(**fields | {"probabilities": tuple(fields.get("probabilities", ()))})
