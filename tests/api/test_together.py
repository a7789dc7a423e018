"""How many pictures of one form are under way at once."""

from __future__ import annotations

import asyncio

import pytest

from app.api.together import together

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("batch", "places", "most"), [(8, 128, 16), (128, 128, 64), (8, 8, 4), (2, 1, 1), (1, 3, 1)]
)
async def test_a_form_takes_two_batches_or_half_of_all_places(batch: int, places: int, most: int) -> None:
    under_way = seen = 0

    async def work(given: int) -> int:
        nonlocal under_way, seen
        under_way += 1
        seen = max(seen, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return -given

    answers = await together(work, range(200), batch=batch, places=places)
    assert answers == [-given for given in range(200)]
    assert seen == most
