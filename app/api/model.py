"""``GET /v1/model``: what the checkpoint says of itself. ``POST /v1/model/reload``: the next one."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.deps import AnyService, WarmService
from app.api.problems import responses
from app.api.refusals import AdminDisabled, NotAllowed, NotReady
from app.api.schemas import ModelResponse, ReloadRequest
from app.checkpoint import CheckpointError
from app.engine import Model

router = APIRouter(prefix="/v1", tags=["model"])

_BEARER = HTTPBearer(auto_error=False, description="the service's DEEPEMOTION_ADMIN_KEY")


def admin(
    service: AnyService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> None:
    """Let nobody pass but who sends the admin key.

    Raises:
        AdminDisabled: there is none.
        NotAllowed: none was sent, or another.
    """
    key = service.settings.admin_key
    if key is None:
        raise AdminDisabled("no admin key is configured, so nobody may do this over HTTP")
    sent = given.credentials if given is not None else ""
    if not hmac.compare_digest(sent.encode(), key.get_secret_value().encode()):
        raise NotAllowed("the admin key is missing or wrong")


@router.get("/model", summary="Which checkpoint answers, and how good is it?", responses=responses())
async def model(service: AnyService) -> ModelResponse:
    """The card: labels, training data and its terms, scores with intervals, limits; digest and devices."""
    return _described(service.served.current)


@router.post(
    "/model/reload",
    summary="Let a new checkpoint answer, with no request failing",
    dependencies=[Depends(admin)],
    responses=responses(AdminDisabled, NotAllowed, CheckpointError, NotReady, RequestValidationError),
)
async def reload(service: WarmService, wish: ReloadRequest | None = None) -> ModelResponse:
    """Reads the checkpoint's file again, or another in its folder, and warms it up beside the old one.

    Requests that have begun are answered by the old checkpoint, later ones by the new. If the new file
    cannot be trusted, read or run, the old one goes on answering and the problem says why.
    """
    return _described(await service.served.reload(wish.file if wish is not None else None))


def _described(answering: Model) -> ModelResponse:
    devices = [str(copy.device) for copy in answering.copies]
    return ModelResponse(card=answering.card, sha256=answering.sha256, devices=devices)
