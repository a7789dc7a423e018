"""``POST /explain``: a picture of which parts evoke an emotion."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from app.api.deps import Service, WarmService
from app.api.disconnect import while_connected
from app.api.intake import UsefulSeconds, receive, server_timing, time_allowed
from app.api.openapi import PICTURE_BODY, REQUEST_ID_HEADER, TIMING_HEADER
from app.api.predict import PICTURE_ERRORS
from app.api.problems import responses
from app.api.refusals import UnknownEmotion, UnknownView
from app.api.upload import read_upload
from app.engine import Explanation, Kind, Model
from app.explain.heatmap import VIEWS, draw, to_png
from app.picture import decode

router = APIRouter(tags=["emotions"])


class PngResponse(Response):
    """A PNG."""

    media_type = "image/png"


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a PNG of the upload's own size, upright; its text chunks repeat the headers",
        "content": {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}},
        "headers": REQUEST_ID_HEADER
        | TIMING_HEADER
        | {
            "X-DeepEmotion-Emotion": _header("the explained emotion, percent-encoded UTF-8", "joy"),
            "X-DeepEmotion-Probability": _header("its probability", "0.710000"),
            "X-DeepEmotion-Completeness-Error": _header(
                "how far the sum of the map is from the rise of the emotion's log-odds, relatively", "0.0131"
            ),
            "X-DeepEmotion-Model": _header("name@version of the checkpoint", "emotion6@1.0.0"),
        },
    }
}

Emotion = Annotated[
    str | None,
    Query(
        max_length=64,
        description="the emotion to explain, one of the labels that GET /v1/model lists; the dominant one "
        "if left out",
    ),
]
View = Annotated[
    str,
    Query(
        max_length=64,
        description="overlay: the heat map on the picture; heatmap: the map alone; dream: the picture after "
        "gradient ascent",
        json_schema_extra={"enum": list(VIEWS)},
    ),
]


@router.post(
    "/explain",
    summary="Which parts of this picture evoke the emotion?",
    response_class=PngResponse,
    responses=_ANSWER | responses(*PICTURE_ERRORS, UnknownEmotion, UnknownView),
    openapi_extra=PICTURE_BODY,
)
async def explain(
    request: Request,
    service: WarmService,
    emotion: Emotion = None,
    view: View = VIEWS[0],
    useful: UsefulSeconds = None,
) -> Response:
    """A Deep Dream heat map: red raises the emotion's log-odds, blue lowers it.

    The map is the gradient of the log-odds summed along the way from the picture to its dream, so its sum is
    the rise of the log-odds; the completeness error says how nearly.
    """
    model = service.served.current
    wish = _Wish(model, _index_of(emotion, model.card.labels), view)
    if view not in VIEWS:
        raise UnknownView("view", VIEWS)
    seconds = time_allowed(service.settings.explain_seconds, useful)
    service.engine.check_room(Kind.EXPLANATION, deadline=time.monotonic() + seconds)
    with service.uploads.share() as take:
        data = await read_upload(request, service.settings, take)
        deadline = time.monotonic() + seconds
        with service.engine.place(Kind.EXPLANATION, deadline=deadline, left=ClientDisconnect):
            return await while_connected(request, _answer(request, service, data, wish, deadline))


@dataclass(frozen=True)
class _Wish:
    """What is to be explained, by which model, and how it is to be shown."""

    model: Model
    emotion: int | None
    view: str


def _index_of(emotion: str | None, labels: tuple[str, ...]) -> int | None:
    if emotion is None:
        return None
    if emotion not in labels:
        raise UnknownEmotion("emotion", labels)
    return labels.index(emotion)


async def _answer(
    request: Request, service: Service, data: bytes, wish: _Wish, deadline: float
) -> PngResponse:
    started = time.monotonic()
    received = await receive(request, service, wish.model, data, deadline=deadline)
    decoded = time.monotonic()
    explanation = await service.engine.explain(wish.model, received.pixels, wish.emotion, deadline=deadline)
    explained = time.monotonic()
    facts = _facts(wish.model, explanation)
    notes = {f"DeepEmotion-{name}": value for name, value in facts.items()}
    notes["DeepEmotion-Model-SHA256"] = wish.model.sha256
    work = partial(_draw, data, service.settings.max_pixels, explanation, wish.view, notes)
    png = await service.drawing.run(work, deadline=deadline)
    timing = server_timing(
        decode=decoded - started,
        queue=explanation.queue_seconds,
        infer=explanation.infer_seconds,
        render=time.monotonic() - explained,
    )
    headers = {f"X-DeepEmotion-{name}": quote(value, safe="@") for name, value in facts.items()}
    return PngResponse(png, headers=headers | timing)


def _facts(model: Model, explanation: Explanation) -> dict[str, str]:
    """What the headers and the notes in the PNG both say."""
    probability = explanation.prediction.probabilities[explanation.emotion]
    return {
        "Emotion": model.card.labels[explanation.emotion],
        "Probability": f"{probability:.6f}",
        "Completeness-Error": f"{explanation.completeness_error:.4g}",
        "Model": f"{model.card.name}@{model.card.version}",
    }


def _draw(data: bytes, max_pixels: int, explanation: Explanation, view: str, notes: dict[str, str]) -> bytes:
    """The PNG. The upload is decoded a second time, so that waiting explanations hold no decoded pictures."""
    picture = decode(data, max_pixels=max_pixels)
    return to_png(draw(picture, explanation, view), notes)
