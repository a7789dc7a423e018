"""``GET /healthz`` and ``GET /readyz``: for whoever restarts the process, and whoever sends it requests."""

from fastapi import APIRouter

from app.api.deps import AnyService, WarmService, check_repair
from app.api.problems import responses
from app.api.refusals import BeyondRepair, NotReady
from app.api.schemas import Health, Ready

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Is the process alive?", responses=responses(BeyondRepair))
async def healthz(service: AnyService) -> Health:
    """Answers while the process can, warm or not; restart it when this fails."""
    check_repair(service)
    return Health()


@router.get("/readyz", summary="Does the service take pictures?", responses=responses(NotReady))
async def readyz(_service: WarmService) -> Ready:
    """Answers 503 until the network is warm; send no pictures before."""
    return Ready()
