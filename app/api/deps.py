"""What the routes need, made once when the service starts."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.api.refusals import NotReady
from app.api.schemas import ModelName
from app.api.upload import UploadMemory
from app.api.workers import Workers
from app.checkpoint import Checkpoint
from app.engine import Engine, EngineLimits
from app.settings import Settings


@dataclass(frozen=True)
class Service:
    """The parts of a running service, kept in ``app.state.service``."""

    settings: Settings
    checkpoint: Checkpoint
    engine: Engine
    uploads: UploadMemory
    decoding: Workers
    drawing: Workers  # apart from decoding, so that drawing a large heat map holds up no prediction

    @property
    def model_name(self) -> ModelName:
        """Which checkpoint answers."""
        card = self.checkpoint.card
        return ModelName(name=card.name, version=card.version, sha256=self.checkpoint.sha256)


def make_service(settings: Settings, checkpoint: Checkpoint) -> Service:
    """The parts with the limits that the settings give them."""
    limits = EngineLimits(
        max_batch=settings.max_batch,
        max_predictions=settings.max_predictions,
        max_explanations=settings.max_explanations,
        running_explanations=settings.running_explanations,
    )
    explanations = settings.max_explanations + limits.running_on(checkpoint.device)
    return Service(
        settings,
        checkpoint,
        Engine(checkpoint, limits),
        uploads=UploadMemory(settings.upload_memory_bytes),
        decoding=Workers(
            "decode", threads=settings.decode_threads, most=settings.max_predictions + explanations
        ),
        drawing=Workers("draw", threads=1, most=explanations),
    )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _warm_service(service: Annotated[Service, Depends(_service)]) -> Service:
    if not service.engine.ready:
        raise NotReady("the network is warming up, or the service is stopping")
    return service


AnyService = Annotated[Service, Depends(_service)]
"""The service, warm or not."""

WarmService = Annotated[Service, Depends(_warm_service)]
"""The service, once it answers; before, `NotReady` is raised, and the upload is not even read."""


def request_id(request: Request) -> str:
    """The id that the outermost middleware gave the request."""
    given: str = request.state.request_id
    return given


RequestId = Annotated[str, Depends(request_id)]
