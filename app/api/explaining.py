"""What ``POST /explain`` does once it knows what is wished for: explain, draw or describe."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np
from fastapi import Response
from PIL import Image

from app.api.deps import model_name
from app.api.intake import Received, receive, server_timing
from app.api.schemas import EmotionEvidence, ExplanationResponse, RawMap
from app.explain.facts import described, facts, felt, notes
from app.explain.heatmap import to_png
from app.explain.presets import PRESETS
from app.explain.views import Style, draw
from app.picture import decode
from app.tracing import on_device, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from app.api.deps import Service
    from app.api.schemas import ImageFacts
    from app.engine import Explanation, Model
    from app.settings import Settings

_ZERO, _RANGE = 32768, 32767
"""No evidence, and the strongest evidence's distance from it, in a 16-bit map."""


class PngResponse(Response):
    """A PNG."""

    media_type = "image/png"


@dataclass(frozen=True)
class Wish:
    """What is to be explained, by which model, and how it is to be shown.

    Attributes:
        model: what answers.
        emotion: index of the emotion; None is the dominant one.
        view: one of `app.explain.views.VIEWS`; a sheet explains all emotions.
        quality: one of `app.explain.presets.PRESETS`.
        layer: the inner layer to dream of instead of the emotion, if any.
        style: of a picture.
        raw_map: whether JSON carries the whole map, and in which form.
        as_json: whether the answer is JSON instead of a picture.
        request_id: of the request.
    """

    model: Model
    emotion: int | None
    view: str
    quality: str
    layer: str | None
    style: Style
    raw_map: Literal["none", "png", "npz"]
    as_json: bool
    request_id: str


async def answer(
    request: Request,
    service: Service,
    data: bytes,
    wish: Wish,
    *,
    deadline: float,
    begin: Callable[[], None],
) -> Response:
    """The response, whatever was wished for; `begin` is called before the device is asked for anything.

    Raises:
        PictureError, EngineError, Busy, MemoryError: as their names say.
    """
    started = time.monotonic()
    received = await receive(request, service, wish.model, data, deadline=deadline)
    decoded = time.monotonic()
    begin()
    explanations = await _explain(service, received, wish, deadline)
    explained = time.monotonic()
    queued, inferred = times(explanations)
    on_device(queued, inferred)
    make = partial(_described, received.facts) if wish.as_json else partial(_drawn, data, service.settings)
    with span("render"):
        said, body = await service.drawing.run(partial(make, explanations, wish), deadline=deadline)
    response = Response(body, media_type="application/json") if wish.as_json else PngResponse(body)
    timing = server_timing(
        decode=decoded - started,
        queue=queued,
        infer=inferred,
        render=time.monotonic() - explained,
    )
    headers = {f"X-DeepEmotion-{name}": quote(value, safe="@+") for name, value in said.items()}
    response.headers.update(headers | timing | {"Vary": "Accept"})
    return response


async def _explain(
    service: Service, received: Received, wish: Wish, deadline: float
) -> Sequence[Explanation]:
    settings = PRESETS[wish.quality]
    if wish.view == "sheet":
        return await service.engine.explain_all(
            wish.model, received.pixels, deadline=deadline, settings=settings
        )
    return [
        await service.engine.explain(
            wish.model,
            received.pixels,
            wish.emotion,
            deadline=deadline,
            settings=settings,
            layer=wish.layer,
        )
    ]


def times(explanations: Sequence[Explanation]) -> tuple[float, float]:
    """Seconds waited and computed; each explanation has those of the one prediction, too."""
    again, prediction = len(explanations) - 1, explanations[0].prediction
    queued = sum(each.queue_seconds for each in explanations) - again * prediction.queue_seconds
    inferred = sum(each.infer_seconds for each in explanations) - again * prediction.infer_seconds
    return queued, inferred


def _drawn(
    data: bytes, settings: Settings, explanations: Sequence[Explanation], wish: Wish
) -> tuple[dict[str, str], bytes]:
    """The PNG. The upload is decoded a second time, so that waiting explanations hold no decoded pictures."""
    card = wish.model.card
    # Nothing here keeps the picture: the encoder needs its memory.
    drawn = draw(
        decode(data, max_pixels=settings.max_pixels), explanations, card.labels, wish.view, wish.style
    )
    png = to_png(drawn, notes(card, wish.model.sha256, explanations, wish.quality))
    return facts(card, explanations, wish.quality), png


def _described(
    image: ImageFacts, explanations: Sequence[Explanation], wish: Wish
) -> tuple[dict[str, str], bytes]:
    """The JSON."""
    card = wish.model.card
    answered = ExplanationResponse(
        explanations=[
            EmotionEvidence(
                **described(each, card.labels, image.width, image.height),
                map=None if wish.raw_map == "none" else _raw(each.relevance, wish.raw_map),
            )
            for each in explanations
        ],
        settings=wish.quality,
        **felt(card, explanations[0]),
        model=model_name(wish.model),
        image=image,
        request_id=wish.request_id,
    )
    return facts(card, explanations, wish.quality), answered.model_dump_json().encode()


def _raw(relevance: np.ndarray[tuple[int, ...], np.dtype[np.float32]], form: Literal["png", "npz"]) -> RawMap:
    """The whole map ``[S, S]``, stretched over the picture as the network's input is."""
    file = io.BytesIO()
    unit = 1.0
    if form == "npz":
        np.savez_compressed(file, relevance=relevance)
    else:
        unit = float(np.abs(relevance).max()) / _RANGE
        levels = np.rint(relevance / unit if unit else relevance) + _ZERO
        Image.fromarray(levels.astype(np.uint16)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    zero = _ZERO if form == "png" else 0
    return RawMap(form=form, side=relevance.shape[0], zero=zero, unit=unit, data=data)
