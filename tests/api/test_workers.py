from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

import pytest

from app.api.refusals import Busy
from app.api.workers import Workers
from app.engine import DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("test", threads=1, most=2)
    yield made
    made.close()


def soon() -> float:
    return time.monotonic() + 30


async def test_results_and_errors_come_back(workers: Workers) -> None:
    assert await workers.run(lambda: 7, deadline=soon()) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0, deadline=soon())


async def test_how_long_it_is_busy(workers: Workers) -> None:
    seen: list[float] = []
    for _ in range(20):
        await workers.run(lambda: time.sleep(0.02), deadline=soon())
    assert workers.busy_seconds == 0
    await workers.run(lambda: seen.append(workers.busy_seconds), deadline=soon())
    assert seen[0] > 0.015
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0, deadline=soon())
    assert workers.busy_seconds == 0


async def test_how_long_the_line_is() -> None:
    workers = Workers("test", threads=2, most=10)
    assert workers.seconds_ahead == 0
    for _ in range(30):
        await workers.run(lambda: time.sleep(0.02), deadline=soon())
    assert workers.seconds_ahead == 0
    release = threading.Event()
    held = [asyncio.create_task(workers.run(release.wait, deadline=soon())) for _ in range(7)]
    await asyncio.sleep(0)
    assert 0.08 <= workers.seconds_ahead < 0.5  # of eight pieces by two threads
    for task in held[2:]:
        task.cancel()
    await asyncio.wait(held[2:])
    assert workers.seconds_ahead < 0.5 * 3 / 8
    release.set()
    await asyncio.gather(*held[:2])
    workers.close()


async def test_the_line_is_short(workers: Workers) -> None:
    release = threading.Event()
    taken = [asyncio.create_task(workers.run(release.wait, deadline=soon())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await workers.run(lambda: 7, deadline=soon())
    release.set()
    assert await asyncio.gather(*taken) == [True, True]
    assert await workers.run(lambda: 7, deadline=soon()) == 7


async def test_work_that_is_late_is_not_begun(workers: Workers) -> None:
    release, begun = threading.Event(), threading.Event()
    first = asyncio.create_task(workers.run(release.wait, deadline=soon()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlinePassed):
        await workers.run(begun.set, deadline=time.monotonic() + 0.02)
    release.set()
    await first
    assert await workers.run(lambda: 7, deadline=soon()) == 7
    assert not begun.is_set()


class Upload:
    """Bytes that can be missed."""


async def test_what_nobody_waits_for_is_not_kept_until_a_thread_comes_to_it(workers: Workers) -> None:
    release = threading.Event()
    first = asyncio.create_task(workers.run(release.wait, deadline=soon()))
    await asyncio.sleep(0)
    upload = Upload()
    kept = weakref.ref(upload)
    with pytest.raises(DeadlinePassed):
        await workers.run(partial(id, upload), deadline=time.monotonic() + 0.02)
    del upload
    gc.collect()
    assert kept() is None
    release.set()
    await first


async def test_work_that_nobody_wants_any_more_is_not_begun(workers: Workers) -> None:
    release, begun = threading.Event(), threading.Event()
    first = asyncio.create_task(workers.run(release.wait, deadline=soon()))
    second = asyncio.create_task(workers.run(begun.set, deadline=soon()))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    release.set()
    await first
    assert await workers.run(lambda: 7, deadline=soon()) == 7
    assert not begun.is_set()


async def test_a_thread_that_could_not_be_started_takes_no_place(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(workers._pool, "submit", none_left)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                await workers.run(lambda: 7, deadline=soon())
    assert await workers.run(lambda: 7, deadline=soon()) == 7


async def test_work_for_which_no_thread_could_be_started_is_not_done_later(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise RuntimeError("can't start new thread")

    done = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(workers._pool, "_adjust_thread_count", none_left)  # after it has queued the work
        with pytest.raises(RuntimeError, match="new thread"):
            await workers.run(done.set, deadline=soon())
    assert await workers.run(lambda: 7, deadline=soon()) == 7
    assert not done.is_set()
