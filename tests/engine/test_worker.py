"""The workers' turns, taken one by one by the test, so that nothing depends on time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from app.engine import DeviceLost, EngineLimits, EngineStopped, Kind, ModelFailed, QueueFull
from app.loading import load
from tests.engine.harness import BLACK, BLUE, GREEN, GREY, RED, STEPS, WHITE, Bench, felt, limit_memory
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint


def test_a_turn_takes_what_waits_but_never_more_than_the_largest_batch(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_batch=3))
    jobs = [bench.predict() for _ in range(7)]
    done = []
    for _ in range(3):
        bench.turns(1)
        done.append(sum(job.answer.done() for job in jobs))
    assert done == [3, 6, 7]
    assert bench.counted("batch_size_sum", kind="prediction") == 7
    assert bench.counted("batch_size_count", kind="prediction") == 3


def test_what_nobody_waits_for_never_reaches_the_device(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_batch=2))
    late, left, wanted = bench.predict(seconds=1), bench.predict(), bench.predict()
    left.answer.cancel()
    bench.clock.now += 2
    bench.turns(1)
    assert wanted.answer.done()
    assert not late.answer.done()  # its waiter has been told by its own clock
    assert bench.counted("batch_size_sum", kind="prediction") == 1


def test_no_more_wait_than_there_are_places(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_predictions=2))
    bench.predict()
    bench.predict()
    with pytest.raises(QueueFull) as refused:
        bench.predict()
    assert refused.value.retry_after > 0
    assert bench.counted("shed_total", kind="prediction") == 1
    bench.lines.release(Kind.PREDICTION)
    bench.predict()


def test_abandoned_jobs_do_not_pile_up_behind_a_busy_device(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_predictions=3))
    for _ in range(50):
        bench.predict().answer.cancel()
        bench.lines.release(Kind.PREDICTION)
    assert bench.counted("queue_length", kind="prediction") <= 6


def test_who_could_not_be_answered_in_time_is_refused_at_once(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    for _ in range(20):
        bench.lines.learn(Kind.PREDICTION, 1.0)
    for _ in range(6):
        bench.predict(seconds=10)
    with pytest.raises(QueueFull, match="after its deadline") as refused:
        bench.predict(seconds=6)
    assert 0 < refused.value.retry_after < 10
    bench.predict(seconds=60)  # there is room for whoever has more time


def test_who_would_come_to_the_device_too_late_is_refused_at_once(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    bench.before = 9.0  # seconds, for all the pictures that are to be decoded first
    with pytest.raises(QueueFull, match="after its deadline") as refused:
        bench.predict(seconds=10)
    assert refused.value.retry_after == pytest.approx(1, abs=0.1)
    assert bench.counted("shed_total", kind="prediction") == 1
    assert bench.lines.refusal(Kind.PREDICTION, bench.deadline(10)) is not None
    bench.predict(seconds=12)
    bench.lines.hold(Kind.PREDICTION, bench.deadline(10), decoded=True)
    bench.dream()
    bench.before = 0.0
    bench.predict(seconds=10)


def test_an_engine_with_nothing_to_do_refuses_nobody(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    assert bench.lines.refusal(Kind.PREDICTION, bench.deadline(-1)) is None  # it is late, and nothing is full
    for _ in range(50):
        bench.lines.learn(Kind.PREDICTION, 1000.0)
    job = bench.predict(seconds=1)
    bench.turns(1)
    assert job.answer.done()


def test_a_stopped_worker_finishes_what_it_has_and_takes_no_more(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_batch=1))
    jobs = [bench.predict() for _ in range(3)]
    explained = bench.dream()
    bench.lines.stop()
    with pytest.raises(EngineStopped):
        bench.predict()
    bench.turns(3)
    bench.steps(STEPS)
    assert all(job.answer.done() for job in jobs)
    assert explained.answer.done()
    for kind, held in ((Kind.PREDICTION, 3), (Kind.EXPLANATION, 1)):
        for _ in range(held):
            bench.lines.release(kind)
    assert not bench.worker.take_turn()


def test_a_stopped_worker_waits_for_the_dream_of_an_explanation_that_it_accepted(
    checkpoint: Checkpoint,
) -> None:
    bench = Bench(checkpoint)
    bench.lines.hold(Kind.EXPLANATION, bench.deadline())
    bench.lines.stop()
    assert not bench.lines.finished
    bench.lines.release(Kind.EXPLANATION)
    assert bench.lines.finished
    assert not bench.worker.take_turn()


def test_what_was_given_up_is_told_to_whoever_asks_for_its_dream(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    job = bench.dream()
    bench.lines.give_up("for the test")
    assert isinstance(job.answer.exception(0), EngineStopped)
    with pytest.raises(EngineStopped):
        bench.lines.submit(job)
    assert not bench.worker.take_turn()


def test_a_batch_that_breaks_is_halved_until_the_culprit_is_alone(frail: Checkpoint) -> None:
    bench = Bench(frail)
    jobs = [bench.predict(WHITE if index == 5 else GREY) for index in range(8)]
    bench.turns(1)
    failed = [index for index, job in enumerate(jobs) if job.answer.exception(0) is not None]
    assert failed == [5]
    assert isinstance(jobs[5].answer.exception(0), ModelFailed)
    assert bench.counted("failures_total", kind="prediction") == 1


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_and_the_limit_is_remembered(
    checkpoint: Checkpoint, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device, not our code, is what is stood in for: memory cannot be made to run out on demand."""
    sizes: list[int] = []
    limit_memory(monkeypatch, "app.engine.worker.judge", kind, sizes, most=2)
    bench = Bench(checkpoint)
    jobs = [bench.predict(picture) for picture in (RED, GREEN, BLUE, RED, GREEN, BLUE, RED, GREEN)]
    bench.turns(1)
    assert [felt(job) for job in jobs] == [
        "anger",
        "joy",
        "sadness",
        "anger",
        "joy",
        "sadness",
        "anger",
        "joy",
    ]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    sizes.clear()
    more = [bench.predict() for _ in range(4)]
    bench.turns(2)
    assert all(job.answer.done() for job in more)
    assert sizes == [2, 2]


def test_the_next_thread_of_a_device_begins_with_what_fitted(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    limit_memory(monkeypatch, "app.engine.worker.judge", MemoryError, sizes, most=2)
    bench = Bench(checkpoint, EngineLimits(max_batch=8))
    for _ in range(8):
        bench.predict()
    bench.turns(1)
    after = bench.new_worker(0)
    after.learn_from(bench.worker)
    bench.workers = [after]
    sizes.clear()
    for _ in range(4):
        bench.predict()
    bench.turns(2)
    assert sizes == [2, 2]


def test_a_sheet_counts_as_all_its_dreams(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_explanations=16))
    for _ in range(50):
        bench.lines.learn(Kind.EXPLANATION, 0.2)  # seconds of a gradient
    for _ in range(12):  # of 8 s each, within 0.8 of two minutes
        bench.lines.hold(Kind.EXPLANATION, bench.deadline(120), work=8 * 5)
    with pytest.raises(QueueFull, match="after its deadline"):
        bench.lines.hold(Kind.EXPLANATION, bench.deadline(120), work=8 * 5)
    bench.lines.hold(Kind.EXPLANATION, bench.deadline(130), work=5)
    for _ in range(12):
        bench.lines.release(Kind.EXPLANATION, work=8 * 5)
    bench.lines.hold(Kind.EXPLANATION, bench.deadline(30), work=40)


def test_explanations_that_predictions_hold_up_let_fewer_others_in(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    dream = bench.dream()
    while not dream.answer.done():
        bench.turns(1)
        bench.clock.now += 1.0  # in which others have the device
    bench.lines.release(Kind.EXPLANATION)
    bench.lines.hold(Kind.EXPLANATION, bench.deadline(100), work=100)
    with pytest.raises(QueueFull, match="after its deadline"):
        bench.lines.hold(Kind.EXPLANATION, bench.deadline(100), work=100)


def test_two_idle_devices_share_a_burst(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, count=2)
    bench.lines._idle_leaders = 1  # as the other one is when its thread waits
    jobs = [bench.predict() for _ in range(6)]
    bench.turns(1)
    assert sum(job.answer.done() for job in jobs) == 3
    bench.lines._idle_leaders = 0
    bench.workers[1].take_turn()
    assert all(job.answer.done() for job in jobs)


def test_a_batch_is_of_one_model(checkpoint: Checkpoint, frail: Checkpoint) -> None:
    bench = Bench(checkpoint)
    other = bench.model_of(frail)
    jobs = [bench.predict(model=model) for model in (bench.model, bench.model, other, bench.model)]
    done = []
    for _ in range(3):
        bench.turns(1)
        done.append(sum(job.answer.done() for job in jobs))
    assert done == [2, 3, 4]


def test_what_is_on_a_retired_device_is_answered_at_once(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.turns(1)
    warm = bench.worker.warm(bench.model)
    waiting = bench.predict(BLUE)
    bench.worker.retire("for the test")
    assert isinstance(explained.answer.exception(0), DeviceLost)
    assert isinstance(warm.exception(0), DeviceLost)
    assert isinstance(bench.worker.warm(bench.model).exception(0), DeviceLost)
    assert not bench.worker.take_turn()
    assert not bench.lines.accepting
    bench.workers[0] = bench.new_worker(0)
    bench.turns(1)
    assert felt(waiting) == "sadness"  # what only waited is answered by the next


def test_a_worker_that_is_busy_for_too_long_has_hung(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(hang_seconds=5))
    bench.worker._busy_since = bench.clock.now
    bench.clock.now += 4
    assert not bench.worker.hung()
    bench.clock.now += 2
    assert bench.worker.hung()


def test_each_picture_of_a_batch_gets_its_own_novelty_from_the_same_pass(judging: Checkpoint) -> None:
    bench = Bench(judging, EngineLimits(max_batch=4))
    jobs = [bench.predict(pixels) for pixels in (BLACK, RED, GREY, BLACK)]
    before = judging.network.passes
    bench.turns(1)
    assert judging.network.passes == before + 1
    found = [job.answer.result(0).novelty for job in jobs]
    assert found == pytest.approx([10, 0.2354, 2.1326, 10], abs=1e-3)


def test_novelty_survives_the_halving_of_a_batch(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, fails_on_white=True, judges=True)
    bench = Bench(load(path, torch.device("cpu")), EngineLimits(max_batch=4))
    jobs = [bench.predict(pixels) for pixels in (BLACK, WHITE, RED, GREY)]
    bench.turns(1)
    with pytest.raises(ModelFailed):
        jobs[1].answer.result(0)
    found = [jobs[place].answer.result(0).novelty for place in (0, 2, 3)]
    assert found == pytest.approx([10, 0.2354, 2.1326], abs=1e-3)


def test_no_novelty_of_a_checkpoint_that_cannot_tell(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    job = bench.predict(BLACK)
    bench.turns(1)
    assert job.answer.result(0).novelty is None
