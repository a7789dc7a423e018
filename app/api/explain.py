"""``POST /explain``: which parts of a picture evoke an emotion, as a picture or as JSON."""

import time
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from app.api.deps import RequestId, WarmService
from app.api.disconnect import while_connected
from app.api.explaining import PngResponse, Wish, answer
from app.api.intake import UsefulSeconds, time_allowed
from app.api.negotiation import preferred
from app.api.openapi import PICTURE_BODY, REQUEST_ID_HEADER, TIMING_HEADER
from app.api.predict import PICTURE_ERRORS
from app.api.problems import responses
from app.api.rates import EXPLANATION, PREDICTION, given_back_unless_begun, spend
from app.api.refusals import Contradiction, UnknownEmotion, UnknownLayer, UnknownView
from app.api.upload import read_upload
from app.engine import Kind, QueueFull
from app.explain.heatmap import OPACITY, PALETTES
from app.explain.presets import PRESETS
from app.explain.views import VIEWS, Style
from app.picture import LONGEST_SIDE

router = APIRouter(tags=["emotions"])

_FORMS = ("image/png", "application/json")


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a PNG, upright; its text chunks repeat the headers. For a client whose Accept "
        "header likes `application/json` better, the regions and, on request, the whole map",
        "content": {
            "image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/ExplanationResponse"}},
        },
        "headers": REQUEST_ID_HEADER
        | TIMING_HEADER
        | {
            "X-DeepEmotion-Emotion": _header(
                "the explained emotion, of a sheet the most probable, or the dominant one beside a layer; "
                "percent-encoded UTF-8, as every header of these is",
                "joy",
            ),
            "X-DeepEmotion-Layer": _header(
                "the inner layer that the map is of; only when one was asked for", "Mixed_6e"
            ),
            "X-DeepEmotion-Probability": _header("its probability", "0.610000"),
            "X-DeepEmotion-Completeness-Error": _header(
                "how far the sum of the map is from the rise of the emotion's log-odds, relatively", "0.0001"
            ),
            "X-DeepEmotion-Imbalance": _header(
                "by how much what raises and what lowers had to be weighed against each other to get there; "
                "above 0.05, look twice",
                "0.013",
            ),
            "X-DeepEmotion-Evidence": _header("whether the map shows anything: yes or no", "yes"),
            "X-DeepEmotion-Abstained": _header(
                "why the prediction that is explained should not be relied on, flat or unfamiliar; or no",
                "no",
            ),
            "X-DeepEmotion-Settings": _header("how far and how finely the dream went", "quick"),
            "X-DeepEmotion-Model": _header("name@version of the checkpoint", "emotion6@4"),
        },
    }
}


class ExplainQuery(BaseModel):
    """What may be wished for; a parameter that does not exist is refused, as it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    emotion: str | None = Field(
        default=None,
        max_length=64,
        description="the emotion to explain, one of the labels that GET /v1/model lists; the dominant one "
        "if left out",
    )
    view: str = Field(
        default="overlay",
        max_length=64,
        description="; ".join(f"{name}: {what}" for name, what in VIEWS.items()),
        json_schema_extra={"enum": list(VIEWS)},
    )
    layer: str | None = Field(
        default=None,
        max_length=64,
        description="dream of this inner layer instead of an emotion: the map then says what in the picture "
        "excites the layer, in units of the logarithm of its mean squared activation; one of the layers that "
        "GET /v1/model lists",
    )
    quality: Literal["quick", "thorough"] = Field(
        default="quick",
        description="quick: as long as some sixteen predictions; thorough: three times that, and steadier",
    )
    colours: Literal["red-blue", "cividis"] = Field(
        default="red-blue",
        description="red-blue: red raises, blue lowers, also for colour-blind people; cividis: light raises, "
        "dark lowers, and of the heat map alone also in grey print",
    )
    strength: float = Field(
        default=OPACITY,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="opacity of the strongest evidence in an overlay",
    )
    legend: bool = Field(
        default=False,
        description="add a strip that says the emotion, its probability and what the colours mean",
    )
    max_side: int | None = Field(
        default=None,
        ge=16,
        le=LONGEST_SIDE,
        description="reduce the picture so that neither side is longer, in pixels, for a smaller answer that "
        "comes sooner; its own size if left out",
    )
    map: Literal["none", "png", "npz"] = Field(
        default="none",
        description="with `Accept: application/json`, add the whole map: png is 16-bit grey, 32768 for no "
        "evidence; npz is NumPy's, in units of the log-odds (of a layer, of its activation's logarithm)",
    )


@router.post(
    "/explain",
    summary="Which parts of this picture evoke the emotion?",
    response_class=PngResponse,
    responses=_ANSWER | responses(*PICTURE_ERRORS, UnknownEmotion, UnknownView, UnknownLayer, Contradiction),
    openapi_extra=PICTURE_BODY,
)
async def explain(
    request: Request,
    service: WarmService,
    request_id: RequestId,
    query: Annotated[ExplainQuery, Query()],
    useful: UsefulSeconds = None,
) -> Response:
    """A Deep Dream heat map: red raises the emotion's log-odds, blue lowers it.

    The map is the gradient of the log-odds summed along the way of the dream. What raises and what lowers is
    then weighed against each other until its sum is the rise of the log-odds along it; `imbalance` says by
    how much, and so how far to rely on the map. The same picture, checkpoint and parameters give the same
    bytes on one machine, if no other explanations share their batches; else the last digits may differ.
    """
    model = service.served.current
    wish = Wish(
        model=model,
        emotion=_index_of(query.emotion, model.card.labels),
        view=query.view,
        quality=query.quality,
        layer=query.layer,
        style=Style(PALETTES[query.colours], query.strength, query.legend, query.max_side),
        raw_map=query.map,
        as_json=preferred(",".join(request.headers.getlist("accept")) or "*/*", _FORMS) == _FORMS[1],
        request_id=request_id,
    )
    if query.map != "none" and not wish.as_json:
        raise Contradiction("the whole map comes in JSON only; send Accept: application/json")
    if query.view not in VIEWS:
        raise UnknownView("view", VIEWS)
    if query.view == "sheet" and query.emotion is not None:
        raise Contradiction("a sheet shows all emotions, so none can be chosen")
    if query.layer is not None:
        _check_layer(query, model.layers)
    seconds = time_allowed(service.settings.explain_seconds, useful)
    emotions = len(model.card.labels) if query.view == "sheet" else 1
    work = PRESETS[query.quality].evaluations * emotions
    try:
        service.engine.check_room(Kind.EXPLANATION, deadline=time.monotonic() + seconds, work=work)
    except QueueFull:
        spend(request, service, PREDICTION)  # to be refused costs no more than it does a prediction
        raise
    price = EXPLANATION[query.quality] * emotions
    spend(request, service, price)
    with (
        given_back_unless_begun(request, service, price - PREDICTION) as begin,
        service.uploads.share() as take,
        ExitStack() as held,
    ):
        data = await read_upload(request, service.settings, take)
        deadline = time.monotonic() + seconds
        place = service.engine.place(Kind.EXPLANATION, deadline=deadline, work=work, left=ClientDisconnect)
        held.enter_context(place)
        explained = answer(request, service, data, wish, deadline=deadline, begin=begin)
        return await while_connected(request, explained)


def _index_of(emotion: str | None, labels: tuple[str, ...]) -> int | None:
    if emotion is None:
        return None
    if emotion not in labels:
        raise UnknownEmotion("emotion", labels)
    return labels.index(emotion)


def _check_layer(query: ExplainQuery, layers: tuple[str, ...]) -> None:
    if query.layer not in layers:
        raise UnknownLayer(layers)
    if query.emotion is not None or query.view == "sheet":
        raise Contradiction("the map of a layer is of no emotion, so neither one nor a sheet can be chosen")
