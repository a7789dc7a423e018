"""How much one client may ask for: a bucket of units for each, which fills as time passes.

A unit is the work of one prediction, so that an explanation, which takes many times as long, costs as much
more. A request is let in when the bucket holds its price, or is full; the price is then taken, and the bucket
may owe some. So nobody gets more in the long run than the rate, and nothing is too dear to be asked at all.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.api.refusals import TooOften

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from app.api.deps import Service

PREDICTION = 1
EXPLANATION = {"quick": 17, "thorough": 52}
"""Units of one emotion's map: the time of so many predictions by ONNX Runtime, as ``python -m bench.explain
--speed`` measures it."""
MOST_CLIENTS = 10_000
"""Buckets that are kept, of about 200 bytes each; the one that was longest unused is forgotten first."""


class Buckets:
    """The buckets of all clients.

    Args:
        per_second: units that flow into each.
        burst: units that each holds.
        clock: seconds, never going back.
    """

    def __init__(
        self, per_second: float, burst: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, client: str, units: float) -> None:
        """Take a request's price out of the client's bucket.

        Raises:
            TooOften: there is too little in it; nothing is taken.
        """
        level = self._level(client)
        needed = min(units, self._burst)
        if level < needed:
            raise TooOften(retry_after=(needed - level) / self._per_second)
        self._put(client, level - units)

    def owe(self, client: str, units: float) -> None:
        """Take what a request that was let in turns out to cost more."""
        self._put(client, self._level(client) - units)

    def give_back(self, client: str, units: float) -> None:
        """Put back what a request that was let in was charged for nothing."""
        self._put(client, min(self._burst, self._level(client) + units))

    def _level(self, client: str) -> float:
        now = self._clock()
        level, then = self._levels.get(client, (self._burst, now))
        return min(self._burst, level + (now - then) * self._per_second)

    def _put(self, client: str, level: float) -> None:
        self._levels[client] = (level, self._clock())
        self._levels.move_to_end(client)
        if len(self._levels) > MOST_CLIENTS:
            self._levels.popitem(last=False)


def spend(request: Request, service: Service, units: float) -> None:
    """Let a request of this price in, if there is a limit.

    Raises:
        TooOften: whoever asks has asked too much.
    """
    if service.buckets is not None:
        service.buckets.take(_client(request), units)


def owe(request: Request, service: Service, units: float) -> None:
    """Count what a request that was let in costs more, now that its pictures are known."""
    if service.buckets is not None and units > 0:
        service.buckets.owe(_client(request), units)


@contextmanager
def given_back_unless_begun(request: Request, service: Service, units: float) -> Iterator[Callable[[], None]]:
    """Yields what is to be called when the device's work begins.

    What fails before, for want of room or because its picture is none, is given back so many units.
    """
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True

    try:
        yield begin
    except BaseException:
        if service.buckets is not None and not begun:
            service.buckets.give_back(_client(request), units)
        raise


def _client(request: Request) -> str:
    """The key's name, or where the request comes from: of IPv6 the network, of which one client has 2^64."""
    name: str | None = getattr(request.state, "key", None)
    if name is not None:
        return f"key {name}"
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a socket of the file system
        return "local"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return host
