from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from app.api.schemas import ExplanationResponse
from app.client import Client, Explanation
from tests.api.test_explain import speckled
from tests.client.misbehaving import answering, response
from tests.pictures import RED, encoded, noise, plain
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    import httpx


def test_an_explanation_is_the_service_s_png(asking: Client, client: httpx.Client) -> None:
    data = encoded(noise((60, 40)))
    said = client.post("/explain", params={"emotion": "sadness", "view": "heatmap"}, content=data)
    explained = asking.explain(data, emotion="sadness", view="heatmap", request_id="mine-2")
    assert explained.png == said.content
    assert explained.emotion == "sadness"
    assert explained.probability == pytest.approx(asking.predict(data).distribution["sadness"], abs=1e-6)
    assert 0 <= explained.completeness_error < 1
    assert explained.evidence == (said.headers["X-DeepEmotion-Evidence"] == "yes")
    assert explained.quality == "quick"
    assert (explained.layer, explained.abstained) == (None, False)
    assert explained.model == "tiny@0.0.1"
    assert explained.request_id == "mine-2"


def test_the_dominant_emotion_is_explained_on_the_picture_unless_another_is_asked_for(asking: Client) -> None:
    explained = asking.explain(plain(RED, (50, 30)))
    assert explained.emotion == "anger"
    with Image.open(io.BytesIO(explained.png)) as image:
        assert image.size == (50, 30)


@pytest.mark.parametrize(
    "wish",
    [
        {"emotion": "sadness"},
        {"view": "pair"},
        {"quality": "thorough"},
        {"colours": "cividis"},
        {"strength": 0.5},
        {"legend": True},
        {"max_side": 20},
    ],
    ids=repr,
)
def test_every_wish_reaches_the_service(asking: Client, client: httpx.Client, wish: dict[str, Any]) -> None:
    data = speckled()
    wished = asking.explain(data, **wish).png
    assert wished == client.post("/explain", params=wish, content=data).content
    assert wished != asking.explain(data).png


def test_an_inner_layer_can_be_asked_for(judge: httpx.Client) -> None:
    data = encoded(noise((60, 40)))
    with Client(str(judge.base_url)) as asking:
        assert asking.model().layers == ("smooth", "squashed")
        (found,) = asking.evidence(data, layer="squashed").explanations
        assert found.layer == "squashed"
        explained = asking.explain(data, layer="squashed")
        assert explained.layer == "squashed"
        assert explained.png != asking.explain(data).png


def test_whether_to_believe_an_explanation_is_told(judge: httpx.Client) -> None:
    with Client(str(judge.base_url)) as asking:
        found = asking.evidence(plain((0, 0, 0)))
        assert (found.abstained, found.abstained_because) == (True, "unfamiliar")
        explained = asking.explain(plain((0, 0, 0)))
        assert (explained.abstained, explained.abstained_because) == (True, "unfamiliar")
        sure = asking.evidence(plain((20, 230, 20)))
        assert (sure.abstained, sure.abstained_because) == (False, None)


@pytest.mark.parametrize("form", ["png", "npz"])
def test_the_whole_map_can_be_asked_for(asking: Client, form: str) -> None:
    (found,) = asking.evidence(speckled(), raw_map=form).explanations
    assert found.evidence
    raw = found.map
    assert raw is not None
    assert (raw.form, raw.side) == (form, SIDE)
    if form == "npz":
        values = np.load(io.BytesIO(raw.data))["relevance"]
    else:
        with Image.open(io.BytesIO(raw.data)) as image:
            values = np.asarray(image).astype(np.float64)
    assert values.shape == (SIDE, SIDE)
    assert ((values - raw.zero) * raw.unit).sum() == pytest.approx(found.rise, rel=0.01)


def as_json(found: Explanation) -> dict[str, Any]:
    """As the service says it."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(found)))
    return said | {"settings": said.pop("quality")}


def test_evidence_says_what_the_service_says(asking: Client, client: httpx.Client) -> None:
    data = encoded(noise((60, 40)))
    headers = {"Accept": "application/json"}
    said = client.post("/explain", params={"view": "sheet"}, content=data, headers=headers).json()
    found = asking.evidence(data, all_emotions=True, request_id="mine-4")
    assert len(found.explanations) == len(LABELS)
    assert as_json(found) == said | {"request_id": "mine-4"}


def test_evidence_as_the_documentation_shows_it() -> None:
    (example,) = ExplanationResponse.model_json_schema()["examples"]
    body = json.dumps(example).encode()
    with (
        answering(response("200 OK", "Content-Type: application/json", body=body)) as url,
        Client(url) as client,
    ):
        found = client.evidence(plain())
    assert len(found.explanations[0].regions) == 2
    assert as_json(found) == example


def test_evidence_of_one_emotion(asking: Client) -> None:
    thorough = asking.evidence(plain(RED), emotion="joy", quality="thorough")
    (one,) = thorough.explanations
    assert (one.emotion, thorough.quality) == ("joy", "thorough")
    (dominant,) = asking.evidence(plain(RED)).explanations
    assert dominant.emotion == "anger"
