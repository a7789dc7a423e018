"""A process whose devices only a new process can free."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx

from app.main import create_app
from tests.api.process import Process
from tests.api.serving import PATIENCE, serving, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from app.settings import Settings

SAID = "beyond repair"


def test_it_ends_itself_in_order_and_fails(slow_checkpoint: Path) -> None:
    """Whatever its device does takes longer than it may, so that one thread after the other hangs."""
    with Process(
        "--checkpoint", str(slow_checkpoint), "--threads", "1", DEEPEMOTION_HANG_SECONDS="0.1"
    ) as hanging:
        url = hanging.url()
        wait_until(lambda: httpx.get(f"{url}/healthz", timeout=PATIENCE).status_code == 503)
        assert hanging.end() == 1
        said = [(line["level"], str(line["message"])) for line in hanging.log()]
    assert [level for level, message in said if message.startswith(SAID)] == ["error"]
    assert ("info", "stopped") in said


def test_one_that_recovers_meanwhile_goes_on(
    base_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.main.SEEN_SECONDS", 0.3)
    given_up = threading.Event()
    with serving(create_app(base_settings, give_up=given_up.set)):
        with monkeypatch.context() as broken:
            broken.setattr("app.engine.Engine.beyond_repair", True)
            wait_until(lambda: SAID in caplog.text)
        time.sleep(0.6)
        assert not given_up.is_set()
        monkeypatch.setattr("app.engine.Engine.beyond_repair", True)
        wait_until(given_up.is_set)
