"""What many threads, and other processes, do to the blocking client."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import CancelledError
from contextlib import suppress

import httpx
import pytest

from app.client import Client, UnexpectedAnswer, Unreachable


async def nothing(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(0)
    return httpx.Response(200)


def test_who_asks_while_another_thread_closes_is_told() -> None:
    for _ in range(20):
        client = Client("http://127.0.0.1:9", timeout=5, transport=httpx.MockTransport(nothing))
        ended: list[BaseException] = []

        def ask(client: Client = client, ended: list[BaseException] = ended) -> None:
            try:
                while True:
                    with suppress(UnexpectedAnswer):
                        client.predict(b"x")
            except BaseException as error:  # noqa: BLE001 - looked at below
                ended.append(error)  # noqa: B023 - it is bound right here

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        client.close()
        client.close()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 3
        assert all(isinstance(error, RuntimeError | CancelledError) for error in ended)


def test_a_forked_process_is_told_to_make_its_own() -> None:
    client = Client("http://127.0.0.1:9", timeout=5)
    child = os.fork()
    if child == 0:
        try:
            client.ready()
        except RuntimeError as error:
            os._exit(0 if "make a client in each" in str(error) else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    client.close()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("key", ["de_secret\n", "de secret", "", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        Client("http://127.0.0.1:9", api_key=key)
    assert not key or key not in str(caught.value)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        Client("localhost:8000")


def test_a_password_in_the_address_is_not_told() -> None:
    with Client("http://user:hunter2@127.0.0.1:9", timeout=1, retries=0) as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9") as caught:
            client.predict(b"x")
        assert "hunter2" not in str(caught.value)
