"""``POST /predict``: which emotions a picture evokes."""

import time
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from app.api.access import LIMITED_ERRORS
from app.api.deps import RequestId, Service, WarmService, model_name
from app.api.disconnect import while_connected
from app.api.intake import Received, UsefulSeconds, receive, server_timing, time_allowed
from app.api.openapi import PICTURE_BODY, REQUEST_ID_HEADER, TIMING_HEADER
from app.api.problems import responses
from app.api.rates import PREDICTION, spend
from app.api.refusals import (
    BadMultipart,
    BodyTooLarge,
    BodyTooSlow,
    Busy,
    MissingFile,
    NotReady,
    TooManyFiles,
    UnsupportedMediaType,
)
from app.api.schemas import PredictionResponse
from app.api.upload import read_upload
from app.distribution import described
from app.engine import (
    DeadlinePassed,
    DeviceLost,
    EngineStopped,
    Kind,
    Model,
    ModelFailed,
    Prediction,
    QueueFull,
)
from app.picture import BrokenPicture, EmptyPicture, TooManyPixels, UnsupportedPicture
from app.tracing import on_device

router = APIRouter(tags=["emotions"])

PICTURE_ERRORS: tuple[type[Exception], ...] = (
    *LIMITED_ERRORS,
    EmptyPicture,
    BadMultipart,
    BodyTooSlow,
    BodyTooLarge,
    TooManyPixels,
    UnsupportedMediaType,
    UnsupportedPicture,
    MissingFile,
    TooManyFiles,
    BrokenPicture,
    ModelFailed,
    NotReady,
    QueueFull,
    Busy,
    MemoryError,
    EngineStopped,
    DeviceLost,
    DeadlinePassed,
    RequestValidationError,
)
"""What can go wrong with any upload."""


class PredictQuery(BaseModel):
    """What may be wished for; a parameter that does not exist is refused, as it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="list so many of the most probable emotions, or all if there are fewer",
    )


PredictWish = Annotated[PredictQuery, Query()]

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the distribution of evoked emotions",
        "headers": REQUEST_ID_HEADER | TIMING_HEADER,
    }
}


@router.post(
    "/predict",
    summary="Which emotions does this picture evoke?",
    responses=_ANSWER | responses(*PICTURE_ERRORS),
    openapi_extra=PICTURE_BODY,
)
async def predict(
    *,
    request: Request,
    response: Response,
    service: WarmService,
    request_id: RequestId,
    query: PredictWish,
    useful: UsefulSeconds = None,
) -> PredictionResponse:
    """The probability of each emotion that the checkpoint knows, and the most probable one.

    The probabilities say how many of the people who look at the picture would name each emotion as the one
    it evokes; they are estimates with an error, which GET /v1/model states. `abstained` says when they
    should not be relied on at all.
    """
    model = service.served.current
    seconds = time_allowed(service.settings.predict_seconds, useful)
    spend(request, service, PREDICTION)
    service.engine.check_room(Kind.PREDICTION, deadline=time.monotonic() + seconds)
    with ExitStack() as held:
        received, deadline = await _take_in(request, service, model, seconds, held)
        decoded = time.monotonic()
        work = service.engine.predict(model, received.pixels, deadline=deadline)
        prediction = await while_connected(request, work)
    on_device(prediction.queue_seconds, prediction.infer_seconds)
    response.headers.update(
        server_timing(
            decode=decoded - deadline + seconds,
            queue=prediction.queue_seconds,
            infer=prediction.infer_seconds,
        )
    )
    return PredictionResponse(
        **answered(model, prediction, query.top_k),
        model=model_name(model),
        image=received.facts,
        request_id=request_id,
    )


async def _take_in(
    request: Request, service: Service, model: Model, seconds: float, held: ExitStack
) -> tuple[Received, float]:
    """The decoded upload and the deadline of its answer; the request's place is left to `held`.

    The upload itself, which may be large, is let go of on return: the queue holds decoded input only.
    """
    with service.uploads.share() as take:
        data = await read_upload(request, service.settings, take)
        deadline = time.monotonic() + seconds
        held.enter_context(service.engine.place(Kind.PREDICTION, deadline=deadline, left=ClientDisconnect))
        received = await while_connected(request, receive(request, service, model, data, deadline=deadline))
    return received, deadline


def answered(model: Model, prediction: Prediction, top_k: int | None) -> dict[str, Any]:
    """What a prediction says, by the names that the answers give it."""
    return described(model.card, prediction.probabilities.tolist(), prediction.novelty, top_k)
