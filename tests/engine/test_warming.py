"""Another model is warmed up among the turns of a worker, taken one by one by the test."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import torch

from app.checkpoint import Checkpoint, torchscript
from app.engine import EngineLimits
from app.engine.warming import warm_up
from tests.engine.harness import RED, Bench, felt


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


def test_who_has_lost_the_device_warms_nothing_more_up(checkpoint: Checkpoint) -> None:
    asked: list[int] = []

    def go_on() -> bool:
        asked.append(1)
        return len(asked) < 3

    assert warm_up(checkpoint, 4, go_on) == 4
    assert len(asked) == 3
