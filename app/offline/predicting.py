"""Predictions for many pictures, in order: decoded ahead in threads, in batches on every device."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.checkpoint import CheckpointError, Judged, judge
from app.offline.pictures import Ready, Refused, gist, prepare, read_file, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.devices import Device
    from app.engine import Model

log = logging.getLogger("deepemotion.offline")

WARM_UP_PASSES = 3


@dataclass(frozen=True)
class Predicted:
    """What the network says of a picture.

    Attributes:
        source: the picture's name.
        probabilities: ``[K]`` in the order of the card's labels; they sum to 1.
        width: of the upright picture, in pixels.
        height: likewise.
        format: by its bytes, one of `app.picture.FORMATS`.
        novelty: how far the picture is from those that the network learned from; None if it cannot tell.
    """

    source: str
    probabilities: NDArray[np.float64]
    width: int
    height: int
    format: str
    novelty: float | None = None


Outcome = Predicted | Refused


class Predictor:
    """A checkpoint on one or more devices, and the threads that decode for them.

    Every batch is filled up to the same size, so that a picture's figures do not depend on how many
    neighbours it has, nor on where a run was interrupted.

    Args:
        model: with a copy for each of the devices.
        devices: they take batches in turn.
        batch: pictures in one forward pass.
        workers: threads that read and decode pictures.
        max_pixels: refuse a picture whose header announces more.
    """

    def __init__(
        self, model: Model, devices: Sequence[Device], *, batch: int, workers: int, max_pixels: int
    ) -> None:
        self.batch = batch
        self._copies = model.copies
        self._devices = devices
        self._workers = workers
        self._side = model.card.input_size
        self.max_pixels = max_pixels
        # Enough for every device to have the next batch decoded, and for every thread to have work.
        self._ahead = 2 * len(devices) + -(-2 * workers // batch)

    def batches(
        self,
        sources: Iterable[str],
        read: Callable[[str], bytes] = read_file,
    ) -> Generator[list[Outcome]]:
        """The outcomes for the pictures, in their order, a batch at a time.

        What is read ahead is bounded, so the pictures may be endless. Closing the iterator drops what has not
        begun and waits for what has.

        Args:
            sources: the pictures' names.
            read: gets the bytes of a name, in a thread.

        Raises:
            CheckpointError: the network fails even on a black picture.
        """
        remaining = iter(sources)
        under_way: deque[Future[list[Outcome]]] = deque()
        with ExitStack() as ending:

            def pool(threads: int, name: str, begin: Callable[[], None] | None = None) -> ThreadPoolExecutor:
                made = ThreadPoolExecutor(threads, name, begin)
                ending.callback(made.shutdown, cancel_futures=True)
                return made

            owners = [pool(1, f"predict-{device.torch}", device.settle) for device in self._devices]
            decoders = pool(self._workers, "decode")  # made last, so ended first: its end frees the others
            for owner, copy in zip(owners, self._copies, strict=True):
                owner.submit(self._warm_up, copy)  # should it fail, so does the first batch
            for turn in itertools.cycle(range(len(owners))):
                chunk = list(itertools.islice(remaining, self.batch))
                if not chunk:
                    break
                decoded = [
                    decoders.submit(prepare, source, self._side, self.max_pixels, read) for source in chunk
                ]
                under_way.append(owners[turn].submit(self._predict, self._copies[turn], decoded))
                if len(under_way) > self._ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

    def _predict(self, copy: Checkpoint, decoded: Sequence[Future[Ready | Refused]]) -> list[Outcome]:
        outcomes = [each.result() for each in decoded]
        ready = [each for each in outcomes if isinstance(each, Ready)]
        answers = iter(self._answers(copy, ready, self.batch))
        return [next(answers) if isinstance(each, Ready) else each for each in outcomes]

    def _answers(self, copy: Checkpoint, ready: Sequence[Ready], size: int) -> list[Outcome]:
        """What the network says of up to `size` pictures."""
        if not ready:
            return []
        pictures = self._black(size)
        for place, each in zip(pictures, ready, strict=False):
            place[:] = each.pixels
        try:
            judged = judge(copy, pictures)
        except Exception as error:  # noqa: BLE001 - whatever a network raises on a picture
            return self._answers_in_halves(copy, ready, size, error)
        return [_outcome(each, judged, place) for place, each in enumerate(ready)]

    def _answers_in_halves(
        self, copy: Checkpoint, ready: Sequence[Ready], size: int, error: Exception
    ) -> list[Outcome]:
        """Too large a batch fits in halves, and a picture that the network fails on fails alone."""
        if size == 1:
            self._check(copy)
            return [refusal(ready[0].source, error)]
        half = -(-size // 2)
        log.warning("a batch of %d pictures failed and is tried in halves: %s", size, type(error).__name__)
        return self._answers(copy, ready[:half], half) + self._answers(copy, ready[half:], half)

    def _check(self, copy: Checkpoint) -> None:
        """Blame a picture only while the network can still do another."""
        try:
            judge(copy, self._black(1))
        except Exception as error:
            raise CheckpointError(f"the network fails even on a black picture: {gist(error)}") from error

    def _warm_up(self, copy: Checkpoint) -> None:
        """Have the first pictures computed in exactly the way that the last ones are.

        On a GPU, TorchScript fuses kernels on the second run of a network, which changes the last digits. On
        a CPU it fuses none, and nothing is to be gained.
        """
        if copy.device.type == "cpu":
            return
        for _ in range(WARM_UP_PASSES):
            judge(copy, self._black(self.batch))

    def _black(self, size: int) -> NDArray[np.uint8]:
        return np.zeros((size, 3, self._side, self._side), np.uint8)


def _outcome(ready: Ready, judged: Judged, place: int) -> Outcome:
    if not judged.sound[place]:
        return Refused(ready.source, "model-failed", "the network's answer to this picture is not a number")
    row, novelty = judged.probabilities[place], judged.novelty_of(place)
    return Predicted(ready.source, row, ready.width, ready.height, ready.format, novelty)
