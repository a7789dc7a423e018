"""From the service's responses to what the client gives back.

Fields that a later version of the service may add are ignored; one that is missing is an `UnexpectedAnswer`.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from app.client.answers import (
    Dominant,
    Evidence,
    Explanation,
    ExplanationImage,
    ImageFacts,
    ModelInfo,
    ModelName,
    Prediction,
    RawMap,
    Region,
)
from app.client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

T = TypeVar("T")

_HEADER = "X-DeepEmotion-"


def read(response: httpx.Response, reader: Callable[[httpx.Response], T]) -> T:
    """What a successful response says.

    Raises:
        UnexpectedAnswer: it is none of this service's.
    """
    try:
        return reader(response)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        kind = response.headers.get("Content-Type", "no content type")
        raise UnexpectedAnswer(
            f"{told(response.url)} answered {response.status_code} with {kind}, which is no answer of this "
            f"service: {type(error).__name__} {error}"
        ) from error


def told(url: httpx.URL) -> str:
    """An address without the user and password that it may have."""
    return str(url.copy_with(userinfo=b""))


def prediction(response: httpx.Response) -> Prediction:
    """Read the answer of ``POST /predict``."""
    body = response.json()
    return Prediction(
        distribution=_shares(body["distribution"]),
        dominant=Dominant(str(body["dominant"]["emotion"]), float(body["dominant"]["probability"])),
        entropy=float(body["entropy"]),
        novelty=_number_or_none(body["novelty"]),
        abstained=bool(body["abstained"]),
        abstained_because=None if body["abstained_because"] is None else str(body["abstained_because"]),
        valence=_number_or_none(body["valence"]),
        model=_model_name(body["model"]),
        image=_image(body["image"]),
        request_id=str(body["request_id"]),
    )


def _model_name(said: Mapping[str, Any]) -> ModelName:
    return ModelName(str(said["name"]), str(said["version"]), str(said["sha256"]))


def _image(said: Mapping[str, Any]) -> ImageFacts:
    return ImageFacts(int(said["width"]), int(said["height"]), str(said["format"]))


def _number_or_none(value: Any) -> float | None:  # noqa: ANN401 - from JSON
    return None if value is None else float(value)


def explanation_image(response: httpx.Response) -> ExplanationImage:
    """Read the answer of ``POST /explain``."""
    if response.headers["Content-Type"] != "image/png":
        raise ValueError("a PNG was asked for")

    def header(name: str) -> str:
        return unquote(response.headers[f"{_HEADER}{name}"])

    return ExplanationImage(
        png=response.content,
        emotion=header("Emotion"),
        layer=header("Layer") if f"{_HEADER}Layer" in response.headers else None,
        probability=float(header("Probability")),
        evidence=header("Evidence") == "yes",
        completeness_error=float(header("Completeness-Error")),
        imbalance=float(header("Imbalance")),
        abstained_because=_reason(unquote(response.headers.get(f"{_HEADER}Abstained", "no"))),
        quality=header("Settings"),
        model=header("Model"),
        request_id=response.headers.get("X-Request-ID", ""),
    )


def _shares(said: Mapping[str, Any]) -> dict[str, float]:
    return {str(label): float(share) for label, share in said.items()}


def _reason(said: str) -> str | None:
    return None if said == "no" else said


def explanation(response: httpx.Response) -> Explanation:
    """Read the answer of ``POST /explain`` to a client that accepts JSON."""
    body = response.json()
    because = body["abstained_because"]
    return Explanation(
        explanations=tuple(map(_evidence, body["explanations"])),
        quality=str(body["settings"]),
        distribution=_shares(body.get("distribution") or {}),
        entropy=_number_or_none(body.get("entropy")),
        novelty=_number_or_none(body.get("novelty")),
        valence=_number_or_none(body.get("valence")),
        abstained_because=None if because is None else str(because),
        model=_model_name(body["model"]),
        image=_image(body["image"]),
        request_id=str(body["request_id"]),
    )


def _evidence(said: Mapping[str, Any]) -> Evidence:
    return Evidence(
        emotion=str(said["emotion"]),
        layer=said.get("layer"),
        probability=float(said["probability"]),
        evidence=bool(said["evidence"]),
        rise=float(said["rise"]),
        completeness_error=float(said["completeness_error"]),
        imbalance=float(said["imbalance"]),
        regions=tuple(map(_region, said["regions"])),
        map=None if said.get("map") is None else _raw_map(said["map"]),
    )


def _raw_map(said: Mapping[str, Any]) -> RawMap:
    data = b64decode(said["data"], validate=True)
    return RawMap(str(said["form"]), int(said["side"]), int(said["zero"]), float(said["unit"]), data)


def _region(region: Mapping[str, Any]) -> Region:
    left, top, right, bottom = (int(region[side]) for side in ("left", "top", "right", "bottom"))
    return Region(left, top, right, bottom, float(region["share"]), str(region["effect"]))


def model(response: httpx.Response) -> ModelInfo:
    """Read the answer of ``GET /v1/model``."""
    body = response.json()
    card = body["card"]
    return ModelInfo(
        name=str(card["name"]),
        version=str(card["version"]),
        sha256=str(body["sha256"]),
        labels=tuple(map(str, card["labels"])),
        devices=tuple(map(str, body["devices"])),
        predicts=str(body.get("predicts", "")),  # neither did one from before say this
        layers=tuple(map(str, body.get("layers", ()))),  # a service from before has none
        card=card,
    )
