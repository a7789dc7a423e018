"""``GET /v1/model``: what the checkpoint says of itself. ``POST /v1/model/reload``: the next one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.access import ACCESS_ERRORS, admin, identified
from app.api.deps import AnyService, WarmService
from app.api.problems import responses
from app.api.refusals import AdminDisabled, BodyTooLarge, BodyTooSlow, NotAllowed, NotReady
from app.api.schemas import ModelResponse, ReloadRequest
from app.api.upload import read_small
from app.checkpoint import CheckpointError
from app.engine import DeviceLost, EngineStopped, Model

router = APIRouter(prefix="/v1", tags=["model"])


@router.get(
    "/model",
    summary="Which checkpoint answers, and how good is it?",
    dependencies=[Depends(identified)],
    responses=responses(*ACCESS_ERRORS),
)
async def model(service: AnyService) -> ModelResponse:
    """The card: labels, training data and its terms, scores with intervals, limits; digest and devices."""
    return _described(service.served.current)


_WISH = {
    "requestBody": {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ReloadRequest"}}},
    },
}


async def _wished(request: Request, service: AnyService) -> ReloadRequest:
    """What the body asks for; an empty one asks for nothing in particular."""
    body = await read_small(request, service.settings)
    try:
        return ReloadRequest.model_validate_json(body) if body else ReloadRequest()
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error


@router.post(
    "/model/reload",
    summary="Let a new checkpoint answer, with no request failing",
    dependencies=[Depends(admin)],  # asked first, so that a stranger's body is never read
    responses=responses(
        AdminDisabled,
        NotAllowed,
        BodyTooLarge,
        BodyTooSlow,
        CheckpointError,
        NotReady,
        EngineStopped,
        DeviceLost,
        RequestValidationError,
    ),
    openapi_extra=_WISH,
)
async def reload(service: WarmService, wish: Annotated[ReloadRequest, Depends(_wished)]) -> ModelResponse:
    """Reads the checkpoint's file again, or another in its folder, and warms it up beside the old one.

    Requests that have begun are answered by the old checkpoint, later ones by the new. If the new file
    cannot be trusted, read or run, the old one goes on answering and the problem says why.
    """
    return _described(await service.served.reload(wish.file))


def _described(answering: Model) -> ModelResponse:
    devices = [str(copy.device) for copy in answering.copies]
    layers = list(answering.layers)
    return ModelResponse(
        card=answering.card,
        sha256=answering.sha256,
        devices=devices,
        predicts=answering.predicts,
        quantised=answering.quantised,
        layers=layers,
    )
