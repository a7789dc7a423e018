"""Noticing that a client has left, so that nobody works for it any longer."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from starlette.requests import Request

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[None, None, T]) -> T:
    """Await the work as long as the client waits for it.

    Call it only after the body has been read to its end: what arrives then can only be the client's leaving.

    Args:
        request: whose client is watched.
        work: cancelled when the client leaves, and awaited until it has ended.

    Raises:
        ClientDisconnect: the client left first.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        request.state.left = True
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


@contextmanager
def told_of_leaving(request: Request) -> Iterator[None]:
    """For parts of the work of `while_connected`, which are also cancelled when one of them fails.

    Raises:
        ClientDisconnect: instead of being cancelled, if it is because the client has left.
    """
    try:
        yield
    except asyncio.CancelledError:
        if getattr(request.state, "left", False):
            raise ClientDisconnect from None
        raise


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
