from __future__ import annotations

import itertools
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

import pytest

from app.client import AsyncClient, Client, Outcome, ServiceError
from tests.client.recording import Recording
from tests.pictures import BLUE, GREEN, RED, plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

COLOURS = {"anger": plain(RED), "joy": plain(GREEN), "sadness": plain(BLUE)}


class Endless:
    """Pictures without an end, and how many of them were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for data in itertools.cycle(COLOURS.values()):
            self.taken += 1
            yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in iter(self):
            yield data


def emotion(outcome: Outcome[bytes]) -> str:
    return outcome.get().dominant.emotion


def test_outcomes_come_in_the_order_of_the_pictures(asking: Client) -> None:
    pictures = [*COLOURS.values()] * 7
    outcomes = list(asking.predict_many(pictures, concurrency=5))
    assert [outcome.picture for outcome in outcomes] == pictures
    assert [emotion(outcome) for outcome in outcomes] == [*COLOURS] * 7


def test_errors_are_values(asking: Client, tmp_path: Path) -> None:
    pictures: list[bytes | Path] = [COLOURS["joy"], b"no picture", tmp_path / "missing.jpg", COLOURS["anger"]]
    first, refused, missing, last = asking.predict_many(pictures)
    assert (first.get().dominant.emotion, last.get().dominant.emotion) == ("joy", "anger")
    assert isinstance(refused.error, ServiceError)
    assert refused.error.slug == "unsupported-picture"
    assert refused.prediction is None
    assert isinstance(missing.error, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        missing.get()


def test_endless_pictures_are_taken_as_they_are_answered(asking: Client, recording: Recording) -> None:
    endless = Endless()
    with closing(asking.predict_many(endless, concurrency=3)) as outcomes:
        found = [emotion(outcome) for outcome in itertools.islice(outcomes, 20)]
    assert found == [*itertools.islice(itertools.cycle(COLOURS), 20)]
    assert endless.taken <= 20 + 2 * 3
    assert 2 <= recording.most_at_once <= 3


def test_no_pictures(asking: Client) -> None:
    assert list(asking.predict_many([])) == []


def test_no_concurrency_at_all(asking: Client) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        list(asking.predict_many([], concurrency=0))


def test_an_error_of_the_iterable_is_its_own(asking: Client) -> None:
    def broken() -> Iterator[bytes]:
        yield COLOURS["joy"]
        raise LookupError("no more")

    with pytest.raises(LookupError):
        list(asking.predict_many(broken()))


def test_who_is_turned_away_comes_back(crowded_url: str) -> None:
    recording = Recording()
    with Client(crowded_url, timeout=60, retries=100, transport=recording) as client:
        outcomes = list(client.predict_many([*COLOURS.values()], concurrency=3))
    assert [emotion(outcome) for outcome in outcomes] == [*COLOURS]
    assert 503 in recording.statuses


@pytest.mark.anyio
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_the_same_with_asyncio(url: str, *, asynchronous: bool) -> None:
    endless, recording = Endless(), Recording()
    async with AsyncClient(url, timeout=30, transport=recording) as client:
        pictures = endless if asynchronous else iter(endless)
        async with aclosing(client.predict_many(pictures, concurrency=3)) as outcomes:
            found = [emotion(outcome) async for outcome, _ in azip(outcomes, 20)]
    assert found == [*itertools.islice(itertools.cycle(COLOURS), 20)]
    assert endless.taken <= 20 + 2 * 3
    assert 2 <= recording.most_at_once <= 3


async def azip(
    outcomes: AsyncIterator[Outcome[bytes]], count: int
) -> AsyncIterator[tuple[Outcome[bytes], int]]:
    """The first outcomes, and no more."""
    for number in range(count):
        yield await anext(outcomes), number
