"""The real service on a real socket, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn

from app.connection import connection_class, proxy_options
from app.main import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.settings import Settings

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
    """Run an application under uvicorn and yield a client of it; with settings, within their limits."""
    http = connection_class(settings, app.state.metrics) if settings is not None else "httptools"
    proxies = proxy_options(settings) if settings is not None else {}
    config = uvicorn.Config(
        app, port=0, http=http, log_config=None, access_log=False, timeout_graceful_shutdown=5, **proxies
    )
    server = uvicorn.Server(config)
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
