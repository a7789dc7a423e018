"""What both routes do with an upload before the network sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import Header

from app.api.schemas import ImageFacts
from app.picture import Pixels, decode
from app.tracing import span

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.api.deps import Service
    from app.engine import Model


UsefulSeconds = Annotated[
    float | None,
    Header(
        alias="X-DeepEmotion-Timeout",
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds, from the end of the upload, after which the answer is of no use to you; work "
        "for it is then dropped. It can only shorten what the service allows",
    ),
]


@dataclass(frozen=True)
class Received:
    """A decoded upload: the network's input and what may be said of the picture.

    Attributes:
        pixels: ``uint8 [3, S, S]``.
        facts: size and format, for the answer and the log.
        seconds: that decoding took, waiting for it not counted.
    """

    pixels: Pixels
    facts: ImageFacts
    seconds: float


def time_allowed(service_seconds: float, client_seconds: float | None) -> float:
    """Seconds for the answer: the client may shorten what the service allows, never lengthen it."""
    return service_seconds if client_seconds is None else min(service_seconds, client_seconds)


async def receive(
    request: Request, service: Service, model: Model, data: bytes, *, deadline: float
) -> Received:
    """Decode an upload in a thread and note its facts for the log.

    The decoded picture itself is not kept: it may be fifty times larger than the upload, and the network
    needs little of it.

    Raises:
        PictureError: see `app.picture.decode`.
        Busy, DeadlinePassed: see `app.api.workers.Workers.run`.
        MemoryError: there is not enough memory for the picture.
    """
    work = partial(_prepare, data, service.settings.max_pixels, side=model.card.input_size)
    with span("decode"):
        received = await service.decoding.run(work, deadline=deadline)
    service.metrics.decode_seconds.observe(received.seconds)
    request.state.picture = received.facts.model_dump()
    return received


def _prepare(data: bytes, max_pixels: int, *, side: int) -> Received:
    began = time.monotonic()
    picture = decode(data, max_pixels=max_pixels, side=side)
    facts = ImageFacts.model_validate(
        {"width": picture.width, "height": picture.height, "format": picture.format}
    )
    return Received(picture.as_input(side), facts, time.monotonic() - began)


def server_timing(**seconds: float) -> dict[str, str]:
    """The ``Server-Timing`` header, which browsers show in their network panel; durations in milliseconds."""
    return {"Server-Timing": ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in seconds.items())}
