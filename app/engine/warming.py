"""Warming a model up, so that no request pays for a first time: as a thread begins, or between its turns."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.checkpoint import judge
from app.engine.device import is_out_of_memory
from app.engine.errors import DeviceLost
from app.explain.dream import DEFAULTS, Dream, take_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.engine.lines import Lines

log = logging.getLogger(__name__)


def pieces_of(copy: Checkpoint, largest_batch: int) -> Iterator[Callable[[], object]]:
    """Pieces of work after which a model is warm; each takes about as long as a batch.

    TorchScript specialises its graph on the second run of a network, and on the second of a gradient.

    Raises:
        FloatingPointError: from a piece, when the network's answer is not a number.
    """
    side = copy.card.input_size
    for size in (1, 1, 1, largest_batch):
        yield partial(_try_out, copy, np.zeros((size, 3, side, side), np.uint8))
    dream = Dream(np.zeros((3, side, side), np.uint8), 0, copy, DEFAULTS)
    while not dream.done:
        yield partial(take_step, copy.network, [dream])


def _try_out(copy: Checkpoint, pictures: NDArray[np.uint8]) -> None:
    if not judge(copy, pictures).sound.all():
        raise FloatingPointError("the network's answer to a black picture is not a number")


def warm_up(copy: Checkpoint, largest_batch: int, go_on: Callable[[], bool]) -> int:
    """Do all the pieces at once, on a device that answers nobody yet; returns the largest batch that fits.

    Args:
        copy: of the model, on the device.
        largest_batch: to begin with.
        go_on: is asked before each piece.

    Raises:
        Exception: whatever the network raises, even on a single picture.
    """
    while True:
        try:
            for piece in pieces_of(copy, largest_batch):
                if not go_on():
                    break
                piece()
        except Exception as error:
            if largest_batch == 1 or not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            largest_batch //= 2
            log.warning("out of memory while warming up; now %d pictures a batch", largest_batch)
            continue
        return largest_batch


class WarmUps:
    """Models that are warmed up between a worker's turns, so that the one that answers goes on answering.

    All but `begin` is called with the condition of the lines held.

    Args:
        lines: whose condition wakes the worker.
        make_room: lets go of memory that the device can spare; whether there was any.
    """

    def __init__(self, lines: Lines, make_room: Callable[[], bool]) -> None:
        self._lines = lines
        self._make_room = make_room
        self._pieces: deque[Callable[[], object]] = deque()
        self._unfinished: set[Future[None]] = set()
        self._was_last = False
        self._closed = False

    def begin(self, copy: Checkpoint, largest_batch: int) -> Future[None]:
        """Warm a model up, a piece a turn; done when it is warm, or with whatever it raised."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # else who stops waiting cancels it under our hands
        pieces = pieces_of(copy, largest_batch)
        again: Callable[[], object] | None = None

        def one_piece() -> None:
            nonlocal again
            try:
                piece = again or next(pieces, None)
                if piece is None:
                    end(done)
                    return
                again = piece
                piece()
                again = None
            except Exception as error:  # noqa: BLE001 - whatever a new checkpoint does, the old one stays
                if not (is_out_of_memory(error) and self._make_room()):
                    again = None
                    end(done, error)
                    return
            with self._lines.changed:
                self._pieces.append(one_piece)

        with self._lines.changed:
            if self._closed:
                done.set_exception(DeviceLost("the device's thread has ended"))
                return done
            self._unfinished.add(done)
            done.add_done_callback(self._forget)
            self._pieces.append(one_piece)
            self._lines.changed.notify_all()
        return done

    def _forget(self, warmed: Future[None]) -> None:
        """What a failure keeps alive is the whole model."""
        with self._lines.changed:
            self._unfinished.discard(warmed)

    @property
    def waiting(self) -> bool:
        """Whether there is a piece to do."""
        return bool(self._pieces)

    @property
    def due(self) -> bool:
        """Whether a piece goes next; it goes before predictions, but not twice in a row."""
        return self.waiting and not (self._was_last and self._lines.predictions_wait)

    def take(self) -> Callable[[], object]:
        """The next piece."""
        self._was_last = True
        return self._pieces.popleft()

    def stand_back(self) -> None:
        """Somebody else has this turn."""
        self._was_last = False

    def close(self) -> list[Future[None]]:
        """Begin no more; those that are not done, for the caller to `end` without the condition."""
        self._closed = True
        return [each for each in self._unfinished if not each.done()]


def end(warming: Future[None], error: Exception | None = None) -> None:
    """Tell who waits for a warm-up; the thread that is retired and the one that retires it may both do so."""
    with suppress(InvalidStateError):
        if error is None:
            warming.set_result(None)
        else:
            warming.set_exception(error)
