from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from app.api.schemas import PredictionResponse
from app.checkpoint import sha256_of
from app.picture import decode
from tests.api.serving import service, slug, wait_until
from tests.api.test_inference_protocol import INFER, image
from tests.pictures import BLUE, GREEN, RED, encoded, plain
from tests.tiny import LABELS

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from app.picture import Picture
    from app.settings import Settings


@pytest.mark.parametrize(
    ("colour", "emotion"), [(RED, "anger"), (GREEN, "joy"), (BLUE, "sadness")], ids=LABELS
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
def test_the_right_emotion(
    client: httpx.Client, colour: tuple[int, int, int], emotion: str, file_format: str, form: bool
) -> None:
    data = plain(colour, (64, 48), file_format)
    sent = {"files": {"file": data}} if form else {"content": data}
    response = client.post("/predict", **sent)
    assert response.status_code == 200
    answer = PredictionResponse.model_validate(response.json())
    assert answer.dominant.emotion == emotion
    assert answer.dominant.probability == answer.distribution[emotion] > 0.5
    assert list(answer.distribution) == list(LABELS)
    assert sum(answer.distribution.values()) == pytest.approx(1)
    assert answer.image.model_dump() == {"width": 64, "height": 48, "format": file_format}


def test_how_large_a_picture_may_be_is_the_operator_s_choice(base_settings: Settings) -> None:
    fits, is_larger = (plain(RED, (60, side)) for side in (50, 51))
    with service(base_settings.model_copy(update={"max_pixels": 60 * 50})) as client:
        for path in ("/predict", "/explain"):
            assert client.post(path, content=fits).status_code == 200
            refused = client.post(path, content=is_larger)
            assert (refused.status_code, slug(refused)) == (413, "too-many-pixels")
            assert "3,000" in refused.json()["detail"]
        files = [("file", fits), ("file", is_larger)]
        fitting, larger = client.post("/v1/predict/batch", files=files).json()["results"]
        assert fitting["dominant"]["emotion"] == "anger"
        assert larger["problem"]["status"] == 413
        assert client.post(INFER, json=image(fits)).status_code == 200
        assert client.post(INFER, json=image(is_larger)).status_code == 413


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_pictures_are_decoded_at_once_as_the_operator_says(
    base_settings: Settings, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Each may take much memory."""
    under_way: list[None] = []
    most = 0

    def slowly(data: bytes, **options: Any) -> Picture:
        nonlocal most
        under_way.append(None)
        wait_until(lambda: max(most, len(under_way)) >= threads)
        time.sleep(0.05)  # for one too many to begin
        most = max(most, len(under_way))
        under_way.pop()
        return decode(data, **options)

    monkeypatch.setattr("app.api.intake.decode", slowly)
    with (
        service(base_settings.model_copy(update={"decode_threads": threads})) as client,
        ThreadPoolExecutor(2 * threads) as pool,
    ):
        asked = [pool.submit(client.post, "/predict", content=plain()) for _ in range(2 * threads)]
        assert {each.result().status_code for each in asked} == {200}
    assert most == threads


def test_both_ways_of_sending_give_the_same(client: httpx.Client) -> None:
    data = plain(GREEN)
    form = client.post("/predict", files={"file": data}).json()
    raw = client.post("/predict", content=data).json()
    assert form["distribution"] == raw["distribution"]


def test_the_model_is_named(client: httpx.Client, checkpoint_path: Path) -> None:
    model = client.post("/predict", content=plain()).json()["model"]
    assert model == {"name": "tiny", "version": "0.0.1", "sha256": sha256_of(checkpoint_path)}


def test_the_size_is_that_of_the_upright_picture(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (60, 20), RED), "JPEG", exif=exif)
    assert client.post("/predict", content=data).json()["image"]["width"] == 20


def test_timing(client: httpx.Client) -> None:
    timing = client.post("/predict", content=plain()).headers["server-timing"]
    assert re.fullmatch(r"decode;dur=\d+\.\d, queue;dur=\d+\.\d, infer;dur=\d+\.\d", timing)


def test_client_and_file_names_are_not_believed(client: httpx.Client) -> None:
    files = {"file": ("../../etc/passwd\n<script>.gif", plain(GREEN), "text/html")}
    response = client.post("/predict", files=files)
    assert response.json()["image"]["format"] == "PNG"
    assert "passwd" not in response.text
    assert client.post("/predict", content=plain(), headers={"content-type": "image/gif"}).status_code == 200


def test_the_clients_request_id_is_kept(client: httpx.Client) -> None:
    response = client.post("/predict", content=plain(), headers={"X-Request-ID": "order-66_a.b"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "order-66_a.b"


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", 'a"b', "é", "a;b"])
def test_an_improper_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    headers = [(b"X-Request-ID", given.encode("latin-1"))]
    response = client.post("/predict", content=plain(), headers=headers)
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_client_may_shorten_the_time_but_not_lengthen_it(
    crowded: httpx.Client, client: httpx.Client
) -> None:
    assert client.post("/predict", content=plain(), headers={"X-DeepEmotion-Timeout": "5"}).status_code == 200
    for path in ("/predict", "/explain"):
        response = crowded.post(path, content=plain(), headers={"X-DeepEmotion-Timeout": "0.01"})
        assert (response.status_code, slug(response)) == (504, "deadline-passed")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "4000", ""])
def test_a_time_that_is_none(client: httpx.Client, seconds: str) -> None:
    response = client.post("/predict", content=plain(), headers={"X-DeepEmotion-Timeout": seconds})
    assert (response.status_code, slug(response)) == (422, "invalid-request")
