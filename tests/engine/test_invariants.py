"""Any sequence of requests, departures, delays, deaths and reloads keeps what the engine promises.

No request is lost, answered twice, answered with another's result or by another model than it began with, and
no batch is larger than the largest. Hypothesis writes the sequences; the clock moves only when it says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.engine import DeviceLost, EngineLimits, EngineStopped, Kind, QueueFull
from app.engine.jobs import DreamJob, PredictionJob
from app.loading import load
from tests.engine.harness import BLUE, GREEN, RED, STEPS, Bench, streaming
from tests.tiny import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.checkpoint import Checkpoint

PICTURES = {"anger": RED, "joy": GREEN, "sadness": BLUE}
LIMITS = EngineLimits(max_batch=3, max_predictions=6, max_explanations=2, running_explanations=2)
EMOTIONS = st.sampled_from(LABELS)


class Recorder(torch.nn.Module):
    """A network that notes the size of each batch, and dies of the next one when told to.

    Args:
        network: the real one.
        sizes: where batches are noted.
        turn: its logits are turned by so many places, so that each model's answer can be told from another's.
    """

    dies = False

    def __init__(self, network: torch.nn.Module, sizes: list[int], turn: int) -> None:
        super().__init__()
        self.network = network
        self.sizes = sizes
        self.turn = turn

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pictures))
        if Recorder.dies:
            Recorder.dies = False
            raise SystemExit
        logits: torch.Tensor = self.network(pictures)
        return logits.roll(self.turn, 1)


RISES: dict[tuple[str, int], float] = {}


def rise_of(checkpoint: Checkpoint, emotion: str, turn: int) -> float:
    """Of the dream of an emotion's picture by the model with this turn, alone."""
    if (emotion, turn) not in RISES:
        network = Recorder(checkpoint.network, [], turn)
        alone = Bench(replace(checkpoint, network=network))  # type: ignore[arg-type] # any module will do
        job = alone.dream(PICTURES[emotion], LABELS.index(emotion))
        alone.steps(STEPS)
        RISES[emotion, turn] = job.answer.result(0).rise
    return RISES[emotion, turn]


class EngineMachine(RuleBasedStateMachine):
    """The engine under everything that may happen to it."""

    checkpoint: Checkpoint
    devices = 2
    streams = 1

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.bench = Bench(self.turned(0), LIMITS, self.devices, self.streams)
        self.under_way: dict[int, Callable[[], object]] = {}
        self.models = [self.bench.model]
        self.held: list[tuple[PredictionJob | DreamJob, str, int]] = []
        self.times_answered: dict[int, int] = {}
        self.turns: dict[int, int] = {}
        self.deaths = 0

    def turned(self, turn: int) -> Checkpoint:
        network = Recorder(self.checkpoint.network, self.sizes, turn)
        turned = replace(self.checkpoint, network=network)  # type: ignore[arg-type] # any module will do
        return streaming(turned) if self.streams > 1 else turned

    # What clients do.

    @rule(emotion=EMOTIONS, seconds=st.sampled_from([0.5, 5.0, 50.0]))
    def ask_for_a_prediction(self, emotion: str, seconds: float) -> None:
        model = self.models[-1]
        turned = LABELS[(LABELS.index(emotion) + len(self.models) - 1) % 3]
        self.ask(lambda: self.bench.predict(PICTURES[emotion], seconds, model), turned)

    @rule(emotion=EMOTIONS)
    def ask_for_a_dream(self, emotion: str) -> None:
        model = self.models[-1]
        self.ask(lambda: self.bench.dream(PICTURES[emotion], LABELS.index(emotion), model), emotion)

    def ask(self, submit: Callable[[], PredictionJob | DreamJob], emotion: str) -> None:
        try:
            job = submit()
        except QueueFull:
            return
        except EngineStopped:
            assert not any(worker.open and worker.leads for worker in self.bench.workers)
            return
        number = len(self.times_answered)
        self.times_answered[number] = 0
        self.turns[number] = (len(self.models) - 1) % 3
        self.held.append((job, emotion, number))
        succeed = job.succeed

        def counted(result: Any) -> None:
            self.times_answered[number] += 1
            succeed(result)

        job.succeed = counted  # type: ignore[method-assign] # a future itself would take the first in silence

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        job, _, number = data.draw(st.sampled_from(self.held))
        job.answer.cancel()
        self.settle(number)

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    # What happens to the devices.

    @rule(index=st.integers(0, 1))
    def a_worker_begins_a_turn(self, index: int) -> None:
        """Unless all that waits is abandoned: then its thread would only go on waiting."""
        self.begin(index)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_worker_ends_its_turn(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.under_way))))

    def begin(self, index: int) -> None:
        if index not in self.under_way and (work := self.bench.workers[index]._next()) is not None:
            self.under_way[index] = work

    def end(self, index: int) -> None:
        """A turn as the thread takes it: what kills it retires the worker."""
        worker, work = self.bench.workers[index], self.under_way.pop(index)
        try:
            work()
        except SystemExit:
            self.deaths += 1
            worker.retire("for the test")
            return
        worker.end_turn()

    @rule()
    def the_next_batch_kills_its_device(self) -> None:
        Recorder.dies = True

    @precondition(lambda self: any(worker._retired for worker in self.bench.workers))
    @rule()
    def dead_devices_are_replaced(self) -> None:
        for index, worker in enumerate(self.bench.workers):
            if worker._retired and index not in self.under_way:
                self.bench.workers[index] = self.bench.new_worker(index)

    @rule()
    def a_new_model_takes_over(self) -> None:
        self.models.append(self.bench.model_of(self.turned(len(self.models))))

    # What must hold.

    def settle(self, number: int) -> None:
        """Give a request's place back, as its waiter does when it is told."""
        for entry in self.held:
            if entry[2] == number:
                kind = Kind.PREDICTION if isinstance(entry[0], PredictionJob) else Kind.EXPLANATION
                self.bench.lines.release(kind)
        self.held = [entry for entry in self.held if entry[2] != number]

    @invariant()
    def every_answer_is_its_own(self) -> None:
        for job, emotion, number in list(self.held):
            if not job.answer.done():
                continue
            error = job.answer.exception(0)
            if error is not None:
                assert isinstance(error, DeviceLost)
                assert self.deaths
            elif isinstance(job, PredictionJob):
                assert LABELS[job.answer.result(0).probabilities.argmax()] == emotion
            else:
                expected = rise_of(self.checkpoint, emotion, self.turns[number])
                assert job.answer.result(0).rise == pytest.approx(expected, rel=1e-3)
            self.settle(number)

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        assert all(times <= 1 for times in self.times_answered.values())

    @invariant()
    def no_batch_is_too_large(self) -> None:
        assert all(size <= LIMITS.max_batch for size in self.sizes)

    @invariant()
    def who_takes_a_whole_device_is_alone_on_it(self) -> None:
        for floor in self.bench.floors:
            assert not floor._whole or len(floor._on) == 1

    @invariant()
    def lines_are_bounded(self) -> None:
        assert len(self.bench.lines._predictions) <= 2 * LIMITS.max_predictions
        assert len(self.bench.lines._dreams) <= 2 * (LIMITS.max_explanations + 4)

    def teardown(self) -> None:
        """Stop: whatever is still wanted is answered before the last worker ends."""
        Recorder.dies = False
        self.dead_devices_are_replaced()
        self.bench.lines.stop()
        wanted = [job for job, _, _ in self.held if job.wanted(self.bench.clock.now)]
        for _ in range(1000):
            for index in range(len(self.bench.workers)):
                self.begin(index)
            for index in sorted(self.under_way):
                self.end(index)
        self.every_answer_is_its_own()
        assert all(job.answer.done() for job in wanted)
        for _, _, number in list(self.held):
            self.settle(number)
        assert not any(worker.take_turn() for worker in self.bench.workers)


class StreamsMachine(EngineMachine):
    """One device with two streams."""

    devices = 1
    streams = 2


@pytest.mark.parametrize("machine", [EngineMachine, StreamsMachine])
def test_the_engine_keeps_its_promises(checkpoint_path: Path, machine: type[EngineMachine]) -> None:
    machine.checkpoint = load(checkpoint_path, torch.device("cpu"))
    run = settings(
        max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=run)
