"""Dreams among the turns of a worker, taken one by one by the test: half a gradient step each."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.checkpoint import Checkpoint, judge
from app.engine import DeviceLost, EngineLimits, ModelFailed, dreams
from app.explain import dream
from app.explain.dream import begin_step
from tests.engine.harness import BLUE, GREEN, GREY, RED, STEPS, WHITE, Bench, felt, limit_memory, streaming

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.checkpoint import Judged
    from app.engine.jobs import DreamJob, Pixels
    from app.explain.dream import Dream


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
    sizes = no_room_beside(kept, monkeypatch, "app.engine.worker.judge")
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.turns(1)
    jobs = [bench.predict(RED) for _ in range(4)]
    bench.turns(1)
    assert [felt(job) for job in jobs] == ["anger"] * 4
    assert sizes == [4, 4]
    assert bench.finish(explained).steps == STEPS


def test_dreams_get_on_though_batches_between_their_halves_need_the_memory(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_beside(watch_halves(monkeypatch), monkeypatch, "app.engine.worker.judge")
    bench = Bench(checkpoint)
    explained = bench.dream()
    for _ in range(2 * STEPS):
        if not explained.answer.done():
            bench.turns(1)
        bench.predict()
        bench.turns(1)
    assert explained.answer.result(0).steps == STEPS


def test_another_stream_takes_the_memory_of_half_a_step(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = no_room_beside(watch_halves(monkeypatch), monkeypatch, "app.engine.worker.judge")
    bench = Bench(streaming(checkpoint), streams=2)
    explained = bench.dream()
    bench.turns(1)
    jobs = [bench.predict(RED) for _ in range(4)]
    assert bench.workers[1].take_turn()
    bench.turns(1)
    assert [felt(job) for job in jobs] == ["anger"] * 4
    assert sizes == [4, 4]
    assert bench.finish(explained).steps == STEPS


def test_a_warm_up_takes_the_memory_of_half_a_step(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_beside(watch_halves(monkeypatch), monkeypatch, "app.engine.warming.judge")
    bench = Bench(checkpoint)
    explained = bench.dream()
    bench.turns(1)
    warm = bench.worker.warm(bench.model)
    while not warm.done():
        bench.turns(1)
    assert warm.exception(0) is None
    assert bench.finish(explained).steps == STEPS


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


def test_dreams_that_were_to_be_apart_are_let_go_with_their_model(frail: Checkpoint) -> None:
    bench = Bench(frail, EngineLimits(running_explanations=3))
    jobs = [bench.dream(WHITE), bench.dream(GREY), bench.dream(GREY)]
    bench.turns(1)  # which fails
    for job in jobs:
        job.answer.cancel()
    bench.predict(RED)
    bench.turns(1)
    with bench.lines.changed:  # a turn would wait for ever
        assert bench.worker._next() is None
    assert bench.worker.dreams._apart == []


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


def no_room_beside(
    kept: list[weakref.ref[Callable[[], None]]], monkeypatch: pytest.MonkeyPatch, name: str
) -> list[int]:
    """Let what computes batches run out of memory while half a step is kept; the sizes that it is given."""
    sizes: list[int] = []

    def limited(copy: Checkpoint, pictures: Pixels) -> Judged:
        sizes.append(len(pictures))
        if any(half() is not None for half in kept):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return judge(copy, pictures)

    monkeypatch.setattr(name, limited)
    return sizes


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
