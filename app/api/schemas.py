"""What the service answers in JSON, with the examples that the documentation shows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.card import Card, Quantised
from app.distribution import Reason

REQUEST_ID = "0b6f4c1f9f0e4b0e8f6f7a5f2d3c1b0a"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PREDICTION: dict[str, Any] = {
    "distribution": {
        "anger": 0.02,
        "disgust": 0.03,
        "fear": 0.06,
        "joy": 0.61,
        "sadness": 0.05,
        "surprise": 0.12,
        "neutral": 0.11,
    },
    "dominant": {"emotion": "joy", "probability": 0.61},
    "top": [{"emotion": "joy", "probability": 0.61}, {"emotion": "surprise", "probability": 0.12}],
    "entropy": 1.3008,
    "novelty": 0.84,
    "abstained": False,
    "abstained_because": None,
    "valence": 6.7926,
    "model": {"name": "emotion6", "version": "4", "sha256": _SHA256},
    "image": {"width": 1280, "height": 853, "format": "JPEG"},
    "request_id": REQUEST_ID,
}
"""Of the shape that the shipped checkpoint's answers have: its emotions, its scale of valence."""
_DOMINANT = "the most probable emotion"
_TOP = "the most probable emotions, as many as `top_k` asked for; null without it"
_ENTROPY = (
    "of the distribution, in nats: 0 when one emotion is certain, log K when all K are equally probable"
)
_NOVELTY = (
    "how far the picture is from those that the checkpoint learned from, to be compared with "
    "`abstain.novelty` of its card; null for a checkpoint that cannot tell"
)
_ABSTAINED = (
    "true when the prediction should not be relied on. False says so only of a checkpoint whose card has "
    "`abstain`; one without it never abstains"
)
_BECAUSE = (
    "flat: the entropy is above `abstain.entropy` of the card; unfamiliar: the novelty is above "
    "`abstain.novelty`, whatever the entropy is; null: it did not abstain"
)
_DISTRIBUTION = "probability of each emotion, in the order of the checkpoint's card; they sum to 1"
_IMAGE = "the picture as it was understood"
_MODEL = "the checkpoint that answered"
_REQUEST_ID = "as in the X-Request-ID header; it names the request in the service's log"
_VALENCE = (
    "how pleasant the feeling is, as the sum over emotions of probability x valence; the card says "
    "each emotion's valence and the scale. Null where it has none"
)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dominant(_Answer):
    """The most probable emotion."""

    emotion: str = Field(description="one of the labels of the card")
    probability: float = Field(ge=0, le=1, description="share of people expected to feel it")


class ModelName(_Answer):
    """Which checkpoint answered; the digest names it without doubt."""

    name: str = Field(description="of the card, for people")
    version: str = Field(description="likewise")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hexadecimal digest of the file")


class ImageFacts(_Answer):
    """The picture as it was understood, upright."""

    width: int = Field(ge=1, description="pixels, after turning as EXIF says")
    height: int = Field(ge=1, description="pixels, after turning as EXIF says")
    format: Literal["JPEG", "PNG", "WEBP"] = Field(description="by its bytes, whatever the client called it")


class PredictionResponse(_Answer):
    """Which emotions a picture evokes."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [PREDICTION]})

    distribution: dict[str, float] = Field(description=_DISTRIBUTION)
    dominant: Dominant = Field(description=_DOMINANT)
    top: list[Dominant] | None = Field(description=_TOP)
    entropy: float = Field(ge=0, description=_ENTROPY)
    novelty: float | None = Field(description=_NOVELTY)
    abstained: bool = Field(description=_ABSTAINED)
    abstained_because: Reason | None = Field(description=_BECAUSE)
    valence: float | None = Field(description=_VALENCE)
    model: ModelName = Field(description=_MODEL)
    image: ImageFacts = Field(description=_IMAGE)
    request_id: str = Field(description=_REQUEST_ID)


class Problem(_Answer):
    """An error, as RFC 9457 describes it."""

    type: str = Field(
        pattern=r"^urn:deepemotion:problem:[a-z0-9-]+$", description="names the kind of problem"
    )
    title: str = Field(description="the kind of problem in words")
    status: int = Field(ge=400, le=599, description="the HTTP status code")
    detail: str = Field(description="what went wrong this time")
    remedy: str = Field(description="what the caller can do")
    request_id: str = Field(description="as in the X-Request-ID header; quote it in a report")
    allowed: list[str] | None = Field(default=None, description="the values that a parameter may have")


class OnePicture(_Answer):
    """What became of one picture of a batch: a prediction, or a problem and everything else null."""

    distribution: dict[str, float] | None = Field(default=None, description=_DISTRIBUTION)
    dominant: Dominant | None = Field(default=None, description=_DOMINANT)
    top: list[Dominant] | None = Field(default=None, description=_TOP)
    entropy: float | None = Field(default=None, ge=0, description=_ENTROPY)
    novelty: float | None = Field(default=None, description=_NOVELTY)
    abstained: bool | None = Field(default=None, description=_ABSTAINED)
    abstained_because: Reason | None = Field(default=None, description=_BECAUSE)
    valence: float | None = Field(default=None, description=_VALENCE)
    image: ImageFacts | None = Field(default=None, description=_IMAGE)
    problem: Problem | None = Field(default=None, description="why there is no prediction; null if there is")


class BatchResponse(_Answer):
    """Which emotions several pictures evoke."""

    results: list[OnePicture] = Field(description="in the order of the form")
    model: ModelName = Field(description=_MODEL)
    request_id: str = Field(description=_REQUEST_ID)


class RegionBox(_Answer):
    """A connected part of the picture that speaks for the emotion, or against it; pixels of the upload."""

    left: int = Field(ge=0, description="first column")
    top: int = Field(ge=0, description="first row")
    right: int = Field(ge=0, description="first column that is not part of it")
    bottom: int = Field(ge=0, description="first row that is not part of it")
    share: float = Field(ge=0, le=1, description="of all evidence in the map, for and against together")
    effect: Literal["raises", "lowers"] = Field(
        description="what it does to the explained log-odds, or to the layer's activation"
    )


class RawMap(_Answer):
    """The whole map, ``side`` x ``side`` and stretched over the picture."""

    form: Literal["png", "npz"] = Field(description="png is 16-bit grey, npz NumPy's single precision")
    side: int = Field(description="rows and columns; as many as the network's input has")
    zero: int = Field(description="the value that means no evidence")
    unit: float = Field(
        description="(value - zero) x unit is in log-odds; of a layer, in logarithms of its mean squared "
        "activation"
    )
    data: str = Field(description="the file in Base64; in an npz, the array is called relevance")


class EmotionEvidence(_Answer):
    """What in the picture raises or lowers one emotion, or excites an inner layer."""

    emotion: str = Field(description="the explained one; beside a layer, the dominant one")
    probability: float = Field(ge=0, le=1, description="of that emotion")
    layer: str | None = Field(
        default=None, description="the inner layer that the map is of, if one was asked for"
    )
    evidence: bool = Field(description="false when the map is flat: nothing in the picture stands out")
    rise: float = Field(
        description="along the dream's way, of the emotion's log-odds or the logarithm of the layer's mean "
        "squared activation"
    )
    completeness_error: float = Field(
        ge=0,
        description="how far the sum of the map is from `rise`, relatively; `imbalance` is what it took to "
        "get it so near",
    )
    imbalance: float = Field(
        ge=0,
        description="by how much what raises and what lowers had to be weighed against each other for the "
        "sum to be right; the larger, the less the map should be relied on",
    )
    regions: list[RegionBox] = Field(description="with the most evidence first")
    map: RawMap | None = Field(default=None, description="null unless `map` asked for it")


EXPLANATION: dict[str, Any] = {
    "explanations": [
        {
            "emotion": "joy",
            "probability": 0.61,
            "layer": None,
            "evidence": True,
            "rise": 2.31,
            "completeness_error": 0.0001,
            "imbalance": 0.013,
            "regions": [
                {"left": 320, "top": 90, "right": 660, "bottom": 400, "share": 0.44, "effect": "raises"},
                {"left": 900, "top": 610, "right": 1010, "bottom": 720, "share": 0.05, "effect": "lowers"},
            ],
            "map": None,
        }
    ],
    "settings": "quick",
    "distribution": PREDICTION["distribution"],
    "entropy": PREDICTION["entropy"],
    "novelty": PREDICTION["novelty"],
    "valence": PREDICTION["valence"],
    "abstained_because": None,
    "model": PREDICTION["model"],
    "image": PREDICTION["image"],
    "request_id": REQUEST_ID,
}


class ExplanationResponse(_Answer):
    """Which parts of a picture evoke an emotion, for programs."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [EXPLANATION]})

    explanations: list[EmotionEvidence] = Field(
        min_length=1, description="one; for a sheet one an emotion, the most probable first"
    )
    settings: str = Field(description="the quality that was asked for")
    distribution: dict[str, float] = Field(description=f"the prediction that is explained: {_DISTRIBUTION}")
    entropy: float = Field(ge=0, description=_ENTROPY)
    novelty: float | None = Field(description=_NOVELTY)
    valence: float | None = Field(description=_VALENCE)
    abstained_because: Reason | None = Field(description=f"of the prediction that is explained; {_BECAUSE}")
    model: ModelName = Field(description=_MODEL)
    image: ImageFacts = Field(description=_IMAGE)
    request_id: str = Field(description=_REQUEST_ID)


class ModelResponse(_Answer):
    """What the loaded checkpoint says of itself, and where it runs."""

    card: Card = Field(description="what is in the checkpoint's file")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", examples=[_SHA256], description="hexadecimal digest of the file"
    )
    devices: list[str] = Field(examples=[["cpu"]], description="each has a copy of the network")
    predicts: str = Field(
        examples=["ONNX Runtime 1.32.0"],
        description="what computes predictions; if TorchScript does in place of a graph beside it, why",
    )
    quantised: Quantised | None = Field(
        default=None,
        description="what predicting in a lower precision changes; null in single precision",
    )
    layers: list[str] = Field(
        examples=[["Mixed_6e", "Mixed_7c"]],
        description="inner layers that POST /explain can dream of; none if the checkpoint does not show them",
    )


class ReloadRequest(_Answer):
    """Which checkpoint is to answer from now on."""

    file: str | None = Field(
        default=None,
        max_length=128,
        examples=["emotion6.pt"],
        description="a file in the configured checkpoint's folder; left out, the one in use is read again",
    )


class Health(_Answer):
    """The process answers."""

    status: Literal["alive"] = Field(default="alive", description="always this")


class Ready(_Answer):
    """The network is warm; pictures are taken."""

    status: Literal["ready"] = Field(default="ready", description="always this")
