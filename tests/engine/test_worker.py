"""The workers' turns, taken one by one by the test, so that nothing depends on time."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.checkpoint import Checkpoint, judge, torchscript
from app.engine import DeviceLost, EngineLimits, EngineStopped, Kind, ModelFailed, QueueFull, dreams
from app.explain import dream
from app.explain.dream import begin_step
from app.loading import load
from tests.engine.harness import BLACK, BLUE, GREEN, GREY, RED, STEPS, WHITE, Bench
from tests.tiny import LABELS, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.checkpoint import Judged
    from app.engine.jobs import DreamJob, Pixels, PredictionJob
    from app.explain.dream import Dream


def felt(job: PredictionJob) -> str:
    return LABELS[job.answer.result(0).probabilities.argmax()]


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("frail")
    return load(write_checkpoint(folder, fails_on_white=True), torch.device("cpu"))


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


def test_an_engine_with_nothing_to_do_refuses_nobody(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    for _ in range(50):
        bench.lines.learn(Kind.PREDICTION, 1000.0)
    job = bench.predict(seconds=1)
    bench.turns(1)
    assert job.answer.done()


def test_predictions_go_before_gradient_steps(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.steps(1)
    assert explained.dream.steps_taken == 1
    crowd = [bench.predict() for _ in range(9)]
    bench.turns(2)
    assert all(job.answer.done() for job in crowd)
    assert explained.dream.steps_taken == 1
    bench.steps(1)
    assert explained.dream.steps_taken == 2


def test_a_prediction_goes_between_the_halves_of_a_gradient_step(checkpoint: Checkpoint) -> None:
    alone = Bench(checkpoint)
    undisturbed = alone.dream(RED, 1)
    alone.steps(STEPS)
    bench = Bench(checkpoint)
    explained = bench.dream(RED, 1)
    for taken in range(STEPS):
        bench.turns(1)
        job = bench.predict(GREEN)
        bench.turns(1)
        assert felt(job) == "joy"
        assert explained.dream.steps_taken == taken
        bench.turns(1)
        assert explained.dream.steps_taken == taken + 1
    found, expected = explained.answer.result(0), undisturbed.answer.result(0)
    assert found.relevance.tobytes() == expected.relevance.tobytes()
    assert bench.counted("batch_seconds_count", kind="explanation") == STEPS


def test_a_step_that_nobody_waits_for_is_left_at_its_half(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    first, second = bench.dream(), bench.dream()
    bench.turns(1)
    first.answer.cancel()
    bench.steps(STEPS)
    assert (first.dream.steps_taken, second.answer.result(0).steps) == (0, STEPS)


def test_half_a_step_that_nobody_waits_for_is_let_go_though_predictions_go_first(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = watch_halves(monkeypatch)
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.turns(1)
    assert kept[0]() is not None
    explained.answer.cancel()
    bench.predict()
    bench.turns(1)
    assert kept[0]() is None


def test_a_batch_that_does_not_fit_beside_half_a_step_takes_its_memory(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = watch_halves(monkeypatch)
    sizes: list[int] = []
    real = judge

    def limited(copy: Checkpoint, pictures: Pixels) -> Judged:
        sizes.append(len(pictures))
        if kept[0]() is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(copy, pictures)

    monkeypatch.setattr("app.engine.worker.judge", limited)
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.turns(1)
    jobs = [bench.predict(RED) for _ in range(4)]
    bench.turns(1)
    assert [felt(job) for job in jobs] == ["anger"] * 4
    assert sizes == [4, 4]
    bench.steps(STEPS)
    assert explained.answer.result(0).steps == STEPS


def test_of_a_step_that_fails_each_dream_takes_its_next_one_alone(
    frail: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = begin_step

    def noted(network: torch.jit.ScriptModule, shared: list[Dream]) -> Callable[[], None]:
        sizes.append(len(shared))
        return real(network, shared)

    monkeypatch.setattr(dreams, "begin_step", noted)
    bench = Bench(frail, EngineLimits(running_explanations=3))
    good, bad, left = bench.dream(GREY), bench.dream(WHITE), bench.dream(GREY)
    bench.turns(1)
    left.answer.cancel()
    bench.turns(2)  # the first alone,
    job = bench.predict(RED)
    bench.turns(2)  # a prediction, and the second
    assert felt(job) == "anger"
    assert isinstance(bad.answer.exception(0), ModelFailed)
    bench.steps(STEPS - 1)
    assert good.answer.result(0).steps == STEPS
    assert sizes == [3] + [1] * (STEPS + 1)


def test_a_device_that_fails_at_everything_ends_its_thread_and_blames_no_dream(
    frail: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(dreams, "wait_for", lost)
    bench = Bench(frail)
    job = bench.dream(WHITE)
    with pytest.raises(RuntimeError, match="launch failure"):
        bench.turns(1)
    assert not job.answer.done()


def watch_halves(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Callable[[], None]]]:
    """Every half of a step that is kept to be finished."""
    kept: list[weakref.ref[Callable[[], None]]] = []
    real = begin_step

    def watched(network: torch.jit.ScriptModule, shared: list[Dream]) -> Callable[[], None]:
        finish = real(network, shared)
        kept.append(weakref.ref(finish))
        return finish

    monkeypatch.setattr(dreams, "begin_step", watched)
    return kept


def test_dreams_share_steps_and_new_ones_join_when_others_leave(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(running_explanations=2))
    first, second, third = (bench.dream() for _ in range(3))
    bench.steps(STEPS)
    assert [job.answer.done() for job in (first, second, third)] == [True, True, False]
    bench.steps(STEPS)
    assert third.answer.done()
    assert bench.counted("batch_size_sum", kind="explanation") == 3 * STEPS


def test_dreams_of_two_layers_take_their_own_steps(judging: Checkpoint) -> None:
    alone = Bench(judging)
    lonely = alone.dream(RED, layer="smooth")
    alone.steps(STEPS)
    bench = Bench(judging, EngineLimits(running_explanations=2))
    one, other = bench.dream(RED, layer="smooth"), bench.dream(RED, layer="squashed")
    bench.steps(2 * STEPS)
    assert one.answer.result(0).relevance.tobytes() == lonely.answer.result(0).relevance.tobytes()
    assert other.answer.result(0).relevance.tobytes() != lonely.answer.result(0).relevance.tobytes()


def test_a_dream_joins_between_the_steps_of_another(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(running_explanations=2))
    first = bench.dream(RED)
    bench.steps(1)
    second = bench.dream(GREEN)
    bench.steps(1)
    assert (first.dream.steps_taken, second.dream.steps_taken) == (2, 1)


def test_a_dream_is_the_same_alone_and_in_company(checkpoint: Checkpoint) -> None:
    alone = Bench(checkpoint)
    lonely = alone.dream(RED, 1)
    alone.steps(STEPS)
    bench = Bench(checkpoint, EngineLimits(running_explanations=3))
    crowd = [bench.dream(RED, 1), bench.dream(GREEN, 0), bench.dream(BLUE, 2)]
    bench.steps(STEPS)
    expected, found = lonely.answer.result(0), crowd[0].answer.result(0)
    np.testing.assert_allclose(found.relevance, expected.relevance, atol=1e-5)
    assert crowd[1].answer.result(0).relevance.shape == expected.relevance.shape


def test_one_dream_at_a_time_on_a_cpu(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    first, second = bench.dream(), bench.dream()
    bench.steps(STEPS)
    assert (first.answer.done(), second.started) == (True, None)


def test_an_abandoned_dream_stops_between_two_steps(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    first, second = bench.dream(), bench.dream()
    bench.steps(1)
    first.answer.cancel()
    bench.steps(1)
    assert (first.dream.steps_taken, second.dream.steps_taken) == (1, 1)


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


def test_out_of_memory_in_a_gradient_step_lets_fewer_dreams_share_it(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    limit_memory(monkeypatch, "app.engine.dreams.begin_step", torch.OutOfMemoryError, sizes, most=2)
    bench = Bench(checkpoint, EngineLimits(running_explanations=4))
    jobs: list[DreamJob] = [bench.dream() for _ in range(4)]
    bench.turns(1)  # which fails
    bench.steps(2 * STEPS)
    assert all(job.answer.result(0).steps == STEPS for job in jobs)
    assert sizes == [4] + [2] * (2 * STEPS)


@pytest.mark.parametrize("place", ["balanced", "_blur"])
def test_what_fails_after_the_gradient_leaves_each_dream_where_it_was(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 256, RED.shape, np.uint8) for seed in range(2)]
    alone = Bench(checkpoint)
    wanted = [alone.dream(picture) for picture in pictures]
    alone.steps(2 * STEPS)
    real: Callable[..., object] = getattr(dream, place)
    calls = 0

    def fails_once(*given: object) -> object:
        nonlocal calls
        calls += 1
        # Of two dreams that share their steps, the second: in the balance, or in its climb after two hazes.
        if calls == (2 if place == "balanced" else 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*given)

    monkeypatch.setattr(dream, place, fails_once)
    bench = Bench(checkpoint, EngineLimits(running_explanations=2))
    jobs = [bench.dream(picture) for picture in pictures]
    while not all(job.answer.done() for job in jobs):
        bench.turns(1)
    assert calls > 2
    for job, expected in zip(jobs, wanted, strict=True):
        found = job.answer.result(0)
        assert found.steps == STEPS
        assert found.rise == pytest.approx(expected.answer.result(0).rise, abs=1e-4)
        assert found.relevance == pytest.approx(expected.answer.result(0).relevance, abs=1e-4)


@pytest.mark.parametrize("half", ["first", "second"])
def test_what_did_not_fit_is_let_go_before_the_next_try(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    class Activations:
        """What a gradient needs memory for."""

    kept: list[weakref.ref[Activations]] = []

    def limited(network: torch.jit.ScriptModule, shared: list[Dream]) -> Callable[[], None]:
        if len(shared) == 1:
            assert kept[0]() is None
            return begin_step(network, shared)
        held = Activations()
        kept.append(weakref.ref(held))
        if half == "first":
            raise torch.OutOfMemoryError("CUDA out of memory")

        def finish() -> None:
            assert held
            raise torch.OutOfMemoryError("CUDA out of memory")

        return finish

    monkeypatch.setattr(dreams, "begin_step", limited)
    bench = Bench(checkpoint, EngineLimits(running_explanations=2))
    jobs = [bench.dream() for _ in range(2)]
    bench.turns(1 if half == "first" else 2)
    bench.steps(2 * STEPS)
    assert [job.answer.result(0).steps for job in jobs] == [STEPS] * 2


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


def test_a_dream_whose_result_cannot_be_had_fails_at_once(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(checkpoint, EngineLimits(running_explanations=2))
    good, bad = bench.dream(), bench.dream()
    monkeypatch.setattr(bad, "result", lambda: 1 // 0)
    bench.steps(STEPS)
    assert good.answer.result(0).steps == STEPS
    assert isinstance(bad.answer.exception(0), ModelFailed)


def test_a_thread_that_dies_with_a_finished_dream_in_hand_answers_it(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(checkpoint)
    job = bench.dream()

    def die() -> None:
        raise SystemExit

    monkeypatch.setattr(job, "result", die)
    with pytest.raises(SystemExit):
        bench.steps(STEPS)
    bench.worker.retire("the thread died")
    assert isinstance(job.answer.exception(0), DeviceLost)


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


def test_a_model_that_could_not_be_warmed_up_is_not_kept(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    with torchscript():
        network = torch.jit.script(torch.nn.Linear(2, 2))
    broken = replace(checkpoint, network=network)
    done = bench.worker.warm(bench.model_of(broken))
    bench.turns(1)
    assert done.exception(0) is not None
    kept = weakref.ref(broken)
    del broken, network, done
    gc.collect()
    assert kept() is None


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Exception], sizes: list[int], *, most: int
) -> None:
    """Let a function of the device raise as if memory were out, for more than `most` pictures."""
    module, _, attribute = name.rpartition(".")
    real: Callable[..., object] = getattr(__import__(module, fromlist=[attribute]), attribute)

    def limited(device: object, pictures: list[object]) -> object:
        sizes.append(len(pictures))
        if len(pictures) > most:
            raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 bytes")
        return real(device, pictures)

    monkeypatch.setattr(name, limited)


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


def test_a_new_model_is_warmed_up_between_predictions(checkpoint: Checkpoint, frail: Checkpoint) -> None:
    bench = Bench(checkpoint, EngineLimits(max_batch=1))
    warm = bench.worker.warm(bench.model_of(frail))
    jobs = [bench.predict() for _ in range(30)]
    turns = 0
    while not warm.done():
        bench.turns(1)
        turns += 1
    assert warm.result(0) is None
    answered = sum(job.answer.done() for job in jobs)
    assert answered >= turns // 2 - 1  # never two pieces of warming up in a row


def test_a_warm_up_that_stood_back_for_somebody_who_left_goes_on(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    warm = bench.worker.warm(bench.model)
    bench.turns(1)
    bench.predict().answer.cancel()
    with bench.lines.changed:  # a turn would wait for ever
        assert bench.worker._next() is not None
    assert not warm.done()


def test_a_model_that_cannot_run_fails_to_warm_up_and_hurts_nobody(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    broken = torch.jit.script(torch.nn.Linear(2, 2))
    other = Checkpoint(broken, checkpoint.card, "0" * 64, torch.device("cpu"))
    warm = bench.worker.warm(bench.model_of(other))
    job = bench.predict(RED)
    bench.turns(2)
    assert warm.exception(0) is not None
    assert felt(job) == "anger"


def test_warming_up_for_somebody_who_has_left_hurts_nobody(checkpoint: Checkpoint) -> None:
    bench = Bench(checkpoint)
    warm = bench.worker.warm(bench.model)
    bench.turns(1)
    warm.cancel()
    job = bench.predict(RED)
    while not warm.done():
        bench.turns(1)
    assert warm.exception(0) is None
    assert felt(job) == "anger"


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
