"""The real service on a real socket, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn

from app.main import create_app
from app.server import server_options
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

PATIENCE = 30.0
"""Seconds to wait for what takes milliseconds on an idle machine."""


def wait_until(condition: object, *, seconds: float = PATIENCE) -> None:
    """Poll a callable until it is true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{condition} did not become true"
        time.sleep(0.01)


@contextmanager
def serving(
    app: FastAPI, settings: Settings | None = None, *, wait_for_warmth: bool = True
) -> Iterator[httpx.Client]:
    """Run an application as the service is run, with these settings' limits or the default ones."""
    options = server_options(settings or Settings(), app.state.metrics)
    server = uvicorn.Server(uvicorn.Config(app, **options | {"port": 0, "timeout_graceful_shutdown": 5}))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            if wait_for_warmth:
                wait_until(lambda: client.get("/readyz").status_code == 200)
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def service(settings: Settings) -> Iterator[httpx.Client]:
    """Run the service with these settings and yield a client of it."""
    with serving(create_app(settings), settings) as client:
        yield client


def slug(response: httpx.Response) -> str:
    """The last part of a problem's type; also checks that the answer is a problem in every respect."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    assert body["remedy"]
    prefix, _, name = body["type"].rpartition(":")
    assert prefix == "urn:deepemotion:problem"
    return str(name)
