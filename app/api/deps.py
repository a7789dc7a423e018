"""What the routes need, made once when the service starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from fastapi import Depends, Request

from app.api.rates import Buckets
from app.api.refusals import BeyondRepair, NotReady
from app.api.schemas import ModelName
from app.api.upload import UploadMemory
from app.api.workers import Workers
from app.devices import Device
from app.engine import Engine, EngineLimits, Model
from app.keys import Keys
from app.metrics import Metrics
from app.served import Served
from app.settings import Settings


@dataclass(frozen=True)
class Service:
    """The parts of a running service, kept in ``app.state.service``."""

    settings: Settings
    served: Served
    engine: Engine
    metrics: Metrics
    uploads: UploadMemory
    decoding: Workers
    keys: Keys | None
    buckets: Buckets | None
    drawing: Workers  # apart from decoding, so that drawing a large heat map holds up no prediction


def model_name(model: Model) -> ModelName:
    """Which checkpoint answers."""
    return ModelName(name=model.card.name, version=model.card.version, sha256=model.sha256)


def make_service(settings: Settings, model: Model, devices: Sequence[Device], metrics: Metrics) -> Service:
    """The parts with the limits that the settings give them.

    Raises:
        KeysError: the file of keys cannot be used.
    """
    rate = settings.rate_units
    keys = Keys(settings.keys_file) if settings.keys_file is not None else None
    limits = EngineLimits(
        max_batch=settings.max_batch,
        max_predictions=settings.max_predictions,
        max_explanations=settings.max_explanations,
        running_explanations=settings.running_explanations,
        hang_seconds=settings.hang_seconds,
    )
    explanations = settings.max_explanations + sum(limits.running_on(device.torch) for device in devices)
    decoding = Workers(
        "decode", threads=settings.decode_threads, most=settings.max_predictions + explanations
    )
    engine = Engine(
        devices,
        limits,
        metrics,
        beside=lambda: decoding.busy_seconds,
        before=lambda: decoding.seconds_ahead,
    )
    metrics.watch("ready", "1 when requests are taken", lambda: engine.ready)
    for device in devices:
        if device.torch.type == "cuda":
            metrics.watch(
                "device_memory_bytes",
                "allocated on the device by this process",
                partial(torch.cuda.memory_allocated, device.torch),
                device=str(device.torch),
            )
    return Service(
        settings,
        Served(model, settings.checkpoint, engine, devices, metrics, precision=settings.precision),
        engine,
        metrics,
        uploads=UploadMemory(settings.upload_memory_bytes),
        decoding=decoding,
        keys=keys,
        buckets=Buckets(rate, settings.rate_burst) if rate is not None else None,
        drawing=Workers("draw", threads=1, most=explanations),
    )


def check_repair(service: Service) -> None:
    """That the process can still be of use.

    Raises:
        BeyondRepair: it cannot.
    """
    if service.engine.beyond_repair:
        raise BeyondRepair("the device has hung or died several times, and only a new process can free it")


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _warm_service(service: Annotated[Service, Depends(_service)]) -> Service:
    if not service.engine.ready:
        raise NotReady("the network is warming up, or the service is stopping")
    return service


AnyService = Annotated[Service, Depends(_service)]
"""The service, warm or not."""

WarmService = Annotated[Service, Depends(_warm_service)]
"""The service, once it answers; before, `NotReady` is raised, and the upload is not even read."""


async def request_id(request: Request) -> str:
    """The id that the outermost middleware gave the request."""
    given: str = request.state.request_id
    return given


RequestId = Annotated[str, Depends(request_id)]
