"""The answers in JSON that the documentation shows, for each route.

They are put into the schema when FastAPI has made it, because FastAPI drops whatever is null.
"""

from __future__ import annotations

from typing import Any

from app.api.errors import TABLE
from app.api.problems import problem_of
from app.api.schemas import EXPLANATION, PREDICTION, REQUEST_ID, ModelResponse
from app.picture import BrokenPicture

_EMOTIONS = ["anger", "disgust", "fear", "joy", "sadness", "surprise"]
_SCORE = {"value": 0.55, "low": 0.51, "high": 0.59}
_CARD: dict[str, Any] = {
    "name": "emotion6",
    "version": "1.0.0",
    "created": "2026-01-31",
    "description": "which emotions a photo evokes",
    "labels": _EMOTIONS,
    "input_size": 299,
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
    "references": {"chance": {"accuracy": 0.17}, "majority": {"accuracy": 0.31}},
    "versions": {"torch": "2.14.1"},
    "seed": 0,
    "command": "python -m training fit cap_d ratings.csv --run runs/mine --terms ours",
    "limits": "not for decisions about people",
    "valence": {"anger": -0.5, "disgust": -0.6, "fear": -0.6, "joy": 0.8, "sadness": -0.6, "surprise": 0.2},
    "valence_scale": "-1 unpleasant, 1 pleasant; our own raters",
    "abstain": {"entropy": 1.7, "novelty": 31.0, "share": 0.02},
}
_MODEL = ModelResponse.model_validate(
    {
        "card": _CARD,
        "sha256": PREDICTION["model"]["sha256"],
        "devices": ["cpu"],
        "predicts": "ONNX Runtime 1.23.2",
        "layers": ["Mixed_6e", "Mixed_7c"],
    }
).model_dump(mode="json")
_FLAT = PREDICTION | {
    "distribution": dict(zip(_EMOTIONS, (0.17, 0.16, 0.18, 0.17, 0.16, 0.16), strict=True)),
    "dominant": {"emotion": "fear", "probability": 0.18},
    "top": None,
    "entropy": 1.7908,
    "abstained": True,
    "abstained_because": "flat",
    "valence": -0.217,
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
_V2_OUTPUTS: list[dict[str, Any]] = [
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(_EMOTIONS)]},
    {"name": "label", "datatype": "BYTES", "shape": [-1]},
    {"name": "entropy", "datatype": "FP32", "shape": [-1]},
]
_V2_DATA = (list(PREDICTION["distribution"].values()), ["joy"], [PREDICTION["entropy"]])

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
    "GET /v2": {"server": ("who answers", {"name": "deepemotion", "version": "1.0.0", "extensions": []})},
    "GET /v2/health/live": {"live": ("it answers", {"live": True})},
    "GET /v2/health/ready": {"ready": ("it takes requests", {"ready": True})},
    "GET /v2/models/{model_name}": {
        "model": (
            "what may be sent, and what comes back",
            {
                "name": "emotion6",
                "versions": ["1.0.0"],
                "platform": "pytorch_torchscript",
                "inputs": [
                    {"name": "image", "datatype": "BYTES", "shape": [-1]},
                    {"name": "pixels", "datatype": "UINT8", "shape": [-1, 299, 299, 3]},
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
                "model_version": "1.0.0",
                "id": "42",
                "outputs": [
                    output | {"shape": [1, *output["shape"][1:]], "data": data}
                    for output, data in zip(_V2_OUTPUTS, _V2_DATA, strict=True)
                ],
            },
        )
    },
}
"""By route: a name, what it shows, and the body."""
