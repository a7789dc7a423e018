from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.checkpoint import Checkpoint
from app.engine import (
    DeadlinePassed,
    DeviceLost,
    Engine,
    EngineLimits,
    EngineStopped,
    Kind,
    Model,
    ModelFailed,
    QueueFull,
)
from app.engine.crew import LONGEST_BACK_OFF, MOST_DEATHS
from app.engine.worker import Worker
from app.loading import load
from app.metrics import Metrics
from tests.engine.harness import BLUE, CPU, GREEN, RED, WHITE, Clock, Torch, streaming
from tests.faults.saboteur import kill
from tests.tiny import LABELS, SIDE, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from concurrent.futures import Future

    from app.devices import Device
    from app.engine import Explanation, Prediction
    from app.engine.jobs import Pixels

pytestmark = pytest.mark.anyio


def in_time(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


class Asked:
    """An engine with its model, asked as the service asks it: with a place."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits | None = None,
        devices: Sequence[Device] = (CPU,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = Model((checkpoint,) * len(devices))
        self.metrics = Metrics()
        self.engine = Engine(devices, limits or EngineLimits(), self.metrics, clock=clock)

    async def predict(self, pixels: Pixels, seconds: float = 30.0) -> Prediction:
        deadline = in_time(seconds)
        with self.engine.place(Kind.PREDICTION, deadline=deadline):
            return await self.engine.predict(self.model, pixels, deadline=deadline)

    async def explain(self, pixels: Pixels, emotion: int | None, seconds: float = 30.0) -> Explanation:
        deadline = in_time(seconds)
        with self.engine.place(Kind.EXPLANATION, deadline=deadline):
            return await self.engine.explain(self.model, pixels, emotion, deadline=deadline)

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while not self.engine.ready:  # noqa: ASYNC110 - the engine has no loop of ours to set an event in
                await asyncio.sleep(0.01)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"deepemotion_{name}", labels) or 0.0


@asynccontextmanager
async def running(
    checkpoint: Checkpoint,
    limits: EngineLimits | None = None,
    devices: Sequence[Device] = (CPU,),
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Asked]:
    asked = Asked(checkpoint, limits, devices, clock)
    asked.engine.start(asked.model)
    await asked.until_ready()
    yield asked
    await asked.engine.drain(30)


def motionless(checkpoint: Checkpoint, limits: EngineLimits | None = None) -> Asked:
    """An engine that accepts, but whose worker never takes a turn."""
    asked = Asked(checkpoint, limits)
    asked.engine._crew.workers[0].take_requests()
    return asked


async def test_each_picture_gets_its_own_answer(checkpoint: Checkpoint) -> None:
    pictures = [RED, GREEN, BLUE] * 20
    async with running(checkpoint) as asked:
        answers = await asyncio.gather(*(asked.predict(picture) for picture in pictures))
    dominant = [LABELS[answer.probabilities.argmax()] for answer in answers]
    assert dominant == ["anger", "joy", "sadness"] * 20
    assert all(abs(answer.probabilities.sum() - 1) < 1e-9 for answer in answers)


async def test_the_answer_does_not_depend_on_the_batch(checkpoint: Checkpoint) -> None:
    async with running(checkpoint) as asked:
        alone = await asked.predict(RED)
        together = await asyncio.gather(*(asked.predict(RED) for _ in range(8)))
    for answer in together:
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-6)


async def test_several_devices_answer_together(checkpoint: Checkpoint) -> None:
    async with running(checkpoint, EngineLimits(max_batch=2), (CPU, CPU, CPU)) as asked:
        answers = await asyncio.gather(*(asked.predict(picture) for picture in [RED, GREEN, BLUE] * 20))
        explained = await asyncio.gather(*(asked.explain(GREEN, None) for _ in range(5)))
    assert [LABELS[a.probabilities.argmax()] for a in answers] == ["anger", "joy", "sadness"] * 20
    assert {LABELS[a.emotion] for a in explained} == {"joy"}


async def test_more_than_may_wait_are_refused_at_once(checkpoint: Checkpoint) -> None:
    asked = motionless(checkpoint, EngineLimits(max_predictions=2))
    waiting = [asyncio.create_task(asked.predict(RED)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refused:
        await asked.predict(RED)
    with pytest.raises(QueueFull):
        asked.engine.check_room(Kind.PREDICTION, deadline=in_time())
    asked.engine.check_room(Kind.EXPLANATION, deadline=in_time())
    assert refused.value.retry_after > 0
    for task in waiting:
        task.cancel()


async def test_a_passed_deadline_is_told_at_the_deadline_and_counted(checkpoint: Checkpoint) -> None:
    asked = motionless(checkpoint)
    with pytest.raises(DeadlinePassed):
        await asked.predict(RED, seconds=0.02)
    assert asked.counted("expired_total", kind="prediction") == 1


async def test_who_leaves_is_counted_and_gives_the_place_back(checkpoint: Checkpoint) -> None:
    asked = motionless(checkpoint, EngineLimits(max_explanations=1, running_explanations=1))
    under_way = [asyncio.create_task(asked.explain(RED, 0)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refused:
        await asked.explain(RED, 0)
    assert refused.value.retry_after > 0
    under_way[0].cancel()
    await asyncio.gather(under_way[0], return_exceptions=True)
    assert asked.counted("abandoned_total", kind="explanation") == 1
    for _ in range(40):
        asked.engine._lines.learn(Kind.EXPLANATION, 0.001)
    with pytest.raises(DeadlinePassed):  # there is room again
        await asked.explain(RED, 0, seconds=0.05)
    under_way[1].cancel()


async def test_a_picture_that_breaks_the_network_fails_alone(frail: Checkpoint) -> None:
    async with running(frail) as asked:
        answers = await asyncio.gather(
            *(asked.predict(picture) for picture in (RED, WHITE, GREEN, BLUE)), return_exceptions=True
        )
        again = await asked.predict(RED)
    assert isinstance(answers[1], ModelFailed)
    mates = [answers[0], answers[2], answers[3]]
    dominant = [LABELS[a.probabilities.argmax()] for a in mates if not isinstance(a, BaseException)]
    assert dominant == list(LABELS)
    assert LABELS[again.probabilities.argmax()] == "anger"


async def test_nothing_is_taken_before_the_start_or_after_the_end(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineStopped):
        await Asked(checkpoint).predict(RED)
    with pytest.raises(EngineStopped):
        await Asked(checkpoint).engine.warm(Model((checkpoint,)))
    async with running(checkpoint) as asked:
        assert asked.engine.ready
    assert not asked.engine.ready
    with pytest.raises(EngineStopped):
        await asked.predict(RED)


async def test_draining_answers_everything_that_was_accepted(checkpoint: Checkpoint) -> None:
    async with running(checkpoint, EngineLimits(max_batch=2)) as asked:
        accepted = [asyncio.create_task(asked.predict(GREEN)) for _ in range(50)]
        accepted_dream = asyncio.create_task(asked.explain(GREEN, None))
        await asyncio.sleep(0)  # all are accepted, the dream's prediction as the last of them
        await asked.engine.drain(30)
        answers = await asyncio.gather(*accepted)
        assert LABELS[(await accepted_dream).emotion] == "joy"
    assert [LABELS[a.probabilities.argmax()] for a in answers] == ["joy"] * 50
    assert not asked.engine._crew.workers[0].thread.is_alive()


async def test_what_cannot_be_finished_in_the_grace_time_is_told(checkpoint: Checkpoint) -> None:
    asked = motionless(checkpoint)
    accepted = [asyncio.create_task(asked.predict(GREEN)) for _ in range(3)]
    await asyncio.sleep(0)
    await asked.engine.drain(0.01)
    answers = await asyncio.gather(*accepted, return_exceptions=True)
    assert all(isinstance(answer, EngineStopped) for answer in answers)


async def test_explaining_defaults_to_the_dominant_emotion(checkpoint: Checkpoint) -> None:
    async with running(checkpoint) as asked:
        dominant = await asked.explain(GREEN, None)
        chosen = await asked.explain(GREEN, LABELS.index("sadness"))
    assert LABELS[dominant.emotion] == "joy"
    assert LABELS[chosen.emotion] == "sadness"
    assert dominant.relevance.shape == (SIDE, SIDE)
    assert dominant.rise > 0
    assert chosen.rise > 0
    # More green for joy, more blue for sadness.
    assert dominant.dreamed[1].mean() > GREEN[1].mean()
    assert chosen.dreamed[2].mean() > GREEN[2].mean()


async def test_a_dream_that_breaks_the_network_fails_alone(frail: Checkpoint) -> None:
    async with running(frail, EngineLimits(running_explanations=2)) as asked:
        answers = await asyncio.gather(asked.explain(WHITE, 0), asked.explain(RED, 0), return_exceptions=True)
    assert isinstance(answers[0], ModelFailed)
    assert not isinstance(answers[1], BaseException)


async def test_a_thread_that_dies_is_replaced_and_what_waited_is_answered(checkpoint: Checkpoint) -> None:
    async with running(checkpoint) as asked:
        first = asked.engine._crew.workers[0].thread
        for _ in range(3):  # an idle thread wakes, and dies, with the next request
            victim = asked.engine._crew.workers[0].thread
            kill(victim)
            results = await asyncio.gather(*(asked.predict(GREEN) for _ in range(5)), return_exceptions=True)
            for result in results:
                assert isinstance(result, DeviceLost) or LABELS[result.probabilities.argmax()] == "joy"  # type: ignore[union-attr]
            async with asyncio.timeout(30):
                while asked.engine._crew.workers[0].thread is victim:  # noqa: ASYNC110 - nothing to wait for
                    await asyncio.sleep(0.01)
            await asked.until_ready()
        assert not first.is_alive()
        assert asked.counted("worker_restarts_total", reason="died") == 3
        assert LABELS[(await asked.predict(RED)).probabilities.argmax()] == "anger"


async def test_streams_answer_together_and_the_death_of_either_is_survived(checkpoint: Checkpoint) -> None:
    device = replace(CPU, streams=2)
    felt = {RED.tobytes(): "anger", GREEN.tobytes(): "joy", BLUE.tobytes(): "sadness"}
    async with running(streaming(checkpoint), devices=[device]) as asked:
        for victim in range(2):
            answers = await asyncio.gather(*(asked.predict(picture) for picture in [RED, GREEN, BLUE] * 20))
            assert [LABELS[a.probabilities.argmax()] for a in answers] == ["anger", "joy", "sadness"] * 20
            explained = await asyncio.gather(*(asked.explain(GREEN, None) for _ in range(3)))
            assert {LABELS[a.emotion] for a in explained} == {"joy"}
            before = asked.engine._crew.workers[victim].thread
            kill(before)
            while asked.engine._crew.workers[victim].thread is before:
                pictures = [RED, GREEN, BLUE] * 5
                results = await asyncio.gather(*map(asked.predict, pictures), return_exceptions=True)
                for picture, result in zip(pictures, results, strict=True):
                    if not isinstance(result, DeviceLost | EngineStopped):
                        assert not isinstance(result, BaseException)
                        assert LABELS[result.probabilities.argmax()] == felt[picture.tobytes()]
            await asked.until_ready()
        assert asked.counted("worker_restarts_total", reason="died") == 2
        whole, stream = asked.model.copies[0].compiled, asked.model.copies[0].stream
        assert isinstance(whole, Torch)
        assert isinstance(stream, Torch)
        assert [size for size in whole.sizes if size > 1] == [8, 8]  # each leader's own warm-up
        assert max(stream.sizes) == 4
    assert not any(worker.thread.is_alive() for worker in asked.engine._crew.workers)


async def test_a_thread_that_cannot_be_started_is_tried_again(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start
    refused = 0

    def start(thread: threading.Thread) -> None:
        nonlocal refused
        if thread.name.startswith("engine") and refused < 2:
            refused += 1
            raise RuntimeError("can't start new thread")
        real(thread)

    async with running(checkpoint) as asked:
        monkeypatch.setattr(threading.Thread, "start", start)
        kill(asked.engine._crew.workers[0].thread)
        with suppress(DeviceLost):
            await asked.predict(GREEN)
        async with asyncio.timeout(30):
            while refused < 2:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.01)
        await asked.until_ready()
        assert asked.counted("worker_restarts_total", reason="died") == 3
        assert LABELS[(await asked.predict(RED)).probabilities.argmax()] == "anger"


async def test_whatever_goes_wrong_the_devices_are_looked_after(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(checkpoint) as asked:
        looked = asyncio.Event()
        real, failed = asked.engine._crew.check, False

        def check() -> None:
            nonlocal failed
            if not failed:
                failed = True
                raise OSError("something else")
            real()
            looked.set()

        monkeypatch.setattr(asked.engine._crew, "check", check)
        await asyncio.wait_for(looked.wait(), 30)
        assert failed


async def test_a_device_that_fails_at_everything_is_lost_and_no_picture_is_blamed(
    frail: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Device) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr("app.engine.worker.wait_for", lost)  # as a GPU's synchronisation does from then on
    async with running(frail) as asked:
        with pytest.raises(DeviceLost):
            await asked.predict(WHITE)
        await asked.until_ready()
        assert asked.counted("worker_restarts_total", reason="died") == 1
        assert LABELS[(await asked.predict(RED)).probabilities.argmax()] == "anger"


class Ahead:
    """Monotonic, and as far ahead as the test says."""

    seconds = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.seconds


async def test_a_device_that_hangs_is_given_up_and_replaced(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The device is a lock that the test holds: an operation that does not come back."""
    held, hangs = threading.Event(), threading.Event()
    limits, clock, patience = EngineLimits(), Ahead(), 3600.0

    class Hanging(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            if bool((pictures.amin() > 254).item()):
                hangs.set()
                held.wait()
            return pictures.float().mean(dim=(2, 3)) / 64

    good = load(write_checkpoint(tmp_path_factory.mktemp("hang")), torch.device("cpu"))
    hanging = Checkpoint(Hanging(), good.card, good.sha256, good.device)  # type: ignore[arg-type]
    try:
        async with running(hanging, limits, clock=clock) as asked:

            async def hung() -> asyncio.Task[Prediction]:
                hangs.clear()
                lost = asyncio.create_task(asked.predict(WHITE, patience))
                assert await asyncio.to_thread(hangs.wait, 30)
                return lost

            lost = await hung()
            waiting = [asyncio.create_task(asked.predict(BLUE, patience)) for _ in range(3)]
            await asyncio.sleep(0)
            assert asked.counted("queue_length", kind="prediction") == 3
            clock.seconds += limits.hang_seconds
            with pytest.raises(DeviceLost):
                await lost
            assert [LABELS[(await task).probabilities.argmax()] for task in waiting] == ["sadness"] * 3
            assert asked.counted("worker_restarts_total", reason="hung") == 1
            assert not asked.engine.beyond_repair
            for _ in range(2):
                lost = await hung()
                clock.seconds += limits.hang_seconds
                with pytest.raises(DeviceLost):
                    await lost
                await asked.until_ready()
            assert asked.engine.beyond_repair
    finally:
        held.set()


async def test_a_worker_that_never_gets_warm_is_tried_again_less_and_less_often(
    checkpoint: Checkpoint,
) -> None:
    broken = Checkpoint(torch.jit.script(torch.nn.Linear(2, 2)), checkpoint.card, "0" * 64, CPU.torch)
    asked = Asked(broken)
    asked.engine.start(asked.model)
    async with asyncio.timeout(30):
        while asked.counted("worker_restarts_total", reason="died") < 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert not asked.engine.ready
    assert not asked.engine.beyond_repair
    with pytest.raises(EngineStopped):
        await asked.predict(RED)
    async with asyncio.timeout(30):
        while not asked.engine.beyond_repair:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert asked.counted("worker_restarts_total", reason="died") == MOST_DEATHS
    await asked.engine.drain(5)


async def test_a_new_model_answers_after_it_was_warmed_up(checkpoint: Checkpoint, frail: Checkpoint) -> None:
    async with running(checkpoint) as asked:
        old = [asyncio.create_task(asked.predict(RED)) for _ in range(20)]
        new = Model((frail,))
        await asked.engine.warm(new)
        asked.model = new
        with pytest.raises(ModelFailed):
            await asked.predict(WHITE)
        assert {LABELS[(await task).probabilities.argmax()] for task in old} == {"anger"}


async def test_who_is_replaced_while_a_new_model_warms_up_is_asked_to_warm_it_up_as_well(
    checkpoint: Checkpoint, frail: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(checkpoint, devices=(CPU, CPU)) as asked:
        first, second = asked.engine._crew.workers
        async with asyncio.timeout(60):
            while not (first.open and second.open):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        warmed: list[int] = []
        second.open = False  # as one is that has just been started

        def warm(worker: Worker, model: Model) -> Future[None]:
            second.open = True
            warmed.append(worker.index)
            return real(worker, model)

        real = Worker.warm
        monkeypatch.setattr(Worker, "warm", warm)
        await asked.engine.warm(Model((frail, frail)))
        assert warmed == [first.index, second.index]


async def test_a_model_that_was_replaced_is_let_go_by_all_streams(checkpoint: Checkpoint) -> None:
    first = streaming(checkpoint)
    async with running(first, devices=(replace(CPU, streams=2),)) as asked:
        old = weakref.ref(asked.model)
        asked.model = Model((streaming(checkpoint),))
        await asked.engine.warm(asked.model)
        await asked.predict(RED)
        gc.collect()
        assert old() is None


def test_a_device_that_is_lost_for_good_is_tried_for_ever() -> None:
    clock = Clock()
    engine = Engine([CPU], EngineLimits(), Metrics(), clock=clock)
    engine._crew._restarts[0] = 5000
    engine._crew.workers[0].died = True
    engine._crew.check()
    assert engine._crew._restart_at[0] == clock.now + LONGEST_BACK_OFF


def test_streams_that_are_late_together_are_one_hang_of_their_device() -> None:
    clock, metrics = Clock(), Metrics()
    engine = Engine([replace(CPU, streams=4)], EngineLimits(hang_seconds=5), metrics, clock=clock)
    for worker in engine._crew.workers:
        worker._busy_since = clock.now
    clock.now += 6  # as when the whole process was frozen
    engine._crew.check()
    restarts = metrics.registry.get_sample_value("deepemotion_worker_restarts_total", {"reason": "hung"})
    assert restarts == 4
    assert not engine.beyond_repair
