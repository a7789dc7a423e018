"""``/v2``: the Open Inference Protocol, for the clients of KServe, Triton and Seldon.

Specification: kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from app.api.access import LIMITED_ERRORS, identified
from app.api.deps import AnyService, Service, WarmService, check_repair
from app.api.disconnect import told_of_leaving, while_connected
from app.api.intake import UsefulSeconds, receive, time_allowed
from app.api.outputs import filled, outputs
from app.api.problems import MEDIA_TYPE, responses
from app.api.protocol_answers import (
    InferAnswer,
    Live,
    ModelMetadata,
    ModelReady,
    ProtocolError,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from app.api.rates import PREDICTION, owe, spend
from app.api.refusals import (
    BadInference,
    BeyondRepair,
    BodyTooLarge,
    BodyTooSlow,
    Busy,
    NotReady,
    UnknownModel,
    UnsupportedMediaType,
)
from app.api.tensors import IMAGE, PIXELS, Asked, read
from app.api.together import together
from app.api.upload import read_body
from app.engine import (
    DeadlinePassed,
    DeviceLost,
    EngineStopped,
    Kind,
    Model,
    ModelFailed,
    Prediction,
    QueueFull,
)
from app.picture import BrokenPicture, EmptyPicture, Pixels, TooManyPixels, UnsupportedPicture
from app.tracing import on_device

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


_INFER = (
    BadInference,
    EmptyPicture,
    UnknownModel,
    BodyTooSlow,
    BodyTooLarge,
    TooManyPixels,
    UnsupportedMediaType,
    UnsupportedPicture,
    BrokenPicture,
    RequestValidationError,
    ModelFailed,
    NotReady,
    QueueFull,
    Busy,
    MemoryError,
    EngineStopped,
    DeviceLost,
    DeadlinePassed,
    *LIMITED_ERRORS,
)


_RED = (  # a PNG of one pixel, so that the documentation's example can be sent as it is
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mN4JiICAALyAQ9Lv94OAAAAAElFTkSuQmCC"
)


def _errors(*error_classes: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses``: each problem as the protocol puts it."""
    return {
        status: {
            "description": problem["description"],
            "model": ProtocolError,
            "content": {"application/json": {"examples": _as_sentences(problem["content"][MEDIA_TYPE])}},
            "headers": problem.get("headers", {}),
        }
        for status, problem in responses(*error_classes).items()
    }


def _as_sentences(problems: dict[str, Any]) -> dict[str, Any]:
    return {
        slug: {
            "summary": shown["summary"],
            "value": {"error": "{title}: {detail}; {remedy}".format_map(shown["value"])},
        }
        for slug, shown in problems["examples"].items()
    }


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "the outputs, a row for each picture", "model": InferAnswer}
}


async def _named(service: AnyService, model_name: str, model_version: str | None = None) -> Model:
    """The served model, if that is what the path names.

    Raises:
        UnknownModel: it is not.
    """
    served = service.served.current
    card = served.card
    if model_name != card.name or model_version not in {None, card.version}:
        raise UnknownModel(f"the model that is served is {card.name}, version {card.version}")
    return served


Named = Annotated[Model, Depends(_named)]


@router.get("", summary="Which server is this?", responses=_errors())
async def server_metadata(request: Request) -> ServerMetadata:
    """Name, version and the protocol extensions that are spoken in full: none."""
    return ServerMetadata(name="deepemotion", version=request.app.version, extensions=[])


@router.get("/health/live", summary="Is the process alive?", responses=_errors(BeyondRepair))
async def live(service: AnyService) -> Live:
    """True while the process can answer; restart it when this fails."""
    check_repair(service)
    return Live(live=True)


@router.get("/health/ready", summary="Does the server take requests?", responses=_errors(NotReady))
async def ready(_service: WarmService) -> ServerReady:
    """503 until the network is warm."""
    return ServerReady(ready=True)


@router.get(
    "/models/{model_name}", summary="What does the model take and give?", responses=_errors(UnknownModel)
)
@router.get("/models/{model_name}/versions/{model_version}", include_in_schema=False)
async def model_metadata(model: Named) -> ModelMetadata:
    """Inputs and outputs by name; send one of the two inputs."""
    side = model.card.input_size
    return ModelMetadata(
        name=model.card.name,
        versions=[model.card.version],
        platform="pytorch_torchscript",
        inputs=[
            TensorMetadata(name=IMAGE, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=PIXELS, datatype="UINT8", shape=[-1, side, side, 3]),
        ],
        outputs=[TensorMetadata(**output) for output in outputs(model.card)],
    )


@router.get(
    "/models/{model_name}/ready",
    summary="Does the model take requests?",
    responses=_errors(UnknownModel, NotReady),
)
@router.get("/models/{model_name}/versions/{model_version}/ready", include_in_schema=False)
async def model_ready(_service: WarmService, model: Named) -> ModelReady:
    """503 until the network is warm."""
    return ModelReady(name=model.card.name, ready=True)


@router.post(
    "/models/{model_name}/infer",
    summary="Which emotions do these pictures evoke?",
    dependencies=[Depends(identified)],
    responses=_ANSWER | _errors(*_INFER),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/InferRequest"},
                    "example": {
                        "id": "42",
                        "inputs": [{"name": IMAGE, "shape": [1], "datatype": "BYTES", "data": [_RED]}],
                    },
                }
            },
        }
    },
)
@router.post(
    "/models/{model_name}/versions/{model_version}/infer",
    dependencies=[Depends(identified)],
    include_in_schema=False,
)
async def infer(
    request: Request,
    service: WarmService,
    model: Named,
    json_length: Annotated[
        int | None,
        Header(
            alias="Inference-Header-Content-Length",
            ge=0,
            description="bytes of the JSON, where the data follow it in binary; else the whole body is JSON",
        ),
    ] = None,
    useful: UsefulSeconds = None,
) -> JSONResponse:
    """The probability of each emotion, the most probable one, and what else is told, for each picture.

    Pictures come as files, in the input ``image`` (Base64 in JSON, or as they are in Triton's binary form),
    or as levels of the network's own size, in the input ``pixels``. When one fails, the request fails. JSON
    has room for two million values, which are thirteen pictures of 224 x 224 as one flat list of numbers.
    """
    seconds = time_allowed(service.settings.batch_seconds, useful)
    spend(request, service, PREDICTION)
    service.engine.check_room(Kind.PREDICTION, deadline=time.monotonic() + seconds)
    with service.uploads.share() as take:
        body = await read_body(request, service.settings, take)
        deadline = time.monotonic() + seconds
        understand = partial(read, body, json_length, model.card.input_size, service.settings.max_files)
        asked = await service.decoding.run(understand, deadline=deadline)
        del body, understand  # the pictures are in there once more
        if unknown := set(asked.outputs or ()) - {output["name"] for output in outputs(model.card)}:
            raise BadInference(f"there are {len(unknown)} outputs that the model does not have")
        predictions = await while_connected(request, _predict(request, service, model, asked, deadline))
    return JSONResponse(_answer(model, asked, predictions))


async def _predict(
    request: Request, service: Service, model: Model, asked: Asked, deadline: float
) -> list[Prediction]:
    pictures: list[bytes | Pixels] = [*(asked.files or ()), *(() if asked.pixels is None else asked.pixels)]

    owe(request, service, PREDICTION * (len(pictures) - 1))

    async def one(picture: bytes | Pixels) -> Prediction:
        with (
            service.engine.place(
                Kind.PREDICTION,
                deadline=deadline,
                decoded=not isinstance(picture, bytes),
                left=ClientDisconnect,
            ),
            told_of_leaving(request),
        ):
            if isinstance(picture, bytes):
                received = await receive(request, service, model, picture, deadline=deadline)
                picture = received.pixels
            prediction = await service.engine.predict(model, picture, deadline=deadline)
            on_device(prediction.queue_seconds, prediction.infer_seconds)
            return prediction

    limits = service.settings
    return await together(one, pictures, batch=limits.max_batch, places=limits.max_predictions)


def _answer(model: Model, asked: Asked, predictions: list[Prediction]) -> dict[str, Any]:
    identity = {} if asked.id is None else {"id": asked.id}
    return {
        "model_name": model.card.name,
        "model_version": model.card.version,
        **identity,
        "outputs": filled(model.card, predictions, asked.outputs),
    }
