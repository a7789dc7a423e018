from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app.checkpoint import sha256_of
from app.explain.heatmap import VIEWS
from tests.api.serving import slug
from tests.pictures import BLUE, RED, encoded, noise, plain
from tests.tiny import LABELS

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


def opened(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(response.content))
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("view", VIEWS)
def test_a_png_of_the_uploads_own_size(client: httpx.Client, view: str) -> None:
    image = opened(client.post("/explain", params={"view": view}, content=encoded(noise((91, 67)))))
    assert (image.mode, image.size) == ("RGB", (91, 67))


def test_upright(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise((60, 20)), "JPEG", exif=exif)
    assert opened(client.post("/explain", content=data)).size == (20, 60)


def test_the_overlay_is_the_default_view(client: httpx.Client) -> None:
    data = encoded(noise((40, 30)))
    default = client.post("/explain", content=data)
    overlay = client.post("/explain", params={"view": "overlay"}, files={"file": data})
    assert opened(default).tobytes() == opened(overlay).tobytes()


def test_views_differ(client: httpx.Client) -> None:
    data = encoded(noise((40, 30)))
    views = {opened(client.post("/explain", params={"view": v}, content=data)).tobytes() for v in VIEWS}
    assert len(views) == len(VIEWS)


def test_the_dominant_emotion_is_the_default(client: httpx.Client) -> None:
    response = client.post("/explain", content=plain(BLUE))
    assert response.headers["x-deepemotion-emotion"] == "sadness"
    assert float(response.headers["x-deepemotion-probability"]) > 0.5


@pytest.mark.parametrize("emotion", LABELS)
def test_any_emotion_can_be_explained(client: httpx.Client, emotion: str) -> None:
    response = client.post("/explain", params={"emotion": emotion}, content=plain(BLUE))
    assert response.headers["x-deepemotion-emotion"] == emotion
    predicted = client.post("/predict", content=plain(BLUE)).json()["distribution"][emotion]
    assert float(response.headers["x-deepemotion-probability"]) == pytest.approx(predicted, abs=1e-6)


def test_headers_and_notes_say_the_same(client: httpx.Client, checkpoint_path: Path) -> None:
    response = client.post("/explain", content=plain(RED))
    image = opened(response)
    for name in ("Emotion", "Probability", "Completeness-Error", "Model"):
        assert image.info[f"DeepEmotion-{name}"] == response.headers[f"x-deepemotion-{name}"]
    assert image.info["DeepEmotion-Model-SHA256"] == sha256_of(checkpoint_path)
    assert response.headers["x-deepemotion-model"] == "tiny@0.0.1"
    assert float(response.headers["x-deepemotion-completeness-error"]) < 0.1


def test_nothing_of_the_uploads_metadata_comes_back(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a secret camera"
    data = encoded(noise((32, 32)), "JPEG", exif=exif, icc_profile=b"a secret profile", comment=b"a secret")
    for view in VIEWS:
        response = client.post("/explain", params={"view": view}, content=data)
        assert b"secret" not in response.content
        assert all(str(name).startswith("DeepEmotion-") for name in opened(response).info)


def test_the_same_upload_gives_the_same_bytes(client: httpx.Client) -> None:
    data = encoded(noise((40, 30)))
    first, second = (client.post("/explain", content=data).content for _ in range(2))
    assert first == second


def test_the_dream_of_anger_is_redder(client: httpx.Client) -> None:
    picture = Image.new("RGB", (80, 80), (60, 60, 60))
    response = client.post("/explain", params={"emotion": "anger", "view": "dream"}, content=encoded(picture))
    red, green, blue = (np.asarray(opened(response)).astype(float) - 60).mean(axis=(0, 1))
    assert red > 1
    assert green < -1
    assert blue < -1


def test_timing(client: httpx.Client) -> None:
    timing = client.post("/explain", content=plain()).headers["server-timing"]
    names = re.findall(r"(\w+);dur=\d+\.\d", timing)
    assert names == ["decode", "queue", "infer", "render"]


def test_an_unknown_emotion_is_refused(client: httpx.Client) -> None:
    response = client.post("/explain", params={"emotion": "<b>envy</b>"}, content=plain())
    assert (response.status_code, slug(response)) == (422, "unknown-emotion")
    assert response.json()["allowed"] == list(LABELS)
    assert "envy" not in response.text


def test_an_unknown_view_is_refused(client: httpx.Client) -> None:
    response = client.post("/explain", params={"view": "x-ray"}, content=plain())
    assert (response.status_code, slug(response)) == (422, "unknown-view")
    assert response.json()["allowed"] == list(VIEWS)
    assert "x-ray" not in response.text


def test_an_endless_parameter_is_refused(client: httpx.Client) -> None:
    response = client.post("/explain", params={"view": "q" * 65}, content=plain())
    assert (response.status_code, slug(response)) == (422, "invalid-request")
    assert "qq" not in response.text
