"""The owner of a device, or of one of its streams (`app.engine.floor`): continuous batching without a timer.

Each turn takes whatever waits. Predictions go first, up to the largest batch; only when none waits does half
a gradient step of the running dreams get its turn (`app.engine.dreams`). So an idle engine answers at once,
a busy one fills its batches by itself, and a prediction waits for half a gradient step at most. Where streams
never end together, it waits once a second for the batches before that, too.
"""

from __future__ import annotations

import logging
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from app.checkpoint import judge
from app.engine.device import is_out_of_memory, wait_for
from app.engine.dreams import Dreams
from app.engine.errors import DeviceLost, ModelFailed
from app.engine.floor import Floor
from app.engine.jobs import Job, Prediction, PredictionJob
from app.engine.limits import EngineLimits, Kind
from app.engine.warming import WarmUps, end, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from app.devices import Device
    from app.engine.lines import Lines
    from app.engine.model import Model
    from app.metrics import Metrics

log = logging.getLogger(__name__)

_PAIR = 2
"""Streams of which one, and a long decode, take all processors. Of more, others would have nothing to do."""


class Worker:
    """A thread that empties the lines with one device. Nobody else touches the device, or this part of it.

    Args:
        index: of the device among the engine's.
        device: what it owns, and the processors to do it with.
        lines: where its work comes from.
        floor: what it shares the device by; None if there is no other worker.
        leads: whether it takes the whole device, for what needs that; the others only ever take one thread.

    Attributes:
        dreams: that it carries through; who does not lead has none.
    """

    def __init__(
        self,
        index: int,
        device: Device,
        lines: Lines,
        limits: EngineLimits,
        metrics: Metrics,
        *,
        floor: Floor | None = None,
        leads: bool = True,
    ) -> None:
        self.index = index
        self.leads = leads
        self.thread = threading.Thread(target=self._live, name=f"engine-{index}", daemon=True)
        self.open = False
        self.died = False
        self._device = device
        self._lines = lines
        self._floor = floor or Floor(1)
        self._metrics = metrics
        self._hang_seconds = limits.hang_seconds
        self._max_batch = limits.max_batch
        self.dreams = Dreams(index, device, lines, metrics, limits.running_on(device.torch))
        self._warm_ups = WarmUps(lines, self._make_room)
        self._first_model: Model | None = None
        self._retired = False
        self._on_device: Sequence[Job[Any]] = ()
        self._busy_since: float | None = None

    # What others do.

    def learn_from(self, predecessor: Worker) -> None:
        """Begin with the sizes that fitted in the memory of the same device."""
        self._max_batch = predecessor._max_batch
        self.dreams.most = predecessor.dreams.most

    def start(self, model: Model) -> None:
        """Start the thread, which warms the model up and then takes turns."""
        self._first_model = model if self.leads else None  # it would be kept by who never warms it up
        self.thread.start()

    def warm(self, model: Model) -> Future[None]:
        """Warm another model up between the turns, so that the one that answers goes on answering."""
        return self._warm_ups.begin(model.copies[self.index], self._max_batch)

    def hung(self) -> bool:
        """Whether the device has been at one piece of work for too long."""
        busy_since = self._busy_since
        return busy_since is not None and self._lines.clock() - busy_since > self._hang_seconds

    def retire(self, reason: str) -> None:
        """Take no more turns; whatever is on the device is answered with `DeviceLost` at once."""
        with self._lines.changed:
            lost = [*self._on_device, *self.dreams.give_up_all()]
            self._on_device = ()
            self._retired = True
            self._close()
            self._floor.leave(self)
            self._lines.wake()
            warming = self._warm_ups.close()
        for job in lost:
            job.fail(DeviceLost(reason))
        for future in warming:
            end(future, DeviceLost(reason))

    # What its own thread does.

    def _live(self) -> None:
        try:
            self._device.settle()
            if self.leads:
                self._warm_up_first()
            else:
                self._await_leader()
            self.take_requests()
            while self.take_turn():
                pass
        except BaseException as error:  # whatever it is, somebody must be told
            log.critical("the thread of %s died", self._device.torch, exc_info=error)
            self.died = True
            self.retire("the device's thread died")
        finally:
            with self._lines.changed:
                self._close()

    def _warm_up_first(self) -> None:
        if self._first_model is None:
            return
        copy, self._first_model = self._first_model.copies[self.index], None  # it may be replaced meanwhile
        self._max_batch = warm_up(copy, self._max_batch, self._begin_piece)
        self._busy_since = None

    def _begin_piece(self) -> bool:
        """Whether this worker still has the device."""
        self._busy_since = self._lines.clock()
        return not self._retired

    def _await_leader(self) -> None:
        """The leader warms up for all."""
        with self._lines.changed:
            while self._floor.leader is None and not (self._retired or self._lines.finished):
                self._lines.wait(leads=False)

    def take_requests(self) -> None:
        """Answer from now on; the leader counts as the device that does."""
        with self._lines.changed:
            if self._retired or self.open:
                return
            self.open = True
            if self.leads:
                self._floor.leader = self
                self._lines.count_open(1)
                self._lines.wake()

    def take_turn(self) -> bool:
        """Wait for work and do one piece of it; false when there will be no more.

        The thread does nothing else. Whoever has not started it may take the turns himself.
        """
        with self._lines.changed:
            while (work := self._next()) is None:
                if self._retired or self._lines.finished:
                    return False
                self._lines.wait(leads=self.leads)
            self._busy_since = self._lines.clock()
        work()
        self.end_turn()
        return True

    def end_turn(self) -> None:
        """Leave the device to whoever waits for it."""
        with self._lines.changed:
            self._on_device, self._busy_since = (), None
            self._floor.leave(self)
            if self._floor.streams > 1 and self._lines.predictions_wait:
                self._lines.wake()
            elif not self.leads:  # the leader may want the whole device
                self._lines.changed.notify_all()

    def _next(self) -> Callable[[], object] | None:
        """The work of the next turn."""
        if self._retired or self._lines.given_up:
            return None
        self.dreams.drop_unwanted()
        warming = self._warm_ups.due
        dreaming = self.leads and self.dreams.due
        if self.leads:  # else others would go on taking turns beside each other for ever
            self._floor.claimed = (warming or dreaming) and not self._floor.empty
            if self._floor.claimed:
                return None
        if warming:
            return self._next_warming()
        self._warm_ups.stand_back()
        late = self._next_half() if dreaming else None
        if dreaming and late is None:  # nobody wants it any more, and the others have stood back for it
            with self._lines.changed:
                self._lines.wake()
        return late or self._next_batch() or self._next_besides()

    def _next_besides(self) -> Callable[[], object] | None:
        """What the whole device does when no prediction wants it."""
        if not (self.leads and self._floor.empty):
            return None
        if half := self._next_half():
            return half
        # Those that a warm-up stood back for may have left meanwhile, and nobody else would wake this thread.
        return self._next_warming() if self._warm_ups.waiting else None

    def _next_half(self) -> Callable[[], object] | None:
        half = self.dreams.next_half()
        if half is not None:
            self._floor.enter(self, whole=True)
        return half

    def _next_batch(self) -> Callable[[], object] | None:
        """Predictions: all that wait with the whole device, or a part of them on one thread of it."""
        first = self._lines.next_prediction()
        if first is None or not self._floor.has_room:
            return None
        copy = first.model.copies[self.index]
        alone = self._floor.empty and self._lines.length < self._floor.streams
        few = alone and not (self._lines.crowded and self._floor.streams == _PAIR)
        whole = copy.stream is None or (few and self._floor.leader is not None)
        if whole and not (self.leads and self._floor.empty):
            return None
        most = max(1, self._max_batch // self._sharing(whole=whole))
        batch = self._lines.take_predictions(most, whole=whole)
        if not batch:  # the deadline has passed meanwhile
            return None
        self._floor.enter(self, whole=whole)
        self._on_device = batch
        return partial(self._predict, batch, whole=whole)

    def _sharing(self, *, whole: bool) -> int:
        """How many batches the device computes at once."""
        return 1 if whole else self._floor.streams

    def _next_warming(self) -> Callable[[], object]:
        self._floor.enter(self, whole=True)
        return self._warm_ups.take()

    def _predict(self, batch: Sequence[PredictionJob], *, whole: bool) -> None:
        began = self._lines.clock()
        copy = batch[0].model.copies[self.index]
        try:
            pictures = np.stack([job.pixels for job in batch])
            judged = judge(copy if whole else copy.as_stream(), pictures)
        except Exception as error:  # noqa: BLE001 - whatever a network raises on a picture
            self._predict_in_halves(batch, error, whole=whole)
            return
        seconds = self._lines.clock() - began
        self._metrics.computed(Kind.PREDICTION, len(batch), seconds)
        self._lines.learn(Kind.PREDICTION, seconds / self._sharing(whole=whole) / len(batch))
        sound = judged.sound
        for place, job in enumerate(batch):
            waited = began - job.accepted
            self._metrics.queue_seconds.labels(Kind.PREDICTION).observe(waited)
            if sound[place]:
                row, novelty = judged.probabilities[place], judged.novelty_of(place)
                job.succeed(Prediction(row, waited, seconds, novelty))
            else:
                self._fail(job, "the network's answer to this picture is not a number")

    def _predict_in_halves(self, batch: Sequence[PredictionJob], error: Exception, *, whole: bool) -> None:
        """Too large a batch fits in halves, and a picture that the network fails on fails alone."""
        too_large = is_out_of_memory(error)
        if too_large:
            traceback.clear_frames(error.__traceback__)  # which hold what did not fit
            if self._make_room():
                self._predict(batch, whole=whole)
                return
        if len(batch) == 1:
            wait_for(self._device)  # a GPU that has failed fails at everything: then it was not the picture
            log.error("the network failed on a picture", exc_info=error)
            self._fail(batch[0], "the network failed on this picture")
            return
        half = len(batch) // 2
        if too_large:
            self._max_batch = half * self._sharing(whole=whole)
            log.warning("out of memory with %d pictures; from now on %d a batch", len(batch), half)
        self._predict(batch[:half], whole=whole)
        self._predict(batch[half:], whole=whole)

    def _make_room(self) -> bool:
        """Let go of half a gradient step on the device, which its leader has begun; whether there was any."""
        with self._lines.changed:
            leader = self._floor.leader
            return leader is not None and leader.dreams.drop_half()

    def _fail(self, job: PredictionJob, reason: str) -> None:
        self._metrics.failures.labels(Kind.PREDICTION).inc()
        job.fail(ModelFailed(reason))

    def _close(self) -> None:
        if self.open:
            self.open = False
            if self.leads:
                self._floor.leader, self._floor.claimed = None, False
                self._lines.count_open(-1)
