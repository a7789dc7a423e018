"""Many pictures of one request, a bounded number of them at a time: a long form leaves room for others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

Given = TypeVar("Given")
Result = TypeVar("Result")

_BATCHES = 2  # one on the device, and the next being decoded


async def together(
    work: Callable[[Given], Coroutine[None, None, Result]],
    given: Iterable[Given],
    *,
    batch: int,
    places: int,
) -> list[Result]:
    """What the work makes of each thing given, in their order; the first to fail ends the others.

    Args:
        work: of one of them.
        given: to the work.
        batch: of the engine, at most.
        places: that the engine has for all requests. A form takes half of them at most, however large its
            batches: else it would be refused for want of room by nothing but itself.

    Raises:
        BaseException: what the first that failed raised.
    """
    room = asyncio.Semaphore(min(_BATCHES * batch, max(1, places // 2)))

    async def one(thing: Given) -> Result:
        async with room:
            return await work(thing)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(thing)) for thing in given]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
