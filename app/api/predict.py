"""``POST /predict``: which emotions a picture evokes."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.deps import RequestId, Service, WarmService
from app.api.disconnect import while_connected
from app.api.intake import Received, receive, server_timing
from app.api.openapi import PICTURE_BODY, REQUEST_ID_HEADER, TIMING_HEADER
from app.api.problems import responses
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
from app.api.schemas import Dominant, PredictionResponse
from app.api.upload import read_upload
from app.engine import DeadlinePassed, EngineStopped, ModelFailed, Prediction, QueueFull
from app.picture import BrokenPicture, EmptyPicture, TooManyPixels, UnsupportedPicture

router = APIRouter(tags=["emotions"])

PICTURE_ERRORS: tuple[type[Exception], ...] = (
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
    DeadlinePassed,
)
"""What can go wrong with any upload."""

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
    request: Request, response: Response, service: WarmService, request_id: RequestId
) -> PredictionResponse:
    """The probability of each emotion that the checkpoint knows, and the most probable one.

    The probabilities say how many of the people who look at the picture would name each emotion as the one
    it evokes; they are estimates with an error, which GET /v1/model states.
    """
    received, deadline, seconds = await _take_in(request, service)
    prediction = await while_connected(request, service.engine.predict(received.pixels, deadline=deadline))
    response.headers.update(
        server_timing(decode=seconds, queue=prediction.queue_seconds, infer=prediction.infer_seconds)
    )
    return _answer(service, received, prediction, request_id)


async def _take_in(request: Request, service: Service) -> tuple[Received, float, float]:
    """The decoded upload, the deadline of its answer, and the seconds that decoding took.

    The upload itself, which may be large, is let go of on return: the queue holds decoded input only.
    """
    with service.uploads.share() as take:
        data = await read_upload(request, service.settings, take)
        started = time.monotonic()
        deadline = started + service.settings.predict_seconds
        received = await while_connected(request, receive(request, service, data, deadline=deadline))
    return received, deadline, time.monotonic() - started


def _answer(
    service: Service, received: Received, prediction: Prediction, request_id: str
) -> PredictionResponse:
    labels = service.checkpoint.card.labels
    distribution = dict(zip(labels, prediction.probabilities.tolist(), strict=True))
    dominant = labels[int(prediction.probabilities.argmax())]
    return PredictionResponse(
        distribution=distribution,
        dominant=Dominant(emotion=dominant, probability=distribution[dominant]),
        model=service.model_name,
        image=received.facts,
        request_id=request_id,
    )
