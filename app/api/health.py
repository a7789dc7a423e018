"""``GET /healthz`` and ``GET /readyz``: for whoever restarts the process, and whoever sends it requests."""

from fastapi import APIRouter

from app.api.deps import WarmService
from app.api.problems import responses
from app.api.refusals import NotReady
from app.api.schemas import Health, Ready

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Is the process alive?", responses=responses())
async def healthz() -> Health:
    """Always answers while the process can; restart it when this fails."""
    return Health()


@router.get("/readyz", summary="Does the service take pictures?", responses=responses(NotReady))
async def readyz(_service: WarmService) -> Ready:
    """Answers 503 until the network is warm; send no pictures before."""
    return Ready()
