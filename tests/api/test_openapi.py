from __future__ import annotations

import difflib
import json
import re
import runpy
import zipfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import app.card
from app.api import protocol_answers, schemas
from app.api.errors import TABLE
from app.api.outputs import outputs
from app.api.problems import MEDIA_TYPE
from app.api.refusals import BadInference, UnknownEmotion
from app.api.schemas import ExplanationResponse, ModelResponse, PredictionResponse, Problem
from app.api.tensors import MOST_VALUES, read
from app.card import Card
from app.checkpoint import CARD_FILE
from app.distribution import described

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def schema(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def operations(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All but those of the Open Inference Protocol, which has its own form for errors."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if not path.startswith("/v2")
    }


def problems(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Example bodies by slug, each checked to belong where it is documented."""
    found = {}
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            continue
        assert list(response["content"]) == [MEDIA_TYPE]
        for slug, example in response["content"][MEDIA_TYPE]["examples"].items():
            assert example["value"]["status"] == int(status)
            found[slug] = example["value"]
    return found


def test_the_routes(schema: dict[str, Any]) -> None:
    assert set(operations(schema)) == {
        "POST /predict",
        "POST /explain",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /v1/model",
        "POST /v1/model/reload",
        "POST /v1/predict",
        "POST /v1/predict/batch",
        "POST /v1/explain",
    }


def test_every_error_is_documented_with_an_example(schema: dict[str, Any]) -> None:
    documented = {name: set(problems(operation)) for name, operation in operations(schema).items()}
    everything = {kind.slug for kind in TABLE.values()}
    only_explain = {"unknown-emotion", "unknown-view", "unknown-layer", "contradiction"}
    operators = {"not-allowed", "admin-disabled", "checkpoint-refused", "beyond-repair"}
    assert "not-allowed" in documented["GET /metrics"]
    assert documented["GET /v1/model"] == {"key-needed", "keys-unreadable", "internal"}
    everything -= {"bad-inference", "unknown-model"}
    everything -= {"too-many-connections"}  # said before anything is asked
    assert documented["POST /explain"] == everything - operators
    assert documented["POST /predict"] == everything - operators - only_explain
    assert documented["POST /v1/explain"] == documented["POST /explain"]
    assert documented["POST /v1/predict"] == documented["POST /predict"]
    assert documented["POST /v1/predict/batch"] < documented["POST /predict"]
    assert documented["POST /v1/model/reload"] >= {"not-allowed", "admin-disabled", "checkpoint-refused"}
    assert documented["GET /healthz"] == {"beyond-repair", "internal"}
    assert documented["GET /readyz"] == {"not-ready", "internal"}


def test_examples_of_problems_are_problems(schema: dict[str, Any]) -> None:
    for operation in operations(schema).values():
        for slug, example in problems(operation).items():
            problem = Problem.model_validate(example)
            assert problem.type == f"urn:deepemotion:problem:{slug}"
            assert (problem.allowed is not None) == slug.startswith("unknown-")


def test_retry_after_is_documented_where_it_is_sent(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema).items():
        # Of a batch, some pictures may be refused in an answer that is a success.
        meant = {"429", "503"} | ({"200"} if name.endswith("/batch") else set())
        for status, response in operation["responses"].items():
            assert ("Retry-After" in response.get("headers", {})) == (status in meant)


def test_a_change_is_seen(schema: dict[str, Any]) -> None:
    committed = json.loads((DOCS / "openapi.json").read_text("utf-8"))
    before, after = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (committed, schema))
    difference = list(islice(difflib.unified_diff(before, after, "committed", "now", lineterm=""), 60))
    assert not difference, "run python docs/write_openapi.py if this is meant:\n" + "\n".join(difference)


def test_the_page_tells_of_what_there_is(schema: dict[str, Any]) -> None:
    page = runpy.run_path(str(DOCS / "write_openapi.py"))["page"](schema)
    assert (DOCS / "api.md").read_text("utf-8") == page, "run python docs/write_openapi.py"
    for kind in TABLE.values():
        assert f"| {kind.status} | `{kind.slug}` |" in page
    assert "`bad-request` (400)" in page  # of what never becomes a request, so no route has it


def test_the_page_tells_of_every_field_and_limit(schema: dict[str, Any]) -> None:
    page = runpy.run_path(str(DOCS / "write_openapi.py"))["page"](schema)
    tables = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert {"PredictionResponse", "OnePicture", "RegionBox", "RawMap", "Problem"} <= set(tables)
    for name, table in tables.items():
        described = schema["components"]["schemas"][name]["properties"]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*) \|$", table, re.MULTILINE)
        assert [field for field, _, _ in rows] == list(described)
        assert hasattr(app.card, name) or all(about for _, _, about in rows), name
    for setting, told in {
        "MAX_UPLOAD_BYTES": "20 MiB",
        "MAX_BATCH_BYTES": "128 MiB",
        "MAX_FILES": "32",
        "MAX_PIXELS": "50,000,000",
        "UPLOAD_SECONDS": "30 s",
        "PREDICT_SECONDS": "10 s",
        "BATCH_SECONDS": "60 s",
        "EXPLAIN_SECONDS": "120 s",
    }.items():
        assert f"| {told} | `DEEPEMOTION_{setting}` |" in page


def test_every_answer_has_an_example_of_its_shape(schema: dict[str, Any]) -> None:
    shown = set()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                for media_type, content in response["content"].items():
                    if media_type.startswith("image/") or "example" in content:
                        continue  # a picture is told of by its headers; the metrics are text
                    name = content["schema"]["$ref"].rpartition("/")[2]
                    shape = getattr(schemas, name, None) or getattr(protocol_answers, name)
                    assert content["examples"], f"{method} {path} {status}"
                    for example in content["examples"].values():
                        shape.model_validate(example["value"])
                        shown.add(name)
    assert shown >= {"BatchResponse", "Health", "InferAnswer", "ModelMetadata", "ModelResponse", "Ready"}


def test_nothing_is_documented_that_no_route_answers(schema: dict[str, Any]) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(schema["components"]["schemas"])
    assert "422" not in schema["paths"]["/v2/models/{model_name}"]["get"]["responses"]


def test_the_examples_of_predictions_add_up(schema: dict[str, Any]) -> None:
    (of_model,) = content_of(schema, "/v1/model", "get").values()
    card = ModelResponse.model_validate(of_model["value"]).card
    for example in content_of(schema, "/predict", "post").values():
        value = example["value"]
        shares, top = list(value["distribution"].values()), value["top"]
        told = described(card, shares, value["novelty"], None if top is None else len(top))
        for name, expected in told.items():
            if name in {"entropy", "valence"}:
                assert value[name] == pytest.approx(expected, abs=1e-4)
            else:
                assert value[name] == expected


@pytest.fixture(scope="module")
def shipped() -> Card:
    """The card of the checkpoint that is shipped."""
    with zipfile.ZipFile(ROOT / "models" / "emotion6.pt") as file:
        (name,) = (each for each in file.namelist() if each.endswith(f"/{CARD_FILE}"))
        return Card.model_validate_json(file.read(name))


def test_the_examples_are_of_the_shipped_checkpoint_s_shape(schema: dict[str, Any], shipped: Card) -> None:
    (of_model,) = content_of(schema, "/v1/model", "get").values()
    card = ModelResponse.model_validate(of_model["value"]).card
    for name in ("name", "labels", "input_size", "target", "valence_scale"):
        assert getattr(card, name) == getattr(shipped, name)
    assert card.valence == pytest.approx(shipped.valence, abs=0.1)
    assert card.abstain is not None
    assert shipped.abstain is not None
    assert card.abstain.novelty == pytest.approx(shipped.abstain.novelty, rel=0.2)
    assert card.abstain.entropy == pytest.approx(shipped.abstain.entropy, rel=0.1)
    for example in content_of(schema, "/predict", "post").values():
        assert tuple(example["value"]["distribution"]) == shipped.labels
        assert example["value"]["model"] == {"name": card.name, "version": card.version} | {
            "sha256": of_model["value"]["sha256"]
        }
    assert TABLE[UnknownEmotion].example.endswith(f": {', '.join(shipped.labels)}")


def test_the_protocol_s_examples_can_be_sent_to_the_shipped_checkpoint(
    schema: dict[str, Any], shipped: Card
) -> None:
    (metadata,) = content_of(schema, "/v2/models/{model_name}", "get").values()
    assert metadata["value"]["outputs"] == outputs(shipped)
    (answer,) = content_of(schema, "/v2/models/{model_name}/infer", "post").values()
    assert [each["name"] for each in answer["value"]["outputs"]] == [
        each["name"] for each in outputs(shipped)
    ]
    _, pixels = metadata["value"]["inputs"]
    shape = [1, *pixels["shape"][1:]]
    size = shape[1] * shape[2] * shape[3]
    tensor = {"name": pixels["name"], "shape": shape, "datatype": pixels["datatype"]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    asked = read(head + bytes(size), len(head), shipped.input_size, 1)
    assert asked.pixels is not None
    assert f"shape [n, {', '.join(map(str, shape[1:]))}]" in TABLE[BadInference].example
    assert MOST_VALUES // size == 13
    told = schema["paths"]["/v2/models/{model_name}/infer"]["post"]["description"]
    assert f"thirteen pictures of {shape[1]} x {shape[2]} " in " ".join(told.split())


def content_of(schema: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    """The examples of a route's answer."""
    content = schema["paths"][path][method]["responses"]["200"]["content"]["application/json"]
    examples: dict[str, Any] = content["examples"]
    return examples


def test_the_protocols_errors_are_shown_as_they_come(client: httpx.Client, schema: dict[str, Any]) -> None:
    responses = schema["paths"]["/v2/models/{model_name}"]["get"]["responses"]
    shown = responses["404"]["content"]["application/json"]["examples"]["unknown-model"]["value"]["error"]
    came = client.get("/v2/models/other").json()["error"]
    assert came == shown.replace("emotion6, version 4", "tiny, version 0.0.1")


def test_the_example_of_an_answer_is_one(schema: dict[str, Any]) -> None:
    (example,) = schema["components"]["schemas"]["PredictionResponse"]["examples"]
    answer = PredictionResponse.model_validate(example)
    assert sum(answer.distribution.values()) == pytest.approx(1)
    assert answer.distribution[answer.dominant.emotion] == max(answer.distribution.values())


def test_the_example_of_an_explanation_is_one(schema: dict[str, Any]) -> None:
    (example,) = schema["components"]["schemas"]["ExplanationResponse"]["examples"]
    ExplanationResponse.model_validate(example)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_bodies(schema: dict[str, Any], path: str) -> None:
    content = schema["paths"][path]["post"]["requestBody"]["content"]
    assert set(content) == {
        "multipart/form-data",
        "image/jpeg",
        "image/png",
        "image/webp",
        "application/octet-stream",
    }
    form = content["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    # What Swagger UI turns into a button that chooses a file, in OpenAPI 3.1.
    assert form["properties"]["file"]["contentMediaType"] == "application/octet-stream"


def test_an_explanation_is_a_png(schema: dict[str, Any]) -> None:
    answer = schema["paths"]["/explain"]["post"]["responses"]["200"]
    assert set(answer["content"]) == {"image/png", "application/json"}
    assert {"X-DeepEmotion-Emotion", "X-Request-ID", "Server-Timing"} <= set(answer["headers"])
    parameters = {each["name"]: each for each in schema["paths"]["/explain"]["post"]["parameters"]}
    looks = {"emotion", "layer", "view", "quality", "colours", "strength", "legend", "max_side", "map"}
    assert set(parameters) == looks | {"X-DeepEmotion-Timeout"}
    assert parameters["view"]["schema"]["enum"] == ["overlay", "heatmap", "dream", "pair", "sheet"]


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(schema)))
    assert "Problem" in names
    assert names <= set(schema["components"]["schemas"])


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_needs_no_internet(client: httpx.Client, page: str) -> None:
    html = client.get(page).text
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sources
    for source in sources:
        assert source.startswith("/")
        assert client.get(source).status_code == 200
