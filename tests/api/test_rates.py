"""How much one client may ask for."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from app.api import rates
from app.api.rates import EXPLANATION, MOST_CLIENTS, PREDICTION, Buckets
from app.api.refusals import TooOften
from app.engine import Kind
from app.explain.presets import PRESETS
from app.keys import line_of, new_key
from app.main import create_app
from app.settings import Settings
from tests.api.serving import PATIENCE, service, serving, slug
from tests.api.test_inference_protocol import INFER, image
from tests.pictures import plain
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RATE = 0.001
"""Units a second: hardly any, so that what a bucket holds is what was taken from it."""


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


def test_the_price_is_told_as_it_is() -> None:
    told = f"a quick explanation {EXPLANATION['quick']}."
    assert told in (ROOT / "docs" / "operations.md").read_text("utf-8").replace("\n", " ")
    setting = Settings.model_fields["rate_units"].description or ""
    assert f"{PREDICTION} for a prediction, {EXPLANATION['quick']} for a quick explanation" in setting


def pixels(count: int) -> dict[str, object]:
    """So many black pictures, as numbers."""
    shape = [count, SIDE, SIDE, 3]
    data = [0] * math.prod(shape)
    return {"inputs": [{"name": "pixels", "shape": shape, "datatype": "UINT8", "data": data}]}


QUICK, THOROUGH = EXPLANATION["quick"], EXPLANATION["thorough"]
PRICES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "predict": (1, "/predict", {"content": plain()}),
    "quick": (QUICK, "/explain", {"content": plain()}),
    "thorough": (THOROUGH, "/explain", {"content": plain(), "params": {"quality": "thorough"}}),
    "pair": (QUICK, "/explain", {"content": plain(), "params": {"view": "pair"}}),
    "sheet": (len(LABELS) * QUICK, "/explain", {"content": plain(), "params": {"view": "sheet"}}),
    "thorough-sheet": (
        len(LABELS) * THOROUGH,
        "/explain",
        {"content": plain(), "params": {"quality": "thorough", "view": "sheet"}},
    ),
    "batch": (4, "/v1/predict/batch", {"files": [("file", plain())] * 4}),
    "infer-files": (3, INFER, {"json": image(*[plain()] * 3)}),
    "infer-pixels": (2, INFER, {"json": pixels(2)}),
}
"""Units, and what is asked for them."""


@pytest.fixture(scope="module")
def keyed(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """A client of a service in which each price has a key of its own, and so a bucket; it holds one unit."""
    keys = {name: new_key() for name in PRICES}
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(line_of(name, key) for name, key in keys.items()), "utf-8")
    with service(limited(base_settings, keys_file=file, rate_units=RATE, rate_burst=1)) as client:
        yield client, keys


@pytest.mark.parametrize("asked", PRICES)
def test_who_asks_much_waits_long(keyed: tuple[httpx.Client, dict[str, str]], asked: str) -> None:
    client, keys = keyed
    units, path, request = PRICES[asked]
    headers = {"Authorization": f"Bearer {keys[asked]}"}
    with httpx.Client(base_url=client.base_url, headers=headers, timeout=PATIENCE) as asking:
        assert asking.post(path, **request).status_code == 200
        refused = asking.post("/predict", content=plain())
        assert (refused.status_code, slug(refused)) == (429, "too-often")
        waiting = int(refused.headers["retry-after"]) * RATE  # until the bucket holds one unit again
    assert waiting == pytest.approx(units, abs=0.5)  # some has flown in meanwhile


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


def test_an_explanation_that_finds_no_room_costs_no_more_than_a_prediction(base_settings: Settings) -> None:
    settings = limited(base_settings, rate_units=0.001, rate_burst=3, max_explanations=1)
    app = create_app(settings)
    with serving(app, settings) as client, ExitStack() as held:
        engine = app.state.service.engine
        for _ in range(2):  # one runs, and one waits
            held.enter_context(engine.place(Kind.EXPLANATION, deadline=time.monotonic() + 60))
        for _ in range(3):
            full = client.post("/explain", params={"view": "sheet"}, content=plain())
            assert (full.status_code, slug(full)) == (503, "queue-full")
        spent = client.post("/explain", content=plain())
        assert (spent.status_code, slug(spent)) == (429, "too-often")


def test_nor_does_one_that_finds_no_room_after_its_upload(base_settings: Settings) -> None:
    settings = limited(base_settings, rate_units=0.001, rate_burst=3, max_explanations=1)
    app = create_app(settings)
    with serving(app, settings) as client, ExitStack() as held:
        running = app.state.service

        def upload() -> Iterator[bytes]:
            yield plain()[:10]
            while len(running.buckets) == 0:  # until it is let in and charged
                time.sleep(0.01)
            for _ in range(2):  # one runs, and one waits
                held.enter_context(running.engine.place(Kind.EXPLANATION, deadline=time.monotonic() + 60))
            yield plain()[10:]

        full = client.post("/explain", params={"view": "sheet"}, content=upload())
        assert (full.status_code, slug(full)) == (503, "queue-full")
        statuses = [client.post("/predict", content=plain()).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"no picture"},
        {"content": plain()[:-60]},
        {"content": plain(), "headers": {"Content-Encoding": "gzip"}},
        {"files": {"another": plain()}},
    ],
    ids=["no-picture", "damaged", "compressed", "no-file"],
)
def test_nor_does_one_whose_picture_is_none(base_settings: Settings, sent: dict[str, Any]) -> None:
    price = EXPLANATION["quick"] * len(LABELS)
    with service(limited(base_settings, rate_units=0.001, rate_burst=price + 3)) as client:
        for _ in range(3):
            refused = client.post("/explain", params={"view": "sheet"}, **sent)
            assert refused.status_code in {400, 415, 422}
        assert client.post("/explain", params={"view": "sheet"}, content=plain()).status_code == 200
        assert client.post("/predict", content=plain()).status_code == 429


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
