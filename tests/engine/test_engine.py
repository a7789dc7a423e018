from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.checkpoint import load
from app.engine import DeadlinePassed, Engine, EngineLimits, EngineStopped, ModelFailed, QueueFull
from tests.tiny import LABELS, SIDE, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.checkpoint import Checkpoint
    from app.engine.jobs import Pixels

pytestmark = pytest.mark.anyio


def in_time(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def coloured(red: int, green: int, blue: int) -> Pixels:
    colour = np.array([red, green, blue], np.uint8)
    return np.broadcast_to(colour[:, None, None], (3, SIDE, SIDE)).copy()


RED, GREEN, BLUE, WHITE = (
    coloured(230, 20, 20), coloured(20, 230, 20), coloured(20, 20, 230), coloured(255, 255, 255)
)  # fmt: skip


@asynccontextmanager
async def running(checkpoint: Checkpoint, limits: EngineLimits | None = None) -> AsyncIterator[Engine]:
    engine = Engine(checkpoint, limits or EngineLimits())
    engine.start()
    async with asyncio.timeout(60):
        while not engine.ready:  # noqa: ASYNC110 - the engine has no loop of ours to set an event in
            await asyncio.sleep(0.01)
    yield engine
    await engine.drain(30)


def motionless(checkpoint: Checkpoint, limits: EngineLimits | None = None) -> Engine:
    """An engine that accepts, but whose worker never takes a turn."""
    engine = Engine(checkpoint, limits or EngineLimits())
    engine._worker.open()
    return engine


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("frail")
    return load(write_checkpoint(folder, fails_on_white=True), torch.device("cpu"))


async def test_each_picture_gets_its_own_answer(checkpoint: Checkpoint) -> None:
    pictures = [RED, GREEN, BLUE] * 20
    async with running(checkpoint) as engine:
        answers = await asyncio.gather(*(engine.predict(p, deadline=in_time()) for p in pictures))
    dominant = [LABELS[answer.probabilities.argmax()] for answer in answers]
    assert dominant == ["anger", "joy", "sadness"] * 20
    assert all(abs(answer.probabilities.sum() - 1) < 1e-9 for answer in answers)


async def test_the_answer_does_not_depend_on_the_batch(checkpoint: Checkpoint) -> None:
    async with running(checkpoint) as engine:
        alone = await engine.predict(RED, deadline=in_time())
        together = await asyncio.gather(*(engine.predict(RED, deadline=in_time()) for _ in range(8)))
    for answer in together:
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-6)


async def test_more_than_may_wait_are_refused_at_once(checkpoint: Checkpoint) -> None:
    engine = motionless(checkpoint, EngineLimits(max_predictions=2))
    waiting = [asyncio.create_task(engine.predict(RED, deadline=in_time())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refused:
        await engine.predict(RED, deadline=in_time())
    assert refused.value.retry_after > 0
    for task in waiting:
        task.cancel()


async def test_a_passed_deadline_is_told_at_the_deadline(checkpoint: Checkpoint) -> None:
    with pytest.raises(DeadlinePassed):
        await motionless(checkpoint).predict(RED, deadline=in_time(0.02))


async def test_too_many_explanations_are_refused_before_they_cost_a_prediction(
    checkpoint: Checkpoint,
) -> None:
    engine = motionless(checkpoint, EngineLimits(max_explanations=1, running_explanations=1))
    under_way = [asyncio.create_task(engine.explain(RED, 0, deadline=in_time())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refused:
        await engine.explain(RED, 0, deadline=in_time())
    assert refused.value.retry_after > 0
    assert len(engine._worker._predictions) == 2
    under_way[0].cancel()
    await asyncio.gather(under_way[0], return_exceptions=True)
    with pytest.raises(DeadlinePassed):  # there is room again
        await engine.explain(RED, 0, deadline=in_time(0.01))
    under_way[1].cancel()


async def test_a_picture_that_breaks_the_network_fails_alone(frail: Checkpoint) -> None:
    async with running(frail) as engine:
        answers = await asyncio.gather(
            *(engine.predict(p, deadline=in_time()) for p in (RED, WHITE, GREEN, BLUE)),
            return_exceptions=True,
        )
        again = await engine.predict(RED, deadline=in_time())
    assert isinstance(answers[1], ModelFailed)
    mates = [answers[0], answers[2], answers[3]]
    dominant = [LABELS[a.probabilities.argmax()] for a in mates if not isinstance(a, BaseException)]
    assert dominant == list(LABELS)
    assert LABELS[again.probabilities.argmax()] == "anger"


async def test_nothing_is_taken_before_the_start_or_after_the_end(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineStopped):
        await Engine(checkpoint, EngineLimits()).predict(RED, deadline=in_time())
    async with running(checkpoint) as engine:
        assert engine.ready
    assert not engine.ready
    with pytest.raises(EngineStopped):
        await engine.predict(RED, deadline=in_time())


async def test_draining_answers_everything_that_was_accepted(checkpoint: Checkpoint) -> None:
    async with running(checkpoint, EngineLimits(max_batch=2)) as engine:
        accepted = [asyncio.create_task(engine.predict(GREEN, deadline=in_time())) for _ in range(50)]
        accepted_dream = asyncio.create_task(engine.explain(GREEN, None, deadline=in_time()))
        await asyncio.sleep(0)  # all are accepted, the dream's prediction as the last of them
        await engine.drain(30)
        answers = await asyncio.gather(*accepted)
        assert LABELS[(await accepted_dream).emotion] == "joy"
    assert [LABELS[a.probabilities.argmax()] for a in answers] == ["joy"] * 50
    assert not engine._worker.thread.is_alive()


async def test_what_cannot_be_finished_in_the_grace_time_is_told(checkpoint: Checkpoint) -> None:
    engine = motionless(checkpoint)
    accepted = [asyncio.create_task(engine.predict(GREEN, deadline=in_time())) for _ in range(3)]
    await asyncio.sleep(0)
    await engine.drain(0.01)
    answers = await asyncio.gather(*accepted, return_exceptions=True)
    assert all(isinstance(answer, EngineStopped) for answer in answers)


async def test_explaining_defaults_to_the_dominant_emotion(checkpoint: Checkpoint) -> None:
    async with running(checkpoint) as engine:
        dominant = await engine.explain(GREEN, None, deadline=in_time())
        chosen = await engine.explain(GREEN, LABELS.index("sadness"), deadline=in_time())
    assert LABELS[dominant.emotion] == "joy"
    assert LABELS[chosen.emotion] == "sadness"
    assert dominant.relevance.shape == (SIDE, SIDE)
    assert dominant.rise > 0
    assert chosen.rise > 0
    # More green for joy, more blue for sadness.
    assert dominant.dreamed[1].mean() > GREEN[1].mean()
    assert chosen.dreamed[2].mean() > GREEN[2].mean()


async def test_a_dream_that_breaks_the_network_fails_alone(frail: Checkpoint) -> None:
    async with running(frail, EngineLimits(running_explanations=2)) as engine:
        answers = await asyncio.gather(
            engine.explain(WHITE, 0, deadline=in_time()),
            engine.explain(RED, 0, deadline=in_time()),
            return_exceptions=True,
        )
    assert isinstance(answers[0], ModelFailed)
    assert not isinstance(answers[1], BaseException)
