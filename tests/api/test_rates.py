"""How much one client may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from app.api import rates
from app.api.rates import EXPLANATION, MOST_CLIENTS, Buckets
from app.api.refusals import TooOften
from app.explain.presets import PRESETS
from app.keys import line_of, new_key
from app.settings import Settings
from tests.api.serving import service, slug
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limited(base: Settings, **limits: object) -> Settings:
    return Settings.model_validate(base.model_dump() | limits)


def test_a_full_bucket_empties_and_fills_again() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 10, clock=clock)
    for _ in range(10):
        buckets.take("a", 1)
    with pytest.raises(TooOften) as refused:
        buckets.take("a", 1)
    assert refused.value.retry_after == pytest.approx(0.5)
    buckets.take("b", 1)  # nobody pays for another
    clock.now += 0.5
    buckets.take("a", 1)
    with pytest.raises(TooOften):
        buckets.take("a", 1)


def test_what_is_dearer_than_a_bucket_needs_a_full_one_and_leaves_a_debt() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 5, clock=clock)
    buckets.take("a", 35)
    with pytest.raises(TooOften) as refused:
        buckets.take("a", 1)
    assert refused.value.retry_after == pytest.approx(31)
    clock.now += 31
    buckets.take("a", 1)


@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from([1, 11, 35])), max_size=60))
def test_nobody_gets_more_than_the_rate(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    buckets = Buckets(3.0, 20, clock=clock)
    began, taken = clock.now, 0
    for pause, units in steps:
        clock.now += pause
        try:
            buckets.take("a", units)
        except TooOften as refused:
            clock.now += refused.retry_after + 1e-6
            buckets.take("a", units)  # Retry-After is enough
        taken += units
        assert taken <= 20 + 3.0 * (clock.now - began) + max(0, units - 20) + 1e-3


def test_the_memory_of_all_buckets_is_bounded() -> None:
    buckets = Buckets(1.0, 1)
    for number in range(MOST_CLIENTS + 500):
        buckets.take(str(number), 1)
    assert len(buckets) == MOST_CLIENTS


def test_an_explanation_costs_the_work_it_takes() -> None:
    assert set(EXPLANATION) == set(PRESETS)
    assert EXPLANATION["thorough"] / EXPLANATION["quick"] == pytest.approx(16 / 5, rel=0.05)


def test_too_much_is_answered_429_with_the_time_to_wait(base_settings: Settings) -> None:
    with service(limited(base_settings, rate_units=0.001, rate_burst=1 + EXPLANATION["quick"])) as client:
        assert client.post("/predict", content=plain()).status_code == 200
        assert client.post("/explain", content=plain()).status_code == 200  # all that is left
        for path in ("/predict", "/v1/predict", "/explain", "/v1/predict/batch"):
            answer = client.post(path, content=plain())
            assert (answer.status_code, slug(answer)) == (429, "too-often")
            assert int(answer.headers["retry-after"]) >= 900
        answer = client.post("/v2/models/tiny/infer", content=b"{}")
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/model").status_code == 200


def test_each_picture_of_a_batch_counts(base_settings: Settings) -> None:
    with service(limited(base_settings, rate_units=0.001, rate_burst=5)) as client:
        files = [("file", plain()) for _ in range(5)]
        assert client.post("/v1/predict/batch", files=files).status_code == 200
        assert client.post("/predict", content=plain()).status_code == 429


def test_each_key_has_its_own(base_settings: Settings, tmp_path: Path) -> None:
    keys = {name: new_key() for name in ("alice", "bob")}
    file = tmp_path / "keys"
    file.write_text("\n".join(line_of(name, key) for name, key in keys.items()), "utf-8")
    with service(limited(base_settings, keys_file=file, rate_units=0.001, rate_burst=1)) as client:
        statuses = [
            client.post(
                "/predict", content=plain(), headers={"Authorization": f"Bearer {keys[name]}"}
            ).status_code
            for name in ("alice", "alice", "bob", "bob")
        ]
    assert statuses == [200, 429, 200, 429]


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("", "local"),
    ],
)
def test_an_address_of_ipv6_is_one_of_many_of_the_same_client(host: str, client: str) -> None:
    request = Request({"type": "http", "client": (host, 1), "headers": []})
    assert rates._client(request) == client
