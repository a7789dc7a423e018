"""When a request is worth another try, and how long to wait before it.

Every request of this client may be repeated: a prediction changes nothing. So a connection that broke is
tried again, and a service that says it is busy. Anything else that the service says is final.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exception,
    wait_random_exponential,
)

from app.client.errors import ServiceError

BUSY = frozenset({429, 502, 503})
"""Too many requests, a proxy that finds no instance, and an instance that has no room or is warming up."""

FIRST_WAIT = 0.25
"""Longest first wait in seconds; each later one may be twice as long, and is random (full jitter)."""
LONGEST_WAIT = 10.0


def retrying(retries: int, seconds: float) -> AsyncRetrying:
    """What carries out one call.

    The wait is what Retry-After says, never less, and then a random time, so that clients that were turned
    away together do not come back together. A wait that would end too late is not begun.

    Args:
        retries: tries after the first.
        seconds: for the whole call.
    """
    return AsyncRetrying(
        retry=retry_if_exception(worth_another_try),
        wait=wait_exception(asked_to_wait) + wait_random_exponential(FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_attempt(retries + 1) | stop_before_delay(seconds),
        reraise=True,
    )


def worth_another_try(error: BaseException) -> bool:
    """Whether the same request may be answered later."""
    if isinstance(error, ServiceError):
        return error.status in BUSY
    # A timeout, other than of connecting, has used up the call's own.
    return isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ConnectTimeout)


def asked_to_wait(error: BaseException) -> float:
    """Seconds that the Retry-After header asks for, as a number or a date; 0 where there is none."""
    given = error.retry_after if isinstance(error, ServiceError) else None
    if given is None:
        return 0.0
    if given.strip().isdecimal():
        return float(given)
    try:
        date = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
