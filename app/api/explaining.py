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
from app.api.schemas import EmotionEvidence, ExplanationResponse, RawMap, RegionBox
from app.explain.heatmap import has_evidence, to_png
from app.explain.presets import PRESETS
from app.explain.regions import regions
from app.explain.views import Style, draw
from app.picture import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from app.api.deps import Service
    from app.api.schemas import ImageFacts
    from app.engine import Explanation, Model
    from app.explain.regions import Region

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
        style: of a picture.
        raw_map: whether JSON carries the whole map, and in which form.
        as_json: whether the answer is JSON instead of a picture.
        request_id: of the request.
    """

    model: Model
    emotion: int | None
    view: str
    quality: str
    style: Style
    raw_map: Literal["none", "png", "npz"]
    as_json: bool
    request_id: str


async def answer(request: Request, service: Service, data: bytes, wish: Wish, deadline: float) -> Response:
    """The response, whatever was wished for.

    Raises:
        PictureError, EngineError, Busy, MemoryError: as their names say.
    """
    started = time.monotonic()
    received = await receive(request, service, wish.model, data, deadline=deadline)
    decoded = time.monotonic()
    explanations = await _explain(service, received, wish, deadline)
    explained = time.monotonic()
    facts = _facts(wish, explanations)
    if wish.as_json:
        body = await service.drawing.run(
            partial(_described, explanations, received.facts, wish), deadline=deadline
        )
        response = Response(body, media_type="application/json")
    else:
        notes = {f"DeepEmotion-{name}": value for name, value in facts.items()}
        notes["DeepEmotion-Model-SHA256"] = wish.model.sha256
        work = partial(_drawn, data, service.settings.max_pixels, explanations, wish, notes)
        response = PngResponse(await service.drawing.run(work, deadline=deadline))
    timing = server_timing(
        decode=decoded - started,
        queue=explanations[0].queue_seconds,
        infer=sum(each.infer_seconds for each in explanations),
        render=time.monotonic() - explained,
    )
    headers = {f"X-DeepEmotion-{name}": quote(value, safe="@") for name, value in facts.items()}
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
            wish.model, received.pixels, wish.emotion, deadline=deadline, settings=settings
        )
    ]


def _facts(wish: Wish, explanations: Sequence[Explanation]) -> dict[str, str]:
    """What the headers and the notes in the PNG both say: of a sheet, the first, and the largest error."""
    first = explanations[0]
    card = wish.model.card
    return {
        "Emotion": card.labels[first.emotion],
        "Probability": f"{first.prediction.probabilities[first.emotion]:.6f}",
        "Completeness-Error": f"{max(each.completeness_error for each in explanations):.4g}",
        "Evidence": "yes" if any(has_evidence(each) for each in explanations) else "no",
        "Settings": wish.quality,
        "Model": f"{card.name}@{card.version}",
    }


def _drawn(
    data: bytes, max_pixels: int, explanations: Sequence[Explanation], wish: Wish, notes: dict[str, str]
) -> bytes:
    """The PNG. The upload is decoded a second time, so that waiting explanations hold no decoded pictures."""
    picture = decode(data, max_pixels=max_pixels)
    return to_png(draw(picture, explanations, wish.model.card.labels, wish.view, wish.style), notes)


def _described(explanations: Sequence[Explanation], image: ImageFacts, wish: Wish) -> str:
    labels = wish.model.card.labels
    return ExplanationResponse(
        explanations=[
            EmotionEvidence(
                emotion=labels[each.emotion],
                probability=float(each.prediction.probabilities[each.emotion]),
                evidence=has_evidence(each),
                rise=each.rise,
                completeness_error=each.completeness_error,
                regions=[_box(region, image) for region in regions(each)],
                map=None if wish.raw_map == "none" else _raw(each.relevance, wish.raw_map),
            )
            for each in explanations
        ],
        settings=wish.quality,
        model=model_name(wish.model),
        image=image,
        request_id=wish.request_id,
    ).model_dump_json()


def _box(region: Region, image: ImageFacts) -> RegionBox:
    return RegionBox(
        left=round(region.left * image.width),
        top=round(region.top * image.height),
        right=round(region.right * image.width),
        bottom=round(region.bottom * image.height),
        share=region.share,
        effect="raises" if region.raises else "lowers",
    )


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
