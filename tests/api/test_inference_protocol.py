from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from app.main import create_app
from tests.api.serving import serving
from tests.api.test_metrics import samples
from tests.engine.harness import BLUE as BLUE_PIXELS
from tests.engine.harness import RED as RED_PIXELS
from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from app.settings import Settings

INFER = "/v2/models/tiny/infer"


def image(*files: bytes, **more: Any) -> dict[str, Any]:
    data = [base64.b64encode(file).decode() for file in files]
    return {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}], **more}


def outputs(response: httpx.Response) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def refusal(response: httpx.Response, status: int) -> str:
    """The message of an error in the protocol's form."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert set(client.get("/v2").json()) == {"name", "version", "extensions"}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/0.0.1"):
        metadata = client.get(path).json()
        assert (metadata["name"], metadata["versions"]) == ("tiny", ["0.0.1"])
        assert metadata["outputs"][0]["shape"] == [-1, len(LABELS)]
        assert client.get(f"{path}/ready").json() == {"name": "tiny", "ready": True}


def test_pictures_as_base64(client: httpx.Client) -> None:
    files = [plain(RED), plain(GREEN), encoded(noise((30, 20)), "JPEG"), plain(BLUE)]
    response = client.post(INFER, json=image(*files, id="forty-two"))
    found = outputs(response)
    assert {key: response.json()[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "tiny",
        "model_version": "0.0.1",
        "id": "forty-two",
    }
    assert found["probabilities"]["shape"] == [4, len(LABELS)]
    rows = np.array(found["probabilities"]["data"]).reshape(4, -1)
    for row, label, file in zip(rows, found["label"]["data"], files, strict=True):
        alone = client.post("/predict", content=file).json()
        assert list(alone["distribution"].values()) == pytest.approx(row.tolist(), abs=1e-6)
        assert alone["dominant"]["emotion"] == label


@pytest.mark.parametrize("nested", [True, False])
def test_pixels_nested_or_flat(client: httpx.Client, nested: bool) -> None:
    pictures = np.stack([RED_PIXELS, BLUE_PIXELS]).transpose(0, 2, 3, 1)
    data = pictures.tolist() if nested else pictures.ravel().tolist()
    wish = {"name": "pixels", "shape": list(pictures.shape), "datatype": "UINT8", "data": data}
    found = outputs(client.post(INFER, json={"inputs": [wish], "outputs": [{"name": "label"}]}))
    assert list(found) == ["label"]
    assert found["label"]["data"] == ["anger", "sadness"]


def test_who_asks_for_no_output_by_name_gets_all(client: httpx.Client) -> None:
    everything = outputs(client.post(INFER, json=image(plain())))
    assert everything
    assert outputs(client.post(INFER, json=image(plain(), outputs=[]))) == everything


def test_pixels_wait_for_no_decoding(base_settings: Settings) -> None:
    app = create_app(base_settings)
    with serving(app, base_settings) as client:
        service = app.state.service
        pictures = RED_PIXELS[np.newaxis].transpose(0, 2, 3, 1)
        wish = {
            "name": "pixels",
            "shape": list(pictures.shape),
            "datatype": "UINT8",
            "data": pictures.ravel().tolist(),
        }
        real = service.decoding.run

        async def run(*args: Any, **kwargs: Any) -> Any:
            understood = await real(*args, **kwargs)
            service.engine._lines._before = lambda: 1000.0  # seconds, for what others have sent meanwhile
            return understood

        service.decoding.run = run
        assert client.post(INFER, json={"inputs": [wish]}).status_code == 200
        refused = client.post(INFER, json={"inputs": [wish]})  # which has to be understood itself
        assert refused.status_code == 503


def test_a_client_says_how_long_it_waits(client: httpx.Client, crowded: httpx.Client) -> None:
    assert client.post(INFER, json=image(plain()), headers={"X-DeepEmotion-Timeout": "5"}).status_code == 200
    response = crowded.post(INFER, json=image(plain()), headers={"X-DeepEmotion-Timeout": "0.01"})
    assert "deadline" in refusal(response, 504)
    refusal(client.post(INFER, json=image(plain()), headers={"X-DeepEmotion-Timeout": "never"}), 422)


def test_no_id_is_sent_back_where_none_was_sent(client: httpx.Client) -> None:
    assert "id" not in client.post(INFER, json=image(plain())).json()


FLAT = [0] * (SIDE * SIDE * 3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({}, "inputs: Field required"),
        ({"inputs": []}, "at least 1 item"),
        ({"inputs": image(b"")["inputs"] * 2}, "at most 1 item"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}]}, "`image` or `pixels`"),
        (
            {"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}]},
            "'BYTES' or 'UINT8'",
        ),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "UINT8", "data": [1]}]}, "must be BYTES"),
        ({"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "data": [""]}]}, "says 2 pictures"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["?"]}]}, "Base64"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [7]}]}, "Base64"),
        ({"inputs": [{"name": "image", "shape": [0], "datatype": "BYTES", "data": []}]}, "not 0"),
        (image(*[b"x"] * 33), "not 33"),
        (image(plain(), outputs=[{"name": "mood"}]), "1 outputs that the model does not have"),
        (
            {"inputs": [{"name": "pixels", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": []}]},
            "shape [n,",
        ),
        (
            {"inputs": [{"name": "pixels", "shape": [1, 75, 75, 3], "datatype": "UINT8", "data": [1]}]},
            "levels",
        ),
        (
            {
                "inputs": [
                    {"name": "pixels", "shape": [1, 75, 75, 3], "datatype": "UINT8", "data": [300, *FLAT[1:]]}
                ]
            },
            "levels",
        ),
        (
            {"inputs": [{"name": "pixels", "shape": [1, 75, 75, 3], "datatype": "UINT8", "data": ["a"]}]},
            "levels",
        ),
        (
            {"inputs": [{"name": "pixels", "shape": [10**30, 75, 75, 3], "datatype": "UINT8", "data": FLAT}]},
            "levels",
        ),
    ],
)
def test_what_is_not_as_the_protocol_says(client: httpx.Client, body: Any, message: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert message in refusal(client.post(INFER, content=data), 400)


@pytest.mark.parametrize(
    "path",
    ["/v2/models/other/infer", "/v2/models/tiny/versions/9/infer"],
)
def test_another_model(client: httpx.Client, path: str) -> None:
    assert "tiny, version 0.0.1" in refusal(client.post(path, json=image(plain())), 404)


def test_other_errors_have_the_protocols_form_too(client: httpx.Client) -> None:
    assert "JPEG, PNG or WebP" in refusal(client.post(INFER, json=image(plain(), b"hello")), 415)
    refusal(client.get("/v2/nothing"), 404)
    response = client.get(INFER)
    refusal(response, 405)
    assert response.headers["allow"] == "POST"


def test_nobody_has_left_when_one_picture_of_many_is_bad(client: httpx.Client) -> None:
    def abandoned() -> float:
        return samples(client).get(("deepemotion_abandoned_total", (("kind", "prediction"),)), 0.0)

    before = abandoned()
    refusal(client.post(INFER, json=image(*[plain()] * 8, b"hello")), 415)
    assert abandoned() == before


def test_it_is_not_alive_when_only_a_new_process_helps(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    monkeypatch.setattr("app.engine.Engine.beyond_repair", True)
    assert "only a new process" in refusal(client.get("/v2/health/live"), 503)
    assert client.get("/healthz").status_code == 503


def test_nothing_of_a_wrong_request_is_repeated(client: httpx.Client) -> None:
    canary = "canary-5d1f3a"
    right = image(plain())["inputs"][0]
    for wrong in (
        {"parameters": {"binary_data_size": canary}},
        {"parameters": canary},
        {"datatype": canary},
        {"name": canary},
        {"shape": [canary]},
        {"data": [canary]},
        {"data": canary},
    ):
        assert canary not in refusal(client.post(INFER, json={"inputs": [right | wrong]}), 400)
    for body in ({canary: canary}, {"inputs": canary}, [canary], image(plain(), outputs=[{"name": canary}])):
        assert canary not in refusal(client.post(INFER, json=body), 400)
    assert canary not in refusal(client.post(f"/v2/models/{canary}/infer", json={}), 404)


@pytest.mark.parametrize("cut", [1, 3, 10])
def test_binary_data_that_do_not_add_up(client: httpx.Client, cut: int) -> None:
    file = plain()
    data = (struct.pack("<I", len(file)) + file)[:-cut]
    wish = image(b"")
    del wish["inputs"][0]["data"]
    for announced, message in ((len(data), "end within an element"), (len(data) + 1, "announced")):
        wish["inputs"][0]["parameters"] = {"binary_data_size": announced}
        header = json.dumps(wish).encode()
        response = client.post(
            INFER, content=header + data, headers={"Inference-Header-Content-Length": str(len(header))}
        )
        assert message in refusal(response, 400)


@pytest.fixture
def tritons(client: httpx.Client) -> Iterator[Any]:
    """NVIDIA's own client of the protocol."""
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as other:
        yield other


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_others_sends_files(tritons: Any, binary: bool) -> None:
    assert tritons.is_server_live()
    assert tritons.is_server_ready()
    assert tritons.is_model_ready("tiny", "0.0.1")
    assert tritons.get_model_metadata("tiny")["inputs"][0]["name"] == "image"
    files = [plain(BLUE), plain(RED)]
    data = files if binary else [base64.b64encode(file) for file in files]
    wish = triton.InferInput("image", [2], "BYTES")
    wish.set_data_from_numpy(np.array(data, object), binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "label")]
    answer = tritons.infer("tiny", [wish], request_id="7", outputs=wanted)
    assert answer.as_numpy("probabilities").shape == (2, len(LABELS))
    assert answer.as_numpy("probabilities").dtype == np.float32
    assert answer.as_numpy("label").tolist() == ["sadness", "anger"]
    assert answer.get_response()["id"] == "7"


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_others_sends_pixels(tritons: Any, binary: bool) -> None:
    pictures = np.ascontiguousarray(np.stack([RED_PIXELS, BLUE_PIXELS]).transpose(0, 2, 3, 1))
    wish = triton.InferInput("pixels", list(pictures.shape), "UINT8")
    wish.set_data_from_numpy(pictures, binary_data=binary)
    answer = tritons.infer("tiny", [wish])
    assert answer.as_numpy("label").tolist() == ["anger", "sadness"]


def test_a_client_of_others_is_told_what_is_wrong(tritons: Any) -> None:
    wish = triton.InferInput("image", [1], "BYTES")
    wish.set_data_from_numpy(np.array([b"hello"], object))
    with pytest.raises(InferenceServerException, match="JPEG, PNG or WebP"):
        tritons.infer("tiny", [wish])
