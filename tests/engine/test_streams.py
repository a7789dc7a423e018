"""A device with two streams: what takes all of it, and what two workers do beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.checkpoint import judge
from app.engine import DeviceLost, EngineLimits, Kind, QueueFull
from tests.engine.harness import RED, STEPS, Bench, Torch, streaming
from tests.tiny import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.checkpoint import Checkpoint, Judged
    from app.engine.jobs import Pixels

LIMITS = EngineLimits(max_batch=8)


class Two(Bench):
    """One device with two streams, of which the first leads."""

    def __init__(self, checkpoint: Checkpoint, limits: EngineLimits = LIMITS) -> None:
        super().__init__(streaming(checkpoint), limits, streams=2)
        self.leader, self.other = self.workers

    def sizes(self) -> tuple[list[int], list[int]]:
        """Of the batches that were computed with all threads, and with one."""
        whole, stream = self.model.copies[0].compiled, self.model.copies[0].stream
        assert isinstance(whole, Torch)
        assert isinstance(stream, Torch)
        return whole.sizes, stream.sizes


@pytest.fixture
def two(checkpoint: Checkpoint) -> Two:
    return Two(checkpoint)


def begin(work: Callable[[], object] | None) -> Callable[[], object]:
    """The turn that a worker must have begun; to call it is to do the work."""
    assert work is not None
    return work


def test_a_picture_alone_takes_the_whole_device(two: Two) -> None:
    job = two.predict(RED)
    assert two.other._next() is None  # it only ever takes one thread
    work = begin(two.leader._next())
    late = two.predict()
    assert two.other._next() is None
    work()
    two.leader.end_turn()
    assert LABELS[job.answer.result(0).probabilities.argmax()] == "anger"
    assert not late.answer.done()
    assert two.sizes() == ([1], [])


def test_a_picture_alone_leaves_a_processor_to_a_long_decode(two: Two) -> None:
    usual = two.lines._seconds[Kind.PREDICTION]
    for beside, expected in ((0.9 * usual, ([], [1])), (0.1 * usual, ([1], [1])), (0.0, ([1, 1], [1]))):
        two.beside = beside
        job = two.predict(RED)
        two.turns(1)
        assert job.answer.done()
        assert two.sizes() == expected
        two.lines._seconds[Kind.PREDICTION] = usual


def test_pictures_that_wait_together_are_shared_out(two: Two) -> None:
    jobs = [two.predict() for _ in range(6)]
    two.lines._idle = 1  # as the other one is when its thread waits
    one = begin(two.leader._next())
    two.lines._idle = 0
    other = begin(two.other._next())
    other()
    one()
    assert all(job.answer.done() for job in jobs)
    assert two.sizes() == ([], [3, 3])


def test_streams_together_take_no_more_than_the_largest_batch(two: Two) -> None:
    for _ in range(20):
        two.predict()
    begin(two.leader._next())()
    begin(two.other._next())()
    assert two.sizes() == ([], [4, 4])


def test_one_goes_on_while_the_other_computes(two: Two) -> None:
    for _ in range(4):
        two.predict()
    slow = begin(two.leader._next())
    for _ in range(3):
        two.predict()
        begin(two.other._next())()
        two.other.end_turn()
    slow()
    assert two.sizes() == ([], [1, 1, 1, 4])


def test_a_gradient_step_waits_for_both_and_both_for_the_step(two: Two) -> None:
    dreamt = two.dream()
    for _ in range(2):
        two.predict()
    two.lines._idle = 1
    of_leader, of_other = begin(two.leader._next()), begin(two.other._next())
    of_leader()
    two.leader.end_turn()
    assert two.leader._next() is None  # the other still computes
    of_other()
    two.other.end_turn()
    assert two.other._next() is None  # it does not dream
    half = begin(two.leader._next())
    two.predict()
    assert two.other._next() is None
    half()
    two.leader.end_turn()
    begin(two.leader._next())()
    two.leader.end_turn()
    assert two.sizes() == ([1], [1, 1])
    assert dreamt.dream.steps_taken == 0  # predictions go first
    begin(two.leader._next())()
    assert dreamt.dream.steps_taken == 1


def test_a_new_model_is_warmed_up_though_the_streams_never_rest(two: Two) -> None:
    jobs = [two.predict() for _ in range(120)]
    beside = begin(two.other._next())
    warmed = two.leader.warm(two.model_of(two.checkpoint))
    pieces = 0
    while not warmed.done():
        assert two.leader._next() is None  # the other still computes,
        beside()
        two.other.end_turn()
        assert two.other._next() is None  # and lets the leader go first,
        begin(two.leader._next())()
        two.leader.end_turn()
        pieces += 1
        batch, beside = begin(two.leader._next()), begin(two.other._next())  # but not twice in a row
        batch()
        two.leader.end_turn()
    assert warmed.result(0) is None
    assert pieces == 4 + STEPS + 1  # the last of them finds that there is none left
    assert sum(job.answer.done() for job in jobs) >= 4 * pieces


def test_what_waits_when_the_leader_dies_is_predicted_by_the_others(two: Two) -> None:
    job = two.predict(RED)
    two.leader.retire("for the test")
    begin(two.other._next())()
    assert LABELS[job.answer.result(0).probabilities.argmax()] == "anger"
    assert two.sizes() == ([], [1])


def test_a_leader_that_hangs_with_the_whole_device_leaves_it_to_the_others(two: Two) -> None:
    hung = two.predict()
    work = begin(two.leader._next())
    two.predict(RED)
    assert two.other._next() is None
    two.leader.retire("it hangs")
    assert isinstance(hung.answer.exception(0), DeviceLost)
    taken = begin(two.other._next())
    work()  # it comes back after all, and takes nothing away from those who are there now
    two.leader.end_turn()
    after = two.new_worker(0)
    two.dream()
    assert after._next() is None
    taken()
    two.other.end_turn()
    assert after._next() is not None


def test_memory_that_runs_out_halves_the_batches_of_a_stream(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(checkpoint: Checkpoint, pictures: Pixels) -> Judged:
        if len(pictures) > 1:
            raise MemoryError
        return judge(checkpoint, pictures)

    monkeypatch.setattr("app.engine.worker.judge", limited)
    jobs = [two.predict() for _ in range(6)]
    begin(two.other._next())()
    two.other.end_turn()
    begin(two.other._next())()
    assert sum(job.answer.done() for job in jobs) == 5
    assert two.sizes() == ([], [1] * 5)


def test_what_cannot_be_computed_in_streams_is_one_batch_on_the_whole_device(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, LIMITS, streams=2)
    for _ in range(6):
        bench.predict()
    bench.lines._idle = 1
    assert bench.workers[1]._next() is None
    bench.turns(1)
    assert bench.counted("batch_size_sum", kind="prediction") == 6


def test_the_time_of_a_picture_is_that_of_the_whole_device(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(checkpoint: Checkpoint, pictures: Pixels) -> Judged:
        two.clock.now += len(pictures)  # a second for each
        return judge(checkpoint, pictures)

    monkeypatch.setattr("app.engine.worker.judge", slow)
    for _ in range(200):
        two.predict(seconds=1000).answer.add_done_callback(lambda _: two.lines.release(Kind.PREDICTION))
        two.predict(seconds=1000).answer.add_done_callback(lambda _: two.lines.release(Kind.PREDICTION))
        begin(two.other._next())()
        two.other.end_turn()
    for _ in range(10):
        two.predict(seconds=1000)
    with pytest.raises(QueueFull) as refused:  # 11 pictures, half a second each
        two.predict(seconds=1)
    assert refused.value.retry_after == pytest.approx(11 / 2 - 0.8, rel=0.01)


def test_streams_that_never_end_together_do_not_keep_the_device_from_a_dream(two: Two) -> None:
    two.dream()
    two.beside = 1.0  # a long decode, so that each picture alone takes one thread
    two.predict()
    busy, idle = two.other, two.leader
    work = begin(busy._next())
    for _ in range(4):
        two.clock.now += 0.3
        two.predict()
        next_work = begin(idle._next())
        work()
        busy.end_turn()
        busy, idle, work = idle, busy, next_work
    assert idle is two.leader
    assert two.leader._next() is None  # but from now on nobody else begins
    late = two.predict()
    work()
    two.other.end_turn()
    assert two.other._next() is None
    begin(two.leader._next())()
    two.leader.end_turn()
    assert not late.answer.done()  # half a step went before it
    begin(two.leader._next())()
    assert late.answer.done()


def test_a_dream_that_was_late_and_is_given_up_keeps_nobody_waiting(two: Two) -> None:
    dreamt = two.dream()
    for _ in range(2):
        two.predict()
    two.lines._idle = 1
    work = begin(two.other._next())
    two.lines._idle = 0
    begin(two.leader._next())()
    two.leader.end_turn()
    two.clock.now += 2
    assert two.leader._next() is None  # it claims the device
    dreamt.answer.cancel()
    job = two.predict()
    work()
    two.other.end_turn()
    begin(two.leader._next())()
    assert job.answer.done()


def test_of_many_processors_a_picture_alone_takes_all_beside_a_long_decode(checkpoint: Checkpoint) -> None:
    bench = Bench(streaming(checkpoint), LIMITS, streams=4)
    bench.beside = 1.0
    job = bench.predict(RED)
    assert bench.workers[1]._next() is None
    bench.turns(1)
    assert job.answer.done()
