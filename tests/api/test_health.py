from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from app.card import Card
from app.checkpoint import sha256_of
from app.main import create_app
from tests.api.process import Process
from tests.api.serving import PATIENCE, serving, slug, wait_until
from tests.pictures import RED, encoded, noise, plain
from tests.tiny import tiny_card, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.settings import Settings


def test_alive(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}


def test_ready(client: httpx.Client) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}


def test_alive_but_not_ready_while_warming_up(base_settings: Settings, slow_checkpoint: Path) -> None:
    app = create_app(base_settings.model_copy(update={"checkpoint": slow_checkpoint}))
    with serving(app, wait_for_warmth=False) as cold:
        assert cold.get("/healthz").status_code == 200
        for response in (cold.get("/readyz"), cold.post("/predict", content=plain())):
            assert (response.status_code, slug(response)) == (503, "not-ready")
            assert int(response.headers["retry-after"]) >= 1
        assert cold.get("/v1/model").status_code == 200


def test_model(client: httpx.Client, checkpoint_path: Path) -> None:
    answer = client.get("/v1/model").json()
    assert Card.model_validate(answer["card"]) == tiny_card()
    assert answer["sha256"] == sha256_of(checkpoint_path)
    assert answer["devices"] == ["cpu"]


@pytest.fixture
def process(checkpoint_path: Path) -> Iterator[Process]:
    started = Process("--checkpoint", str(checkpoint_path), DEEPEMOTION_THREADS="1")
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.end()


def test_the_service_as_a_process(process: Process) -> None:
    with httpx.Client(base_url=process.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        files = {"file": ("secret-name.png", plain(RED))}
        form = client.post("/predict", files=files, headers={"X-Request-ID": "mine"})
        raw = client.post("/predict", content=plain(RED))
        assert form.json()["dominant"] == raw.json()["dominant"]
        assert client.post("/explain", content=encoded(noise((30, 20)))).status_code == 200
        assert "server" not in form.headers
    process.process.send_signal(signal.SIGTERM)
    assert process.end() == 0
    line = next(line for line in process.log() if line.get("request_id") == "mine")
    milliseconds = line.pop("ms")
    assert isinstance(milliseconds, float)
    assert milliseconds > 0
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "deepemotion.request",
        "message": "request",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "request_id": "mine",
        "width": 64,
        "height": 48,
        "format": "PNG",
    }
    assert "secret-name" not in "".join(process.lines)


def test_sigterm_lets_an_accepted_request_finish(slow_checkpoint: Path) -> None:
    started = Process("--checkpoint", str(slow_checkpoint), "--threads", "1")
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=started.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)

        def ask() -> None:
            answers.append(client.post("/explain", content=plain()))

        asking = threading.Thread(target=ask)
        asking.start()
        # The slow network takes many times as long for an explanation; the request is in it.
        asking.join(0.2)
        assert not answers
        started.process.send_signal(signal.SIGTERM)
        asking.join()
    assert started.end() == 0
    assert [answer.status_code for answer in answers] == [200]


def test_a_checkpoint_that_cannot_be_trusted_stops_the_start(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    refused = Process("--checkpoint", str(path))
    assert refused.end() != 0
    message = next(line["message"] for line in refused.log() if line["logger"] == "deepemotion.service")
    assert str(message).startswith("cannot start: ")
    assert "SHA256SUMS lists" in str(message)


def test_a_setting_that_cannot_work_stops_the_start() -> None:
    refused = Process("--device", "gpu")
    assert refused.end() == 2
    assert refused.lines[0].startswith("device: ")


def test_a_gpu_that_is_not_there_stops_the_start(checkpoint_path: Path) -> None:
    refused = Process("--checkpoint", str(checkpoint_path), "--device", "cuda:99")
    assert refused.end() != 0
    assert "torch sees no such GPU" in "".join(refused.lines)
