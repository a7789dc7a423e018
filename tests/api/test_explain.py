from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app.api.explaining import times
from app.api.schemas import ExplanationResponse
from app.checkpoint import sha256_of
from app.engine import Prediction
from app.explain.views import VIEWS
from tests.api.serving import slug
from tests.explain.test_heatmap import explanation
from tests.pictures import BLUE, RED, encoded, noise, plain
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

JSON = {"Accept": "application/json"}


def opened(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(response.content))
    image.load()
    assert image.format == "PNG"
    return image


SAME_SIZE = ("overlay", "heatmap", "dream")


@pytest.mark.parametrize("view", SAME_SIZE)
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
    for name in (
        "Emotion",
        "Probability",
        "Completeness-Error",
        "Imbalance",
        "Evidence",
        "Abstained",
        "Settings",
        "Model",
    ):
        assert image.info[f"DeepEmotion-{name}"] == response.headers[f"x-deepemotion-{name}"]
    assert image.info["DeepEmotion-Model-SHA256"] == sha256_of(checkpoint_path)
    assert response.headers["x-deepemotion-model"] == "tiny@0.0.1"
    assert response.headers["x-deepemotion-abstained"] == "no"


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


def test_a_pair_and_a_sheet(client: httpx.Client) -> None:
    data = encoded(noise((90, 60)))
    assert opened(client.post("/explain", params={"view": "pair"}, content=data)).size == (180, 60)
    response = client.post("/explain", params={"view": "sheet"}, content=data)
    assert opened(response).width >= 3 * 90
    predicted = client.post("/predict", content=data).json()["dominant"]
    assert response.headers["x-deepemotion-emotion"] == predicted["emotion"]


def test_a_sheet_takes_no_emotion(client: httpx.Client) -> None:
    response = client.post("/explain", params={"view": "sheet", "emotion": "joy"}, content=plain())
    assert (response.status_code, slug(response)) == (422, "contradiction")


def speckled() -> bytes:
    """Grey, with red and black speckles in a field at the right: detail that the tiny network feels."""
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    field = pixels[20:55, 45:70]
    field[:] = 0
    field[::2, ::2, 0] = field[1::2, 1::2, 0] = 255
    return encoded(Image.fromarray(pixels))


def test_looks(client: httpx.Client) -> None:
    data = speckled()
    usual = opened(client.post("/explain", content=data))
    for look in ({"colours": "cividis"}, {"strength": "0.3"}):
        other = opened(client.post("/explain", params=look, content=data))
        assert other.size == usual.size
        assert other.tobytes() != usual.tobytes()
    small = opened(client.post("/explain", params={"max_side": 16}, content=data))
    assert max(small.size) == 16
    tall = opened(client.post("/explain", params={"legend": "true"}, content=data))
    assert tall.height > usual.height
    assert tall.crop((0, 0, *usual.size)).tobytes() == usual.tobytes()


@pytest.mark.parametrize("path", ["/explain", "/predict"])
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("emotoin=joy", "there is no parameter emotoin"),
        ("<b>=1", "there is no parameter"),
        (f"{'q' * 33}=1", "there is no parameter"),
        ("&".join(f"a{number}=" for number in range(500)), "there is no parameter a0"),
    ],
)
def test_a_misspelt_parameter_is_refused_instead_of_ignored(
    client: httpx.Client, path: str, query: str, detail: str
) -> None:
    response = client.post(f"{path}?{query}", content=plain())
    assert (response.status_code, slug(response)) == (422, "invalid-request")
    assert response.json()["detail"] == detail


def test_a_map_without_json_is_refused_since_it_would_not_come(client: httpx.Client) -> None:
    response = client.post("/explain", params={"map": "npz"}, content=plain())
    assert (response.status_code, slug(response)) == (422, "contradiction")
    assert "Accept: application/json" in response.json()["detail"]


def test_an_explanation_says_when_its_prediction_should_not_be_relied_on(judge: httpx.Client) -> None:
    reasons = set()
    for data in (plain((0, 200, 0)), plain((128, 128, 128)), plain((0, 0, 0))):
        predicted = judge.post("/predict", content=data).json()["abstained_because"]
        drawn = judge.post("/explain", content=data)
        assert drawn.headers["x-deepemotion-abstained"] == (predicted or "no")
        assert judge.post("/explain", content=data, headers=JSON).json()["abstained_because"] == predicted
        reasons.add(predicted)
    assert reasons == {None, "flat", "unfamiliar"}


def test_quality_is_told_and_a_thorough_map_takes_more_steps(client: httpx.Client) -> None:
    for quality in ("quick", "thorough"):
        response = client.post("/explain", params={"quality": quality}, content=encoded(noise((40, 30))))
        assert response.headers["x-deepemotion-settings"] == quality
        assert opened(response).info["DeepEmotion-Settings"] == quality


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("quality", "best", "'quick' or 'thorough'"),
        ("colours", "jet", "'red-blue' or 'cividis'"),
        ("strength", "0", "greater than 0"),
        ("strength", "nan", "finite"),
        ("strength", "1.5", "less than or equal to 1"),
        ("legend", "perhaps", "boolean"),
        ("map", "tiff", "'none', 'png' or 'npz'"),
    ],
)
def test_a_value_that_is_not_allowed_is_answered_with_those_that_are(
    client: httpx.Client, name: str, value: str, allowed: str
) -> None:
    response = client.post("/explain", params={name: value}, content=plain())
    assert (response.status_code, slug(response)) == (422, "invalid-request")
    assert name in response.json()["detail"]
    assert allowed in response.json()["detail"]


def test_json_says_where_the_evidence_is(client: httpx.Client) -> None:
    response = client.post("/explain", params={"emotion": "anger"}, content=speckled(), headers=JSON)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["vary"] == "Accept"
    answer = ExplanationResponse.model_validate_json(response.content)
    (found,) = answer.explanations
    assert found.emotion == "anger"
    assert found.evidence
    assert found.map is None
    assert response.headers["x-deepemotion-emotion"] == "anger"
    assert (answer.image.width, answer.image.height) == (SIDE, SIDE)
    strongest = found.regions[0]
    assert 35 <= strongest.left < strongest.right <= SIDE
    assert 10 <= strongest.top < strongest.bottom <= 65
    assert strongest.share > 0.3


def test_a_sheet_in_json_is_all_emotions_the_most_probable_first(client: httpx.Client) -> None:
    response = client.post("/explain", params={"view": "sheet"}, content=speckled(), headers=JSON)
    found = ExplanationResponse.model_validate_json(response.content).explanations
    assert sorted(each.emotion for each in found) == sorted(LABELS)
    probabilities = [each.probability for each in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_the_raw_map_in_both_forms_is_the_same_and_sums_to_the_rise(client: httpx.Client) -> None:
    maps = []
    for form in ("npz", "png"):
        response = client.post(
            "/explain", params={"map": form}, content=encoded(noise((40, 30))), headers=JSON
        )
        (found,) = ExplanationResponse.model_validate_json(response.content).explanations
        assert found.map is not None
        file = io.BytesIO(base64.b64decode(found.map.data))
        stored = np.load(file)["relevance"] if form == "npz" else np.asarray(Image.open(file))
        assert stored.shape == (found.map.side, found.map.side)
        maps.append((stored.astype(float) - found.map.zero) * found.map.unit)
        error = abs(maps[-1].sum() - found.rise) / abs(found.rise)
        assert error == pytest.approx(found.completeness_error, abs=0.01)
    assert np.abs(maps[0] - maps[1]).max() <= np.abs(maps[0]).max() / 30000


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/png"),
        ("image/png", "image/png"),
        ("text/html, image/png, application/json", "image/png"),
        ("application/json, text/plain, */*", "image/png"),  # what axios sends with everything
        ("application/json, */*;q=0.8", "application/json"),
        ("application/*, image/*;q=0.5", "application/json"),
        ("image/png;q=0.1, application/json; charset=utf-8; q=0.2", "application/json"),
        ("application/json;q=0.9", "application/json"),
        ("application/json;q=much", "image/png"),
        ("text/html", "image/png"),
        ("", "image/png"),
    ],
)
def test_a_picture_unless_json_is_liked_better(client: httpx.Client, accept: str, kind: str) -> None:
    response = client.post("/explain", content=plain(), headers={"Accept": accept})
    assert response.headers["content-type"] == kind


def test_what_is_liked_may_be_told_in_several_lines(client: httpx.Client) -> None:
    lines = [("Accept", "image/png;q=0.1"), ("Accept", "application/json")]
    response = client.post("/explain", content=plain(), headers=lines)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_evidence_lies_where_the_upright_picture_has_it(client: httpx.Client, orientation: int) -> None:
    """The picture is stored turned, as cameras do; the answer is about what a viewer sees."""
    stored = Image.open(io.BytesIO(speckled()))
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(stored if back is None else stored.transpose(back), "PNG", exif=exif)
    upright = client.post("/explain", params={"emotion": "anger"}, content=speckled())
    assert upright.headers["x-deepemotion-evidence"] == "yes"
    found = client.post("/explain", params={"emotion": "anger"}, content=turned)
    assert opened(found).tobytes() == opened(upright).tobytes()


def test_timing(client: httpx.Client) -> None:
    timing = client.post("/explain", content=plain()).headers["server-timing"]
    names = re.findall(r"(\w+);dur=\d+\.\d", timing)
    assert names == ["decode", "queue", "infer", "render"]


def test_the_times_of_a_sheet_count_its_one_prediction_once() -> None:
    prediction = Prediction(np.array([0.6, 0.4]), 0.25, 0.5)
    dreamt = explanation(np.ones((8, 8), np.float32))
    both = [
        replace(dreamt, prediction=prediction, queue_seconds=0.25 + waited, infer_seconds=0.5 + computed)
        for waited, computed in ((1.0, 2.0), (4.0, 8.0))
    ]
    assert times(both) == (5.25, 10.5)


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


def test_a_layer_instead_of_an_emotion(judge: httpx.Client) -> None:
    data, wish = encoded(noise((40, 30))), {"layer": "squashed", "view": "heatmap"}
    first, again = (judge.post("/explain", params=wish, content=data) for _ in range(2))
    assert first.content == again.content
    assert first.headers["X-DeepEmotion-Layer"] == "squashed"
    of_emotion = judge.post("/explain", params={"view": "heatmap"}, content=data)
    assert "X-DeepEmotion-Layer" not in of_emotion.headers
    assert opened(first).tobytes() != opened(of_emotion).tobytes()
    dreamed = judge.post("/explain", params={**wish, "view": "dream"}, content=data)
    assert opened(dreamed).size == (40, 30)
    said = judge.post("/explain", params=wish, content=data, headers={"Accept": "application/json"})
    assert ExplanationResponse.model_validate_json(said.content).explanations[0].layer == "squashed"


def test_a_layer_that_is_not_there_names_those_that_are(judge: httpx.Client, client: httpx.Client) -> None:
    assert judge.get("/v1/model").json()["layers"] == ["smooth", "squashed"]
    refused = judge.post("/explain", params={"layer": "Mixed_6e"}, content=encoded(noise((40, 30))))
    assert (refused.status_code, slug(refused)) == (422, "unknown-layer")
    assert "choose one of: smooth, squashed" in refused.json()["detail"]
    assert refused.json()["allowed"] == ["smooth", "squashed"]
    blind = client.post("/explain", params={"layer": "smooth"}, content=encoded(noise((40, 30))))
    assert (blind.status_code, slug(blind)) == (422, "unknown-layer")
    assert "shows no inner layers" in blind.json()["detail"]
    assert "allowed" not in blind.json()


@pytest.mark.parametrize("other", [{"emotion": "joy"}, {"view": "sheet"}])
def test_a_layer_and_an_emotion_contradict_each_other(judge: httpx.Client, other: dict[str, str]) -> None:
    refused = judge.post("/explain", params={"layer": "smooth", **other}, content=encoded(noise((40, 30))))
    assert (refused.status_code, slug(refused)) == (422, "contradiction")
