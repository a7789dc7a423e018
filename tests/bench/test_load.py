"""The load generator, in a process of its own, on a real service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.client import Connection
from bench.load import Plan, run_apart
from bench.outcome import LEFT
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "red.png"
    path.write_bytes(plain())
    return (str(path),)


@pytest.mark.anyio
async def test_a_connection_stays_for_one_request_after_another(client: httpx.Client) -> None:
    connection = Connection(client.base_url.host, client.base_url.port or 80)
    for body, status in ((plain(), 200), (b"no picture", 415), (plain(), 200)):
        answer = await connection.exchange("POST", "/predict", body, "image/png")
        assert (answer.status, connection.usable) == (status, True)
    connection.close()


def test_a_closed_loop_is_answered_to_the_end(client: httpx.Client, pictures: tuple[str, ...]) -> None:
    where = (client.base_url.host, client.base_url.port or 80, "/predict")
    run = run_apart(Plan(*where, pictures, seconds=1.0, clients=3))
    assert len(run.records) > 3
    assert {record.status for record in run.records} == {200}
    assert all(record.timing["infer"] > 0 for record in run.records)
    assert run.cpu < 0.05


def test_an_open_loop_sends_what_it_planned_and_some_hang_up(
    client: httpx.Client, pictures: tuple[str, ...]
) -> None:
    where = (client.base_url.host, client.base_url.port or 80, "/predict")
    run = run_apart(
        Plan(*where, pictures, seconds=1.0, rate=40.0, poisson=False, leavers=0.5, patience=0.001)
    )
    assert len(run.records) == 39
    assert {record.status for record in run.records} <= {200, LEFT}
    assert any(record.status == LEFT for record in run.records)


def test_a_refusal_is_told_as_one(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    where = (client.base_url.host, client.base_url.port or 80, "/predict")
    run = run_apart(Plan(*where, (str(tmp_path / "no.jpg"),), seconds=0.3, clients=1))
    assert {record.status for record in run.records} == {415}
