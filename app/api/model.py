"""``GET /v1/model``: what the checkpoint says of itself."""

from fastapi import APIRouter

from app.api.deps import AnyService
from app.api.problems import responses
from app.api.schemas import ModelResponse

router = APIRouter(prefix="/v1", tags=["model"])


@router.get("/model", summary="Which checkpoint answers, and how good is it?", responses=responses())
async def model(service: AnyService) -> ModelResponse:
    """The card: labels, training data and its terms, scores with intervals, limits; digest and device."""
    checkpoint = service.checkpoint
    return ModelResponse(card=checkpoint.card, sha256=checkpoint.sha256, device=str(checkpoint.device))
