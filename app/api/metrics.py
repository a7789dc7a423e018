"""``GET /metrics``: what Prometheus reads."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from app.api.access import metrics_reader
from app.api.deps import AnyService
from app.api.problems import responses
from app.api.refusals import NotAllowed
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["operation"])

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus' text format",
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": 'deepemotion_batch_size_count{kind="prediction"} 42.0\n',
            }
        },
    }
}


@router.get(
    "/metrics",
    summary="Counters and timings",
    dependencies=[Depends(metrics_reader)],
    response_class=Response,
    responses=_ANSWER | responses(NotAllowed),
)
async def metrics(service: AnyService) -> Response:
    """Requests, lines, batches, gradient steps, refusals, failures, the checkpoint and the process."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
