"""What the answers say beyond the distribution, with a checkpoint that abstains and one that cannot."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.http as triton

from app.client import Client
from tests.api.serving import slug
from tests.pictures import GREEN, RED, plain

if TYPE_CHECKING:
    import httpx

BLACK, GREY = (0, 0, 0), (128, 128, 128)
COLOURS = [(GREEN, None), (GREY, "flat"), (BLACK, "unfamiliar")]


@pytest.mark.parametrize("path", ["/predict", "/v1/predict"])
@pytest.mark.parametrize(("colour", "reason"), COLOURS)
def test_abstaining(judge: httpx.Client, path: str, colour: tuple[int, int, int], reason: str | None) -> None:
    said = judge.post(path, content=plain(colour)).json()
    assert (said["abstained"], said["abstained_because"]) == (reason is not None, reason)
    shares = said["distribution"].values()
    assert said["entropy"] == pytest.approx(-sum(share * math.log(share) for share in shares))
    assert (said["novelty"] > 5) == (reason == "unfamiliar")


def test_the_valence(judge: httpx.Client) -> None:
    said = judge.post("/predict", content=plain(GREEN)).json()
    shares = said["distribution"]
    assert said["valence"] == pytest.approx(shares["joy"] - 0.5 * shares["anger"] - shares["sadness"])


def test_what_a_checkpoint_cannot_tell_is_null(client: httpx.Client) -> None:
    said = client.post("/predict", content=plain(GREY)).json()
    unknown = {"novelty": None, "abstained": False, "abstained_because": None, "valence": None, "top": None}
    assert {name: said[name] for name in unknown} == unknown
    assert said["entropy"] == pytest.approx(math.log(3), abs=1e-4)


def test_the_most_probable(client: httpx.Client) -> None:
    for top_k, count in ((1, 1), (2, 2), (3, 3), (1000, 3)):
        said = client.post("/predict", content=plain(RED), params={"top_k": top_k}).json()
        assert len(said["top"]) == count
        assert said["top"][0] == said["dominant"]


@pytest.mark.parametrize("path", ["/predict", "/v1/predict/batch"])
@pytest.mark.parametrize("top_k", ["0", "-1", "1001", "x", ""])
def test_a_count_that_is_none(client: httpx.Client, path: str, top_k: str) -> None:
    response = client.post(path, files={"file": plain()}, params={"top_k": top_k})
    assert (response.status_code, slug(response)) == (422, "invalid-request")


def test_a_batch(judge: httpx.Client) -> None:
    files = [("file", plain(colour)) for colour, _ in COLOURS]
    said = judge.post("/v1/predict/batch", files=[*files, ("file", b"bad")], params={"top_k": 1}).json()
    *good, bad = said["results"]
    assert [each["abstained_because"] for each in good] == [reason for _, reason in COLOURS]
    assert [each["top"] for each in good] == [[each["dominant"]] for each in good]
    assert {name for name, value in bad.items() if value is not None} == {"problem"}


def test_the_client(judge: httpx.Client) -> None:
    with Client(str(judge.base_url)) as asking:
        for colour, reason in COLOURS:
            said = judge.post("/predict", content=plain(colour)).json()
            found = asking.predict(plain(colour))
            assert (found.abstained, found.abstained_because) == (reason is not None, reason)
            assert (found.novelty, found.valence) == (said["novelty"], said["valence"])


def outputs_of(asked: httpx.Client) -> list[str]:
    outputs: list[dict[str, Any]] = asked.get("/v2/models/tiny").json()["outputs"]
    return [output["name"] for output in outputs]


def test_the_open_inference_protocol(judge: httpx.Client, client: httpx.Client) -> None:
    known = ["probabilities", "label", "entropy"]
    assert outputs_of(client) == known
    assert outputs_of(judge) == [*known, "valence", "novelty", "abstained", "abstained_because"]
    wish = triton.InferInput("image", [3], "BYTES")
    files = [base64.b64encode(plain(colour)).decode() for colour, _ in COLOURS]
    wish.set_data_from_numpy(np.array(files, object), binary_data=False)
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in outputs_of(judge)]
    with triton.InferenceServerClient(f"{judge.base_url.host}:{judge.base_url.port}") as other:
        answer = other.infer("tiny", [wish], outputs=wanted)
    assert answer.as_numpy("abstained").tolist() == [False, True, True]
    assert answer.as_numpy("abstained_because").tolist() == ["", "flat", "unfamiliar"]
    alone = [judge.post("/predict", content=plain(colour)).json() for colour, _ in COLOURS]
    for name in ("entropy", "novelty", "valence"):
        assert answer.as_numpy(name).tolist() == pytest.approx([each[name] for each in alone], abs=1e-5)


def test_an_output_that_the_checkpoint_cannot_give(client: httpx.Client) -> None:
    data = [base64.b64encode(plain()).decode()]
    wish = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]}
    response = client.post("/v2/models/tiny/infer", json=wish | {"outputs": [{"name": "novelty"}]})
    assert response.status_code == 400
    assert "1 outputs that the model does not have" in response.json()["error"]
