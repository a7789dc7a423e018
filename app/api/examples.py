"""The answers in JSON that the documentation shows, for each route.

They are put into the schema when FastAPI has made it, because FastAPI drops whatever is null.
"""

from __future__ import annotations

from typing import Any

from app.api.errors import TABLE
from app.api.outputs import outputs
from app.api.problems import problem_of
from app.api.refusals import UnknownLayer
from app.api.schemas import EXPLANATION, PREDICTION, REQUEST_ID, ModelResponse
from app.card import Card
from app.picture import BrokenPicture

_EMOTIONS = list(PREDICTION["distribution"])
_SCORE = {"value": 0.55, "low": 0.51, "high": 0.59}
_CARD: dict[str, Any] = {
    "name": "emotion6",
    "version": PREDICTION["model"]["version"],
    "created": "2026-11-28",
    "description": "which emotions a photo evokes",
    "labels": _EMOTIONS,
    "input_size": 224,
    "resize": "stretch",
    "temperature": 1.2,
    "target": "distribution",
    "data": [{"name": "our own", "pictures": 2000, "terms": "ours", "citation": "none"}],
    "start_weights": "torchvision, ImageNet",
    "split": {
        "train": 1400,
        "validation": 200,
        "test": 400,
        "seed": 0,
        "min_agreement": None,
        "top_classes": None,
        "test_fingerprint": "9f86d081884c7d65",
    },
    "scores": {"accuracy": _SCORE},
    "references": {"chance": {"accuracy": 0.14}, "majority": {"accuracy": 0.32}},
    "versions": {"torch": "2.14.1"},
    "seed": 0,
    "command": "python -m training fit cap_d ratings.csv --run runs/mine --terms ours",
    "limits": "not for decisions about people",
    "valence": {
        "anger": 2.88,
        "disgust": 1.43,
        "fear": 2.40,
        "joy": 8.00,
        "sadness": 2.98,
        "surprise": 7.37,
        "neutral": 5.77,
    },
    "valence_scale": "mean rating from 1 (very unpleasant) to 9 (very pleasant), with 5 between them",
    "abstain": {"entropy": 1.861, "novelty": 1.232, "share": 0.02},
}
_MODEL = ModelResponse.model_validate(
    {
        "card": _CARD,
        "sha256": PREDICTION["model"]["sha256"],
        "devices": ["cpu"],
        "predicts": "ONNX Runtime 1.32.0",
        "layers": TABLE[UnknownLayer].example.partition("choose one of: ")[2].split(", "),
    }
).model_dump(mode="json")
_FLAT = PREDICTION | {
    "distribution": dict(zip(_EMOTIONS, (0.14, 0.12, 0.17, 0.15, 0.13, 0.14, 0.15), strict=True)),
    "dominant": {"emotion": "fear", "probability": 0.17},
    "top": None,
    "entropy": 1.9405,
    "abstained": True,
    "abstained_because": "flat",
    "valence": 4.4675,
}
_OF_A_BATCH = {name: value for name, value in PREDICTION.items() if name not in {"model", "request_id"}}
_FAILED: dict[str, Any] = dict.fromkeys(_OF_A_BATCH)
_BATCH = {
    "results": [
        _OF_A_BATCH | {"problem": None},
        _FAILED
        | {"problem": problem_of(BrokenPicture(TABLE[BrokenPicture].example), REQUEST_ID).model_dump()},
    ],
    "model": PREDICTION["model"],
    "request_id": REQUEST_ID,
}
_PREDICTIONS = {
    "top_k=2": ("an answer to rely on", PREDICTION),
    "abstained": ("one that should not be relied on", _FLAT),
}
_EXPLANATIONS = {"one emotion": ("what speaks for joy, and what against it", EXPLANATION)}
_V2_OUTPUTS = outputs(Card.model_validate(_CARD))
_V2_DATA: dict[str, list[Any]] = {
    "probabilities": list(PREDICTION["distribution"].values()),
    "label": [PREDICTION["dominant"]["emotion"]],
    "abstained_because": [PREDICTION["abstained_because"] or ""],
}
_SIDE: int = _CARD["input_size"]
_VERSION: str = _CARD["version"]

ANSWERS: dict[str, dict[str, tuple[str, Any]]] = {
    "POST /predict": _PREDICTIONS,
    "POST /v1/predict": _PREDICTIONS,
    "POST /v1/predict/batch": {"two files": ("one is answered, and one is damaged", _BATCH)},
    "POST /explain": _EXPLANATIONS,
    "POST /v1/explain": _EXPLANATIONS,
    "GET /healthz": {"alive": ("it answers", {"status": "alive"})},
    "GET /readyz": {"ready": ("it takes pictures", {"status": "ready"})},
    "GET /v1/model": {"card": ("the card, the file's digest and where it runs", _MODEL)},
    "POST /v1/model/reload": {"loaded": ("the checkpoint that answers from now on", _MODEL)},
    "GET /v2": {"server": ("who answers", {"name": "deepemotion", "version": "0.1.0", "extensions": []})},
    "GET /v2/health/live": {"live": ("it answers", {"live": True})},
    "GET /v2/health/ready": {"ready": ("it takes requests", {"ready": True})},
    "GET /v2/models/{model_name}": {
        "model": (
            "what may be sent, and what comes back",
            {
                "name": "emotion6",
                "versions": [_VERSION],
                "platform": "pytorch_torchscript",
                "inputs": [
                    {"name": "image", "datatype": "BYTES", "shape": [-1]},
                    {"name": "pixels", "datatype": "UINT8", "shape": [-1, _SIDE, _SIDE, 3]},
                ],
                "outputs": _V2_OUTPUTS,
            },
        )
    },
    "GET /v2/models/{model_name}/ready": {
        "ready": ("it takes requests", {"name": "emotion6", "ready": True})
    },
    "POST /v2/models/{model_name}/infer": {
        "one picture": (
            "the request's id comes back",
            {
                "model_name": "emotion6",
                "model_version": _VERSION,
                "id": "42",
                "outputs": [
                    output
                    | {
                        "shape": [1, *output["shape"][1:]],
                        "data": _V2_DATA.get(output["name"]) or [PREDICTION[output["name"]]],
                    }
                    for output in _V2_OUTPUTS
                ],
            },
        )
    },
}
"""By route: a name, what it shows, and the body."""
