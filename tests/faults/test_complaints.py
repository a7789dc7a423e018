"""What users of other model servers complain of, each as a test of this one.

The names in brackets are the threads where it was reported.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from app.engine import EngineLimits
from app.main import create_app
from app.settings import Settings
from tests.api.serving import PATIENCE, service, serving, slug, wait_until
from tests.api.test_metrics import samples
from tests.engine.harness import CPU, GREEN, STEPS, Bench
from tests.faults.saboteur import kill
from tests.pictures import BLUE, RED, plain
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from app.api.deps import Service
    from app.checkpoint import Checkpoint
    from app.devices import Device

PREDICTIONS = (("kind", "prediction"),)


def parts(app: FastAPI) -> Service:
    """The running service's parts."""
    running: Service = app.state.service
    return running


def on_the_device(client: httpx.Client) -> float:
    """Pictures that the device has predicted so far."""
    return samples(client).get(("deepemotion_batch_size_sum", PREDICTIONS), 0.0)


@pytest.fixture
def slow(base_settings: Settings, slow_checkpoint: Path) -> Iterator[httpx.Client]:
    settings = base_settings.model_copy(update={"checkpoint": slow_checkpoint, "max_batch": 4})
    with service(settings) as client:
        yield client


def together(count: int, ask: Callable[[int], object]) -> list[threading.Thread]:
    """Start as many threads; the caller joins them."""
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_timeout_also_ends_work_that_is_running(checkpoint: Checkpoint, slow: httpx.Client) -> None:
    """[LitServe#423, PR#63, #52] The client is told in time, and the dream takes no further step."""
    answer = slow.post("/explain", content=plain(), headers={"X-DeepEmotion-Timeout": "0.4"})
    assert (answer.status_code, slug(answer)) == (504, "deadline-passed")
    bench = Bench(checkpoint)
    late, next_one = bench.dream(), bench.dream()
    bench.steps(1)
    late.deadline = bench.clock.now - 1
    bench.steps(1)
    assert (late.dream.steps_taken, next_one.dream.steps_taken) == (1, 1)


def test_disconnected_clients_are_not_computed(slow: httpx.Client) -> None:
    """[LitServe PR#208]"""
    before = on_the_device(slow)

    def leave(_index: int) -> None:
        with pytest.raises(httpx.ReadTimeout):
            slow.post("/predict", content=plain(), timeout=0.15)

    busy = together(1, lambda _: slow.post("/explain", content=plain()))
    for _ in range(4):
        # They stay for half as long as a turn of the device takes: one batch of four at most begins then.
        for thread in together(8, leave):
            thread.join()
    busy[0].join()
    reached = on_the_device(slow) - before - 1  # the explanation's own
    assert reached <= 4 * 4
    wait_until(lambda: samples(slow)["deepemotion_abandoned_total", PREDICTIONS] >= 4 * 8 - reached)


def test_a_batch_has_never_one_picture_too_many(checkpoint: Checkpoint) -> None:
    """[LitServe PR#23; BentoML#3710, #3859]"""
    for largest in (1, 2, 3, 8):
        bench = Bench(checkpoint, EngineLimits(max_batch=largest))
        for _ in range(3 * largest + 1):
            bench.predict()
        sizes: list[float] = []
        for _ in range(4):
            before = bench.counted("batch_size_sum", kind="prediction")
            bench.turns(1)
            sizes.append(bench.counted("batch_size_sum", kind="prediction") - before)
        assert sizes == [largest, largest, largest, 1]


def test_several_devices_answer_what_one_does(
    base_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[LitServe#26]"""
    devices: tuple[Device, ...] = (CPU,) * 4
    monkeypatch.setattr("app.main.choose_devices", lambda *_, **_more: devices)
    statuses: list[int] = []
    with service(base_settings) as client:
        assert client.get("/v1/model").json()["devices"] == ["cpu"] * 4

        def ask(_index: int) -> None:
            statuses.extend(client.post("/predict", content=plain()).status_code for _ in range(20))

        for thread in together(8, ask):
            thread.join()
    assert statuses == [200] * 160


def test_batching_makes_no_service_busy(client: httpx.Client) -> None:
    """[BentoML#3200, #4265]"""
    statuses: list[int] = []

    def ask(_index: int) -> None:
        statuses.extend(client.post("/predict", content=plain()).status_code for _ in range(10))

    for thread in together(16, ask):
        thread.join()
    assert statuses == [200] * 160


def test_an_idle_device_waits_for_no_second_picture(checkpoint: Checkpoint) -> None:
    """[BentoML#1530, PR#3630, PR#5348] There is no time to wait, so none to misunderstand."""
    bench = Bench(checkpoint, EngineLimits(max_batch=64))
    job = bench.predict()
    bench.turns(1)
    assert job.answer.result(0).queue_seconds == 0
    assert [name for name in Settings.model_fields if "wait" in name or "delay" in name] == []


def test_what_arrives_while_the_device_is_busy_is_one_batch(slow: httpx.Client) -> None:
    """[BentoML#4670; Triton#3624, #6316]"""
    before = samples(slow)
    for thread in together(12, lambda _: slow.post("/predict", content=plain())):
        thread.join()
    found = samples(slow)
    pictures, batches = (
        found[f"deepemotion_batch_size_{what}", PREDICTIONS]
        - before.get((f"deepemotion_batch_size_{what}", PREDICTIONS), 0.0)
        for what in ("sum", "count")
    )
    assert pictures == 12
    assert batches < 8


def test_the_abandoned_poison_no_later_batch(slow: httpx.Client) -> None:
    """[ray#41057]"""
    answers: list[str] = []

    def ask(index: int) -> None:
        if index % 2:
            with pytest.raises(httpx.ReadTimeout):
                slow.post("/predict", content=plain(RED), timeout=0.05 + 0.02 * index)
        else:
            colour = RED if index % 4 else BLUE
            answer = slow.post("/predict", content=plain(colour)).json()["dominant"]["emotion"]
            answers.append(f"{answer} {'anger' if colour == RED else 'sadness'}")

    for thread in together(12, ask):
        thread.join()
    assert len(answers) == 6
    assert all(answer.split()[0] == answer.split()[1] for answer in answers)


def test_a_loop_that_ends_is_noticed_and_started_again(base_settings: Settings) -> None:
    """[ray#38249] Also after years: nothing counts on how long it has run."""
    app = create_app(base_settings)
    with serving(app) as client:
        engine = parts(app).engine
        victim = engine._crew.workers[0].thread
        kill(victim)
        statuses = {client.post("/predict", content=plain()).status_code for _ in range(3)}
        assert statuses <= {200, 503}
        wait_until(lambda: engine._crew.workers[0].thread is not victim)
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/predict", content=plain()).status_code == 200
        found = samples(client)
    assert found["deepemotion_worker_restarts_total", (("reason", "died"),)] == 1


def test_a_year_is_like_a_second(checkpoint: Checkpoint) -> None:
    """[ray#38249]"""
    bench = Bench(checkpoint)
    for _ in range(3):
        bench.clock.now += 365 * 86400.0
        job, explained = bench.predict(), bench.dream(GREEN)
        bench.turns(1)
        bench.steps(STEPS)
        assert job.answer.done()
        assert explained.answer.done()
        assert not bench.worker.hung()


def test_no_counter_leaks_however_a_request_ends(tmp_path: Path, base_settings: Settings) -> None:
    """[LitServe's RequestCountMiddleware] After every kind of end, nothing is held."""
    frail = write_checkpoint(tmp_path, fails_on_white=True)
    app = create_app(base_settings.model_copy(update={"checkpoint": frail, "max_upload_bytes": 50_000}))
    with serving(app) as client:
        ends: list[tuple[str, bytes, int]] = [
            (path, data, status)
            for path in ("/predict", "/explain")
            for data, status in (
                (plain(), 200),
                (b"hello", 415),
                (b"", 400),
                (plain()[:80], 422),
                (plain((255, 255, 255)), 500),
                (bytes(60_000), 413),
            )
        ]
        for path, data, status in ends:
            assert client.post(path, content=data).status_code == status
            late = client.post(path, content=data, headers={"X-DeepEmotion-Timeout": "0.000001"})
            assert late.status_code in {504, 413, 503}
            with httpx.Client(base_url=client.base_url, timeout=0.001) as hasty:
                for _ in range(3):
                    try:
                        hasty.post(path, content=data)
                    except httpx.TransportError:
                        continue
        held = parts(app)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and (held.uploads.used or any(held.engine._lines._held.values())):
            time.sleep(0.01)
        assert held.uploads.used == 0
        assert set(held.engine._lines._held.values()) == {0}
        wait_until(lambda: (held.decoding._count, held.drawing._count) == (0, 0))
        assert client.post("/predict", content=plain()).status_code == 200
