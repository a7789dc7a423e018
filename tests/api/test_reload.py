from __future__ import annotations

import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
import torch

from app.checkpoint import CARD_FILE, sha256_of, torchscript
from app.engine import DeviceLost
from tests.api.process import Process
from tests.api.serving import PATIENCE, service, slug, wait_until
from tests.api.test_metrics import samples
from tests.api.test_upload import raw_exchange, status_of
from tests.pictures import RED, plain
from tests.tiny import tiny_card, write_checkpoint, write_sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.settings import Settings

KEY = "correct horse battery staple"
ADMIN = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path)
    return tmp_path


@pytest.fixture
def reloadable(base_settings: Settings, folder: Path) -> Iterator[httpx.Client]:
    settings = base_settings.model_validate(
        base_settings.model_dump() | {"checkpoint": folder / "tiny.pt", "admin_key": KEY}
    )
    with service(settings) as client:
        yield client


def next_version(folder: Path, name: str = "tiny.pt") -> str:
    """Put another checkpoint into the folder and return its digest."""
    card = tiny_card().model_copy(update={"version": "0.0.2"})
    written = write_checkpoint(folder, card=card.model_dump_json())
    if name != written.name:
        shutil.move(written, folder / name)
        write_sums(folder / name)
    return sha256_of(folder / name)


def counted(client: httpx.Client) -> dict[str, float]:
    """How many reloads ended how."""
    found = samples(client)
    return {how: found["deepemotion_reloads_total", (("result", how),)] for how in ("loaded", "refused")}


def test_a_new_checkpoint_takes_over_and_no_request_fails(reloadable: httpx.Client, folder: Path) -> None:
    versions: list[tuple[float, str]] = []  # when each request began, and what answered it
    over = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(base_url=reloadable.base_url, timeout=PATIENCE) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = client.post("/predict", content=plain(RED)).raise_for_status()
                versions.append((began, answer.json()["model"]["version"]))
                assert client.post("/explain", content=plain(RED)).status_code == 200

    asking = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in asking:
        thread.start()
    wait_until(lambda: len(versions) > 5)
    digest = next_version(folder)
    answer = reloadable.post("/v1/model/reload", headers=ADMIN)
    reloaded = time.monotonic()
    assert (answer.status_code, answer.json()["sha256"]) == (200, digest)
    wait_until(lambda: sum(began > reloaded for began, _ in versions.copy()) > 10)
    over.set()
    for thread in asking:
        thread.join()
    assert {version for began, version in versions if began > reloaded} == {"0.0.2"}
    assert reloadable.get("/v1/model").json()["sha256"] == digest
    assert f'sha256="{digest}"' in reloadable.get("/metrics").text
    assert counted(reloadable) == {"loaded": 1, "refused": 0}


def test_another_file_of_the_folder(reloadable: httpx.Client, folder: Path) -> None:
    digest = next_version(folder, "better.pt")
    for body in ({"file": "better.pt"}, {}):  # without a name, the one that answers is read again
        answer = reloadable.post("/v1/model/reload", headers=ADMIN, json=body)
        assert (answer.status_code, answer.json()["sha256"]) == (200, digest)


@pytest.mark.parametrize("name", ["../tiny.pt", "/etc/passwd", "..", "a\\b", "", "none.pt", "SHA256SUMS"])
def test_no_file_from_elsewhere(reloadable: httpx.Client, name: str) -> None:
    before = reloadable.get("/v1/model").json()
    answer = reloadable.post("/v1/model/reload", headers=ADMIN, json={"file": name})
    assert (answer.status_code, slug(answer)) == (422, "checkpoint-refused")
    assert reloadable.get("/v1/model").json() == before


@pytest.mark.parametrize(("key", "status"), [("not the key", 401), (KEY, 413)])
def test_a_huge_body_is_refused_unread(reloadable: httpx.Client, key: str, status: int) -> None:
    answer = raw_exchange(  # waits ten seconds at most for an answer, and no byte of the body is ever sent
        reloadable,
        b"POST /v1/model/reload HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 200000000\r\n\r\n",
    )
    assert status_of(answer) == status


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"file": 1}', b'{"other": "x"}'])
def test_a_wish_that_cannot_be_read(reloadable: httpx.Client, body: bytes) -> None:
    answer = reloadable.post("/v1/model/reload", headers=ADMIN, content=body)
    assert (answer.status_code, slug(answer)) == (422, "invalid-request")


def _changed_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _not_torchscript(path: Path) -> None:
    path.write_bytes(b"hello")
    write_sums(path)


def _wrong_network(path: Path) -> None:
    with torchscript():
        script = torch.jit.script(torch.nn.Linear(2, 2))
        torch.jit.save(script, str(path), _extra_files={CARD_FILE: tiny_card().model_dump_json()})
    write_sums(path)


class _Secretive(torch.nn.Module):
    """A network whose inner layers cannot be had."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().mean(dim=(2, 3))

    @torch.jit.export
    def activations(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"layer": pictures.reshape(7)}


def _fails_while_loading(path: Path) -> None:
    with torchscript():
        script = torch.jit.script(_Secretive())
        torch.jit.save(script, str(path), _extra_files={CARD_FILE: tiny_card().model_dump_json()})
    write_sums(path)


@pytest.mark.parametrize("damage", [_changed_byte, _not_torchscript, _wrong_network, _fails_while_loading])
def test_a_bad_file_leaves_the_old_one_serving_and_says_why(
    reloadable: httpx.Client, folder: Path, damage: object
) -> None:
    assert callable(damage)
    before = reloadable.get("/v1/model").json()
    damage(folder / "tiny.pt")
    answer = reloadable.post("/v1/model/reload", headers=ADMIN)
    assert (answer.status_code, slug(answer)) == (422, "checkpoint-refused")
    assert "tiny.pt" in answer.json()["detail"]
    assert reloadable.get("/readyz").status_code == 200
    assert reloadable.post("/predict", content=plain(RED)).json()["dominant"]["emotion"] == "anger"
    assert reloadable.get("/v1/model").json() == before
    assert counted(reloadable) == {"loaded": 0, "refused": 1}


def test_a_device_that_dies_meanwhile_is_no_fault_of_the_file_s(
    reloadable: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise DeviceLost("the device's thread died")

    monkeypatch.setattr("app.engine.Engine.warm", lost)
    answer = reloadable.post("/v1/model/reload", headers=ADMIN)
    assert (answer.status_code, slug(answer)) == (503, "device-lost")
    assert int(answer.headers["retry-after"]) >= 1
    assert counted(reloadable) == {"loaded": 0, "refused": 0}


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}]
)
def test_nobody_without_the_key(reloadable: httpx.Client, headers: dict[str, str]) -> None:
    answer = reloadable.post("/v1/model/reload", headers=headers)
    assert (answer.status_code, slug(answer)) == (401, "not-allowed")


def test_nobody_at_all_without_a_configured_key(client: httpx.Client) -> None:
    answer = client.post("/v1/model/reload", headers=ADMIN)
    assert (answer.status_code, slug(answer)) == (403, "admin-disabled")


def test_hanging_up_reads_the_checkpoint_again(folder: Path) -> None:
    with Process("--checkpoint", str(folder / "tiny.pt"), "--threads", "1") as started:
        with httpx.Client(base_url=started.ready(), timeout=PATIENCE) as client:
            digest = next_version(folder)
            started.process.send_signal(signal.SIGHUP)
            wait_until(lambda: client.get("/v1/model").json()["sha256"] == digest)
            _changed_byte(folder / "tiny.pt")
            started.process.send_signal(signal.SIGHUP)
            wait_until(lambda: any("refused" in str(line["message"]) for line in started.log()))
            assert client.get("/v1/model").json()["sha256"] == digest
            assert client.post("/predict", content=plain()).status_code == 200
        started.process.send_signal(signal.SIGTERM)
        assert started.end() == 0
