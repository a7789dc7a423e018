from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.client import Client
from tests.client.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture
def url(client: httpx.Client) -> str:
    """Where the shared service listens."""
    return str(client.base_url)


@pytest.fixture
def crowded_url(crowded: httpx.Client) -> str:
    """Where a service listens that is slow and has room for one request."""
    return str(crowded.base_url)


@pytest.fixture
def recording() -> Recording:
    """Remembers what `asking` sent."""
    return Recording()


@pytest.fixture
def asking(url: str, recording: Recording) -> Iterator[Client]:
    """The client under test, of the shared service."""
    with Client(url, timeout=30, transport=recording) as made:
        yield made
