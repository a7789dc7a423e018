from __future__ import annotations

import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from app.card import Card
from app.checkpoint import sha256_of
from app.main import create_app
from tests.api.process import Process
from tests.api.serving import PATIENCE, serving, slug, wait_until
from tests.api.test_metrics import samples
from tests.pictures import RED, encoded, noise, plain
from tests.tiny import tiny_card, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.settings import Settings

STEPS = ("deepemotion_batch_seconds_count", (("kind", "explanation"),))


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
    with Process("--checkpoint", str(checkpoint_path), DEEPEMOTION_THREADS="1") as started:
        yield started


def test_the_service_as_a_process(process: Process) -> None:
    with httpx.Client(base_url=process.ready(), timeout=PATIENCE) as client:
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
    answers: list[httpx.Response] = []
    with (
        Process("--checkpoint", str(slow_checkpoint), "--threads", "1") as started,
        httpx.Client(base_url=started.ready(), timeout=PATIENCE) as client,
    ):

        def ask() -> None:
            answers.append(client.post("/explain", content=plain()))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: samples(client)[STEPS] > 0)
        assert not answers
        started.process.send_signal(signal.SIGTERM)
        asking.join()
        assert started.end() == 0
    assert [answer.status_code for answer in answers] == [200]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE).is_success
    except httpx.ConnectError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 alone loops back")
def test_where_it_listens_and_how_much_it_writes_can_be_chosen(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    chosen = ("--host", "127.0.0.2", "--port", str(port), "--log-level", "error")
    with Process("--checkpoint", str(path), "--threads", "1", *chosen) as started:
        wait_until(lambda: answers(f"http://127.0.0.2:{port}/readyz"))
        assert not answers(f"http://127.0.0.1:{port}/readyz")
        assert started.log() == []
        path.write_bytes(b"broken")
        started.process.send_signal(signal.SIGHUP)
        wait_until(started.log)
        started.process.send_signal(signal.SIGTERM)
        assert started.end() == 0
        assert [line["level"] for line in started.log()] == ["error"]


def test_a_checkpoint_that_cannot_be_trusted_stops_the_start(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with Process("--checkpoint", str(path)) as refused:
        assert refused.end() != 0
    message = next(line["message"] for line in refused.log() if line["logger"] == "deepemotion.service")
    assert str(message).startswith("cannot start: ")
    assert "SHA256SUMS lists" in str(message)


def test_a_setting_that_cannot_work_stops_the_start() -> None:
    with Process("--device", "gpu") as refused:
        assert refused.end() == 2
    assert refused.lines[0].startswith("device: ")


def test_a_gpu_that_is_not_there_stops_the_start(checkpoint_path: Path) -> None:
    with Process("--checkpoint", str(checkpoint_path), "--device", "cuda:99") as refused:
        assert refused.end() != 0
    assert "torch sees no such GPU" in "".join(refused.lines)
