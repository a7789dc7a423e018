from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from app.checkpoint import sha256_of
from app.client import (
    AsyncClient,
    Client,
    Dominant,
    ImageFacts,
    ModelName,
    ServiceError,
    UnexpectedAnswer,
)
from tests.client.misbehaving import answering, response
from tests.client.recording import Recording
from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain
from tests.tiny import LABELS, tiny_card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from app.client.pictures import Picture


def test_the_client_needs_nothing_of_the_service() -> None:
    program = "import sys, app.client; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "httpx" in imported
    assert not {"torch", "numpy", "PIL", "fastapi", "pydantic", "uvicorn"} & set(imported)


def opened(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


@pytest.mark.parametrize("given", [bytes, bytearray, memoryview, opened])
def test_bytes_of_any_kind(asking: Client, given: Callable[[bytes], Picture]) -> None:
    assert asking.predict(given(plain(BLUE))).dominant.emotion == "sadness"


@pytest.mark.parametrize("kind", [str, None])
def test_a_path(asking: Client, tmp_path: Path, kind: Callable[[Path], Picture] | None) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(plain(GREEN))
    assert asking.predict(path if kind is None else kind(path)).dominant.emotion == "joy"


def test_a_file_that_is_open_for_text(asking: Client) -> None:
    with pytest.raises(TypeError, match="rb"):
        asking.predict(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_path_that_is_not_there(asking: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        asking.predict(tmp_path / "nothing.jpg")


def test_a_prediction_says_what_the_service_says(
    asking: Client, client: httpx.Client, checkpoint_path: Path
) -> None:
    data = encoded(noise((60, 20)), "JPEG")
    said = client.post("/predict", content=data, params={"top_k": 2}).json()
    prediction = asking.predict(data, request_id="mine-1")
    assert list(prediction.distribution) == list(LABELS)
    assert prediction.distribution == said["distribution"]
    assert prediction.dominant == Dominant(**said["dominant"])
    assert prediction.top(2) == tuple(Dominant(**each) for each in said["top"])
    assert (prediction.entropy, prediction.valence) == (said["entropy"], None)
    assert (prediction.novelty, prediction.abstained, prediction.abstained_because) == (None, False, None)
    assert prediction.model == ModelName("tiny", "0.0.1", sha256_of(checkpoint_path))
    assert prediction.image == ImageFacts(60, 20, "JPEG")
    assert prediction.request_id == "mine-1"


@pytest.mark.parametrize("name", ["ä", "a:b", "", "x" * 65, "two\nlines"])
def test_a_request_id_that_the_service_would_not_take(asking: Client, name: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        asking.predict(plain(), request_id=name)


def test_a_name_that_no_file_has(asking: Client) -> None:
    with pytest.raises(OSError, match="null"):
        asking.predict("a\0b.jpg")


def test_the_model(asking: Client, checkpoint_path: Path) -> None:
    model = asking.model()
    assert (model.name, model.version, model.labels, model.devices) == ("tiny", "0.0.1", LABELS, ("cpu",))
    assert model.sha256 == sha256_of(checkpoint_path)
    assert model.card["limits"] == tiny_card().limits


def test_ready(asking: Client) -> None:
    assert asking.ready()


def test_nothing_there_is_not_ready() -> None:
    with Client("http://127.0.0.1:1") as nobody:
        assert not nobody.ready()


def test_a_service_that_warms_up_is_not_ready() -> None:
    with answering(response("503 Service Unavailable")) as url, Client(url) as client:
        assert not client.ready()


def test_something_else_is_told_from_a_service_that_is_not_ready() -> None:
    with (
        answering(response("404 Not Found")) as url,
        Client(url) as client,
        pytest.raises(ServiceError, match="404"),
    ):
        client.ready()


def test_a_refused_picture_says_why(asking: Client, recording: Recording) -> None:
    with pytest.raises(ServiceError) as raised:
        asking.predict(b"GIF89a", request_id="mine-3")
    error = raised.value
    assert (error.status, error.slug) == (415, "unsupported-picture")
    assert error.title == "The bytes are not a picture that is read"
    assert "JPEG" in error.detail
    assert error.remedy.startswith("convert")
    assert error.request_id == "mine-3"
    assert error.detail in str(error)
    assert error.remedy in str(error)
    assert recording.statuses == [415]  # and is not sent again
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (vars(copy), str(copy)) == (vars(error), str(error))


def test_an_emotion_that_is_not_known_says_which_are(asking: Client) -> None:
    with pytest.raises(ServiceError) as raised:
        asking.explain(plain(), emotion="rage")
    assert (raised.value.slug, raised.value.allowed) == ("unknown-emotion", LABELS)


def test_the_key_is_sent_and_only_if_there_is_one(url: str, asking: Client, recording: Recording) -> None:
    asking.model()
    assert "Authorization" not in recording.tries[0].headers
    with_key = Recording()
    with Client(url, api_key="secret", transport=with_key) as known:
        known.model()
    assert with_key.tries[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "strange",
    [
        response("200 OK", "Content-Type: text/html", body=b"<h1>welcome</h1>"),
        response("200 OK", "Content-Type: application/json", body=b"[]"),
        response("200 OK", "Content-Type: application/json", body=b'{"distribution": {"joy": "much"}}'),
        response("200 OK", "Content-Encoding: gzip", body=b"not at all"),
    ],
)
def test_an_answer_of_something_else(strange: bytes) -> None:
    with answering(strange) as url, Client(url) as client, pytest.raises(UnexpectedAnswer):
        client.predict(plain())


def test_a_proxy_s_error_is_told_too() -> None:
    page = response("504 Gateway Timeout", "Content-Type: text/html", body=b"<h1>no</h1>")
    with answering(page) as url, Client(url) as client, pytest.raises(ServiceError) as raised:
        client.explain(plain())
    error = raised.value
    assert (error.status, error.slug, error.title, error.detail) == (504, None, "Gateway Timeout", "")


def test_an_address_that_moved_says_where_to() -> None:
    moved = response("308 Permanent Redirect", "Location: https://elsewhere/")
    with (
        answering(moved) as url,
        Client(url) as client,
        pytest.raises(ServiceError, match="https://elsewhere/"),
    ):
        client.model()


def test_an_address_below_a_path(url: str) -> None:
    with Client(f"{url}/nowhere") as client, pytest.raises(ServiceError, match="404"):
        client.model()


def test_a_closed_client_says_so(url: str) -> None:
    before = threading.active_count()
    with Client(url) as client:
        assert client.ready()
    client.close()  # a second time, to no effect
    assert threading.active_count() <= before
    with pytest.raises(RuntimeError, match="closed"):
        client.ready()


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"retries": -1}])
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Client(**wrong)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_the_same_with_asyncio(url: str) -> None:
    async with AsyncClient(url) as client:
        assert await client.ready()
        assert (await client.model()).labels == LABELS
        assert (await client.predict(plain(RED))).dominant.emotion == "anger"
        assert (await client.explain(plain(RED), emotion="joy")).emotion == "joy"
