"""From the service's responses to what the client gives back.

Fields that a later version of the service may add are ignored; one that is missing is an `UnexpectedAnswer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from app.client.answers import (
    Dominant,
    Evidence,
    ExplanationImage,
    ImageFacts,
    ModelInfo,
    ModelName,
    Prediction,
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
        distribution={str(label): float(share) for label, share in body["distribution"].items()},
        dominant=Dominant(str(body["dominant"]["emotion"]), float(body["dominant"]["probability"])),
        entropy=float(body["entropy"]),
        novelty=_number_or_none(body["novelty"]),
        abstained=bool(body["abstained"]),
        abstained_because=None if body["abstained_because"] is None else str(body["abstained_because"]),
        valence=_number_or_none(body["valence"]),
        model=ModelName(*(str(body["model"][name]) for name in ("name", "version", "sha256"))),
        image=ImageFacts(
            int(body["image"]["width"]), int(body["image"]["height"]), str(body["image"]["format"])
        ),
        request_id=str(body["request_id"]),
    )


def _number_or_none(value: Any) -> float | None:  # noqa: ANN401 - from JSON
    return None if value is None else float(value)


def explanation(response: httpx.Response) -> ExplanationImage:
    """Read the answer of ``POST /explain``."""
    if response.headers["Content-Type"] != "image/png":
        raise ValueError("a PNG was asked for")

    def header(name: str) -> str:
        return unquote(response.headers[f"{_HEADER}{name}"])

    return ExplanationImage(
        png=response.content,
        emotion=header("Emotion"),
        probability=float(header("Probability")),
        evidence=header("Evidence") == "yes",
        completeness_error=float(header("Completeness-Error")),
        imbalance=float(header("Imbalance")),
        abstained_because=_reason(unquote(response.headers.get(f"{_HEADER}Abstained", "no"))),
        quality=header("Settings"),
        model=header("Model"),
        request_id=response.headers.get("X-Request-ID", ""),
    )


def _reason(said: str) -> str | None:
    return None if said == "no" else said


def evidence(response: httpx.Response) -> tuple[Evidence, ...]:
    """Read the answer of ``POST /explain`` to a client that accepts JSON."""
    return tuple(
        Evidence(
            emotion=str(each["emotion"]),
            layer=each.get("layer"),
            probability=float(each["probability"]),
            evidence=bool(each["evidence"]),
            rise=float(each["rise"]),
            completeness_error=float(each["completeness_error"]),
            imbalance=float(each["imbalance"]),
            regions=tuple(_region(region) for region in each["regions"]),
        )
        for each in response.json()["explanations"]
    )


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
