"""The worker's turns, taken one by one by the test, so that nothing depends on time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.checkpoint import Checkpoint, load
from app.engine import EngineLimits, EngineStopped, ModelFailed, QueueFull
from app.engine.jobs import DreamJob, PredictionJob
from app.engine.worker import Worker
from app.explain.dream import DEFAULTS, Dream
from tests.tiny import SIDE, write_checkpoint

if TYPE_CHECKING:
    from app.engine.jobs import Pixels

GREY = np.full((3, SIDE, SIDE), 128, np.uint8)
STEPS = sum(DEFAULTS.steps) + len(DEFAULTS.steps)
WHITE = np.full((3, SIDE, SIDE), 255, np.uint8)


def opened(checkpoint: Checkpoint, **limits: int) -> Worker:
    worker = Worker(checkpoint, EngineLimits(**limits))
    worker.open()
    return worker


def prediction(worker: Worker, pixels: Pixels = GREY, seconds: float = 60.0) -> PredictionJob:
    job = PredictionJob(time.monotonic() + seconds, pixels=pixels)
    worker.submit_prediction(job)
    return job


def dream(worker: Worker, checkpoint: Checkpoint, pixels: Pixels = GREY) -> DreamJob:
    job = DreamJob(time.monotonic() + 60, dream=Dream(pixels, 0, checkpoint, DEFAULTS))
    worker.submit_dream(job)
    return job


def test_a_turn_takes_what_waits_but_never_more_than_the_largest_batch(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint, max_batch=3)
    jobs = [prediction(worker) for _ in range(7)]
    done = []
    for _ in range(3):
        assert worker.take_turn()
        done.append(sum(job.answer.done() for job in jobs))
    assert done == [3, 6, 7]
    assert [job.answer.done() for job in jobs[:3]] == [True] * 3


def test_what_nobody_waits_for_never_reaches_the_device(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint, max_batch=2)
    late, left, wanted = prediction(worker, seconds=-1), prediction(worker), prediction(worker)
    left.answer.cancel()
    worker.take_turn()
    assert wanted.answer.done()
    assert not late.answer.done()  # its waiter has been told by its own clock


def test_those_who_left_make_room(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint, max_predictions=2)
    first = prediction(worker)
    prediction(worker)
    with pytest.raises(QueueFull):
        prediction(worker)
    first.answer.cancel()
    prediction(worker)


def test_predictions_go_before_gradient_steps(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint)
    explained = dream(worker, checkpoint)
    worker.take_turn()
    assert explained.dream.steps_taken == 1
    crowd = [prediction(worker) for _ in range(9)]
    worker.take_turn()
    worker.take_turn()
    assert all(job.answer.done() for job in crowd)
    assert explained.dream.steps_taken == 1
    worker.take_turn()
    assert explained.dream.steps_taken == 2


def test_dreams_share_steps_and_new_ones_join_when_others_leave(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint, running_explanations=2)
    first, second, third = (dream(worker, checkpoint) for _ in range(3))
    for _ in range(STEPS):
        worker.take_turn()
    assert [job.answer.done() for job in (first, second, third)] == [True, True, False]
    assert third.dream.steps_taken == 0
    for _ in range(STEPS):
        worker.take_turn()
    assert third.answer.done()


def test_one_dream_at_a_time_on_a_cpu(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint)
    first, second = dream(worker, checkpoint), dream(worker, checkpoint)
    for _ in range(STEPS):
        worker.take_turn()
    assert (first.answer.done(), second.dream.steps_taken) == (True, 0)


def test_an_abandoned_dream_stops_between_two_steps(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint)
    first, second = dream(worker, checkpoint), dream(worker, checkpoint)
    worker.take_turn()
    first.answer.cancel()
    worker.take_turn()
    assert (first.dream.steps_taken, second.dream.steps_taken) == (1, 1)


def test_a_stopped_worker_finishes_what_it_has_and_takes_no_more(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint, max_batch=1)
    jobs = [prediction(worker) for _ in range(3)]
    explained = dream(worker, checkpoint)
    worker.stop()
    with pytest.raises(EngineStopped):
        prediction(worker)
    turns = 0
    while worker.take_turn():
        turns += 1
    assert turns == 3 + STEPS
    assert all(job.answer.done() for job in jobs)
    assert explained.answer.done()


def test_a_full_turn_of_abandoned_work_is_no_turn(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint)
    gone = [prediction(worker), prediction(worker)]
    for job in gone:
        job.answer.cancel()
    assert worker.take_turn()
    worker.stop()
    assert not worker.take_turn()


def test_a_batch_that_breaks_is_halved_until_the_culprit_is_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("frail")
    frail = load(write_checkpoint(folder, fails_on_white=True), torch.device("cpu"))
    worker = opened(frail)
    jobs = [prediction(worker, WHITE if index == 5 else GREY) for index in range(8)]
    worker.take_turn()
    failed = [index for index, job in enumerate(jobs) if job.answer.exception() is not None]
    assert failed == [5]
    assert isinstance(jobs[5].answer.exception(), ModelFailed)


def test_a_stopped_worker_waits_for_the_dream_of_an_explanation_that_it_accepted(
    checkpoint: Checkpoint,
) -> None:
    worker = opened(checkpoint)
    with worker.explanation():
        job = prediction(worker)
        worker.stop()
        assert worker.take_turn()
        assert job.answer.done()
        explained = dream(worker, checkpoint)  # its prediction is there; only now can the dream be asked for
        for _ in range(STEPS):
            assert worker.take_turn()
        assert explained.answer.done()
        with pytest.raises(EngineStopped):
            prediction(worker)
    assert not worker.take_turn()


def test_what_was_given_up_is_told_to_whoever_asks_for_its_dream(checkpoint: Checkpoint) -> None:
    worker = opened(checkpoint)
    with worker.explanation():
        worker.abandon("for the test")
        with pytest.raises(EngineStopped):
            dream(worker, checkpoint)
        assert not worker.take_turn()
