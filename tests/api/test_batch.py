from __future__ import annotations

import io
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app.api.schemas import BatchResponse
from app.engine import Kind
from app.main import create_app
from tests.api.serving import service, serving, slug
from tests.api.test_inference_protocol import INFER, image
from tests.api.test_metrics import samples
from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from app.settings import Settings

PATH = "/v1/predict/batch"


def form(*pictures: bytes) -> list[tuple[str, bytes]]:
    return [("file", picture) for picture in pictures]


def emotions(response: httpx.Response) -> list[str]:
    """The dominant emotion of each picture, or the last part of its problem's type."""
    assert response.status_code == 200, response.text
    answer = BatchResponse.model_validate_json(response.content)
    found = []
    for result in answer.results:
        if result.problem is not None:
            assert (result.distribution, result.dominant, result.image) == (None, None, None)
            assert result.problem.request_id == response.headers["x-request-id"] == answer.request_id
            found.append(result.problem.type.rpartition(":")[2])
        else:
            assert result.dominant is not None
            found.append(result.dominant.emotion)
    return found


def test_answers_come_in_the_order_of_the_form(client: httpx.Client) -> None:
    colours = [RED, GREEN, BLUE, BLUE, RED, GREEN] * 5
    pictures = [plain(colour, (20 + 7 * index, 30)) for index, colour in enumerate(colours)]
    response = client.post(PATH, files=form(*pictures))
    names = {RED: "anger", GREEN: "joy", BLUE: "sadness"}
    assert emotions(response) == [names[colour] for colour in colours]
    widths = [result["image"]["width"] for result in response.json()["results"]]
    assert widths == [20 + 7 * index for index in range(30)]


def test_each_answer_is_the_one_that_the_picture_gets_alone(client: httpx.Client) -> None:
    pictures = [encoded(noise((30, 30), seed)) for seed in range(5)]
    together = client.post(PATH, files=form(*pictures)).json()["results"]
    for picture, result in zip(pictures, together, strict=True):
        alone = client.post("/predict", content=picture).json()["distribution"]
        assert result["distribution"] == pytest.approx(alone, abs=1e-6)


def test_a_bad_file_fails_alone(base_settings: Settings, tmp_path: Path) -> None:
    frail = write_checkpoint(tmp_path, fails_on_white=True)
    with service(base_settings.model_copy(update={"checkpoint": frail})) as client:
        bad = [b"hello", b"", plain()[:80], plain((255, 255, 255))]
        response = client.post(PATH, files=form(plain(RED), *bad, plain(BLUE)))
    problems = ["unsupported-picture", "empty-picture", "broken-picture", "model-failed"]
    assert emotions(response) == ["anger", *problems, "sadness"]


def test_a_picture_that_memory_does_not_suffice_for_fails_alone(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: object) -> None:
        raise np._core._exceptions._ArrayMemoryError((10**6, 10**6), np.dtype(np.uint32))  # type: ignore[attr-defined]

    monkeypatch.setattr("app.colours._to_eight_bit", none_left)  # as NumPy does for the largest pictures
    grey = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(grey, "PNG")
    response = client.post(PATH, files=form(plain(RED), grey.getvalue(), plain(BLUE)))
    assert emotions(response) == ["anger", "out-of-memory", "sadness"]
    assert int(response.headers["retry-after"]) >= 1
    failures = [record for record in caplog.records if record.getMessage() == "request failed"]
    assert [record.fields["request_id"] for record in failures] == [response.headers["x-request-id"]]  # type: ignore[attr-defined]
    assert "retry-after" not in client.post(PATH, files=form(plain(RED), b"hello")).headers


def test_a_form_of_its_own(client: httpx.Client) -> None:
    response = client.post(PATH, content=plain())
    assert (response.status_code, slug(response)) == (415, "unsupported-media-type")
    response = client.post(PATH, data={"file": "text"}, files={"other": b"x"})
    assert (response.status_code, slug(response)) == (422, "missing-file")


def test_limits(base_settings: Settings) -> None:
    limits = {"max_files": 3, "max_batch_bytes": 5000}
    with service(base_settings.model_copy(update=limits)) as client:
        assert emotions(client.post(PATH, files=form(*[plain()] * 3))) == ["anger"] * 3
        response = client.post(PATH, files=form(*[plain()] * 4))
        assert (response.status_code, slug(response)) == (422, "too-many-files")
        assert "more than 3 files" in response.json()["detail"]
        response = client.post(PATH, files=form(encoded(noise((64, 64)))))
        assert (response.status_code, slug(response)) == (413, "body-too-large")


@pytest.mark.parametrize("seconds", [0.2, 60.0])
def test_many_pictures_have_a_time_of_their_own(
    base_settings: Settings, slow_checkpoint: Path, seconds: float
) -> None:
    """A batch takes a third of a second."""
    limits = {"checkpoint": slow_checkpoint, "batch_seconds": seconds, "predict_seconds": 60.2 - seconds}
    with service(base_settings.model_copy(update=limits)) as client:
        many = client.post(PATH, files=form(plain()))
        inferred = client.post(INFER, json=image(plain()))
        if seconds < 1:
            assert emotions(many) == ["deadline-passed"]
            assert inferred.status_code == 504
            assert client.post("/predict", content=plain()).status_code == 200
        else:
            assert emotions(many) == ["anger"]
            assert inferred.status_code == 200


def test_a_long_form_holds_few_places_at_once(base_settings: Settings) -> None:
    limits = {"max_predictions": 4, "max_batch": 2}
    with service(base_settings.model_copy(update=limits)) as client:
        assert emotions(client.post(PATH, files=form(*[plain(GREEN)] * 30))) == ["joy"] * 30
        assert samples(client).get(("deepemotion_shed_total", (("kind", "prediction"),)), 0) == 0


def test_what_finds_no_place_is_told_for_each_picture(base_settings: Settings) -> None:
    settings = base_settings.model_copy(update={"max_predictions": 4})
    app = create_app(settings)
    with serving(app, settings) as client, ExitStack() as held:
        for _ in range(3):
            engine = app.state.service.engine
            held.enter_context(engine.place(Kind.PREDICTION, deadline=time.monotonic() + 60))
        found = emotions(client.post(PATH, files=form(*[plain()] * 6)))
    assert "anger" in found
    assert set(found) <= {"anger", "queue-full"}
    assert "queue-full" in found


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_the_versioned_twins_answer_the_same(client: httpx.Client, path: str) -> None:
    plainly, versioned = (client.post(prefix + path, content=plain()) for prefix in ("", "/v1"))
    if path == "/predict":
        assert versioned.json() | {"request_id": 0} == plainly.json() | {"request_id": 0}
    else:
        assert versioned.content == plainly.content
