"""API keys: who may ask what, and how the list of them changes."""

from __future__ import annotations

import errno
import hmac
import json
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from app.client import Client, ServiceError
from app.keys import Keys, KeysError, line_of, new_key
from app.main import create_app
from app.settings import Settings
from tests.api.serving import service, slug
from tests.api.test_upload import raw_exchange, status_of
from tests.pictures import RED, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ADMIN_KEY = "correct horse battery staple"
ALICE, BOB = new_key(), new_key()
CLOSED = [
    ("POST", "/predict"),
    ("POST", "/explain"),
    ("POST", "/v1/predict"),
    ("POST", "/v1/explain"),
    ("POST", "/v1/predict/batch"),
    ("GET", "/v1/model"),
    ("POST", "/v1/model/reload"),
    ("POST", "/v2/models/tiny/infer"),
    ("POST", "/v2/models/tiny/versions/0.0.1/infer"),
    ("GET", "/metrics"),
]
OPEN = [
    "/",
    "/card",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/web/page.js",
    "/v2",
    "/v2/models/tiny",
]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n\n{line_of('alice', ALICE)}\n{line_of('bob', BOB)}\n", "utf-8")
    return path


@pytest.fixture
def locked(base_settings: Settings, keys_file: Path) -> Iterator[httpx.Client]:
    chosen = {"keys_file": keys_file, "admin_key": ADMIN_KEY, "metrics_need_admin_key": True}
    with service(Settings.model_validate(base_settings.model_dump() | chosen)) as client:
        yield client


@pytest.mark.parametrize(
    "headers", [{}, bearer("de_wrong"), {"Authorization": "Bearer"}, {"Authorization": f"Basic {ALICE}"}]
)
def test_nobody_without_a_key(locked: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in CLOSED:
        answer = locked.request(method, path, headers=headers, content=plain() if method == "POST" else None)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert slug(locked.post("/predict", headers=headers)) == "key-needed"
    for path in OPEN:
        assert locked.get(path, headers=headers).status_code == 200, path


def test_an_api_key_is_no_admin_key_nor_the_other_way_round(locked: httpx.Client) -> None:
    for path in ("/v1/model/reload", "/metrics"):
        answer = locked.request("GET" if path == "/metrics" else "POST", path, headers=bearer(ALICE))
        assert (answer.status_code, slug(answer)) == (401, "not-allowed")
        method = "GET" if path == "/metrics" else "POST"
        assert locked.request(method, path, headers=bearer(ADMIN_KEY)).status_code == 200
    assert locked.post("/predict", headers=bearer(ADMIN_KEY), content=plain()).status_code == 401


def test_without_a_key_the_body_is_not_read(locked: httpx.Client) -> None:
    answer = raw_exchange(  # waits ten seconds at most, and no byte of the body is ever sent
        locked, b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 9999999\r\n\r\n"
    )
    assert status_of(answer) == 401


def test_the_client_sends_its_key(locked: httpx.Client) -> None:
    for key in (ALICE, BOB):
        with Client(str(locked.base_url), api_key=key) as client:
            assert client.predict(plain(RED)).dominant.emotion == "anger"
    with Client(str(locked.base_url)) as client, pytest.raises(ServiceError) as raised:
        client.predict(plain(RED))
    assert (raised.value.status, raised.value.slug) == (401, "key-needed")


def test_the_log_says_whose_key_and_never_the_key(
    locked: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        locked.post("/predict", headers=bearer(BOB), content=plain())
        locked.post("/predict", headers=bearer("de_wrong"), content=plain())
    written = json.dumps([[record.getMessage(), getattr(record, "fields", {})] for record in caplog.records])
    assert '"key": "bob"' in written
    assert BOB not in written
    assert "de_wrong" not in written


def test_keys_are_added_and_taken_away_without_a_restart(locked: httpx.Client, keys_file: Path) -> None:
    carol = new_key()
    replacement = keys_file.with_name("next")
    replacement.write_text(f"{line_of('alice', carol)}\n{line_of('alice', ALICE)}\n", "utf-8")
    replacement.replace(keys_file)
    statuses = [locked.get("/v1/model", headers=bearer(key)).status_code for key in (ALICE, BOB, carol)]
    assert statuses == [200, 401, 200]


@pytest.mark.parametrize("damage", ["delete", "nonsense"])
def test_a_file_that_cannot_be_used_lets_nobody_in_until_it_can(
    locked: httpx.Client, keys_file: Path, damage: str
) -> None:
    before = keys_file.read_text("utf-8")
    if damage == "delete":
        keys_file.unlink()
    else:
        keys_file.write_text(f"{before}alice secret-put-here-by-mistake\n", "utf-8")
    answer = locked.post("/predict", headers=bearer(ALICE), content=plain())
    assert (answer.status_code, slug(answer)) == (503, "keys-unreadable")
    assert "mistake" not in answer.text
    assert locked.get("/healthz").status_code == 200
    keys_file.write_text(before, "utf-8")
    assert locked.post("/predict", headers=bearer(ALICE), content=plain()).status_code == 200


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is opened as a `Path` from now on."""
    found: list[Path] = []
    really = Path.open

    def noted(path: Path, *arguments: Any, **options: Any) -> Any:
        found.append(path)
        return really(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", noted)
    return found


def test_a_file_that_cannot_be_used_is_not_read_for_everybody_who_asks(
    locked: httpx.Client,
    keys_file: Path,
    opened: list[Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.keys.LOOK_AGAIN_SECONDS", 3600.0)
    keys_file.write_text("nonsense\n", "utf-8")
    opened.clear()
    answers = [locked.post("/predict", headers=bearer(ALICE), content=plain()) for _ in range(10)]
    assert [(answer.status_code, slug(answer)) for answer in answers] == [(503, "keys-unreadable")] * 10
    assert opened.count(keys_file) == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "keys cannot be used"
    assert record.__dict__["fields"]["reason"].startswith("line 1 ")
    assert record.exc_info is None
    keys_file.write_text("other nonsense\n" * 2, "utf-8")
    assert locked.get("/v1/model", headers=bearer(ALICE)).status_code == 503
    assert opened.count(keys_file) == 3  # writing it opens it, too


def test_a_disk_that_recovers_is_read_again(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(_path: Path, *_arguments: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("app.keys.LOOK_AGAIN_SECONDS", 3600.0)
    keys = Keys(keys_file)
    keys_file.write_text(line_of("alice", ALICE), "utf-8")
    with monkeypatch.context() as failing:
        failing.setattr(Path, "open", too_many)
        for _ in range(2):
            with pytest.raises(KeysError, match="Too many open files"):
                keys.owner(ALICE)
    with pytest.raises(KeysError, match="Too many open files"):  # the file looks the same as a moment ago
        keys.owner(ALICE)
    monkeypatch.setattr("app.keys.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3601))
    assert keys.owner(ALICE) == "alice"


@pytest.mark.anyio
async def test_the_service_does_not_start_without_its_file(base_settings: Settings, tmp_path: Path) -> None:
    app = create_app(base_settings.model_copy(update={"keys_file": tmp_path / "none"}))
    with pytest.raises(KeysError, match="cannot be read"):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize(
    "line", ["alice", "alice abc", f"a/b {'0' * 64}", f"alice {'G' * 64}", "alice de_key"]
)
def test_a_wrong_line_is_told_by_its_number_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n", "utf-8")
    with pytest.raises(KeysError) as raised:
        Keys(path)
    assert "line 2" in str(raised.value)
    assert line not in str(raised.value)


def test_a_change_of_the_same_length_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line_of("alice", ALICE), "utf-8")
    keys = Keys(path)
    stat = path.stat()
    path.write_text(line_of("alice", BOB), "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (keys.owner(ALICE), keys.owner(BOB)) == (None, "alice")


@pytest.mark.parametrize("key", [ALICE, BOB, "de_wrong", "", "é" * 5000])
def test_every_line_is_compared_in_constant_time_whoever_asks(
    keys_file: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr("app.keys.hmac", SimpleNamespace(compare_digest=compare))
    assert Keys(keys_file).owner(key) == {ALICE: "alice", BOB: "bob"}.get(key)
    assert compared == [(64, 64)] * 2


def test_a_key_is_long_and_new_each_time() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert min(len(new_key()) for _ in range(100)) >= 43


def test_metrics_behind_a_key_need_one() -> None:
    with pytest.raises(ValidationError, match="admin_key"):
        Settings(metrics_need_admin_key=True)
