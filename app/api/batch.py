"""``POST /v1/predict/batch``: several pictures in one form; each is answered, or fails, alone."""

import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from app.api.access import LIMITED_ERRORS
from app.api.deps import RequestId, Service, WarmService, model_name
from app.api.disconnect import told_of_leaving, while_connected
from app.api.errors import TABLE, kind_of
from app.api.intake import UsefulSeconds, receive, server_timing, time_allowed
from app.api.openapi import PICTURES_BODY, REQUEST_ID_HEADER, TIMING_HEADER
from app.api.predict import PredictWish, answered
from app.api.problems import problem_of, responses, seconds_to_wait
from app.api.rates import PREDICTION, owe, spend
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
from app.api.schemas import BatchResponse, OnePicture
from app.api.together import together
from app.api.upload import read_uploads
from app.engine import EngineStopped, Kind, Model, QueueFull
from app.telemetry import log_failure
from app.tracing import on_device

router = APIRouter(tags=["emotions"])

_WHOLE = (
    *LIMITED_ERRORS,
    BadMultipart,
    BodyTooSlow,
    BodyTooLarge,
    UnsupportedMediaType,
    MissingFile,
    TooManyFiles,
    NotReady,
    QueueFull,
    Busy,
    EngineStopped,
    RequestValidationError,
)
"""What fails the request as a whole; everything else fails one picture."""
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a prediction or a problem for each picture",
        "headers": REQUEST_ID_HEADER
        | TIMING_HEADER
        | {
            "Retry-After": {
                "description": "seconds to wait before pictures that found no place are sent again",
                "schema": {"type": "integer", "minimum": 1},
            }
        },
    }
}


@router.post(
    "/predict/batch",
    summary="Which emotions do these pictures evoke?",
    responses=_ANSWER | responses(*_WHOLE),
    openapi_extra=PICTURES_BODY,
)
async def predict_batch(
    *,
    request: Request,
    response: Response,
    service: WarmService,
    request_id: RequestId,
    query: PredictWish,
    useful: UsefulSeconds = None,
) -> BatchResponse:
    """A prediction or a problem for each file of the form, in its order.

    Each picture is a request of its own to the engine: when some find no place, only those get a problem,
    and can be sent again.
    """
    model = service.served.current
    seconds = time_allowed(service.settings.batch_seconds, useful)
    spend(request, service, PREDICTION)
    service.engine.check_room(Kind.PREDICTION, deadline=time.monotonic() + seconds)
    with service.uploads.share() as take:
        uploads = await read_uploads(request, service.settings, take)
        began = time.monotonic()
        owe(request, service, PREDICTION * (len(uploads) - 1))
        waits: list[int] = []
        one = partial(
            _answer, request, service, model, deadline=began + seconds, top_k=query.top_k, waits=waits
        )
        limits = service.settings
        work = together(one, uploads, batch=limits.max_batch, places=limits.max_predictions)
        results = await while_connected(request, work)
    response.headers.update(server_timing(total=time.monotonic() - began))
    if waits:
        response.headers["Retry-After"] = str(max(waits))
    return BatchResponse(results=results, model=model_name(model), request_id=request_id)


async def _answer(
    request: Request,
    service: Service,
    model: Model,
    upload: bytes,
    *,
    deadline: float,
    top_k: int | None,
    waits: list[int],
) -> OnePicture:
    try:
        with (
            service.engine.place(Kind.PREDICTION, deadline=deadline, left=ClientDisconnect),
            told_of_leaving(request),
        ):
            received = await receive(request, service, model, upload, deadline=deadline)
            prediction = await service.engine.predict(model, received.pixels, deadline=deadline)
            on_device(prediction.queue_seconds, prediction.infer_seconds)
    except Exception as error:
        if kind_of(type(error)) is TABLE[Exception]:
            raise
        if kind_of(type(error)).fixed_detail:
            log_failure(error, request.state.request_id)
        if (seconds := seconds_to_wait(error)) is not None:
            waits.append(seconds)
        return OnePicture(problem=problem_of(error, request.state.request_id))
    return OnePicture(**answered(model, prediction, top_k), image=received.facts)
