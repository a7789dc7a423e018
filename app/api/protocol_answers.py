"""What the Open Inference Protocol has a server answer, as its specification names the fields."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal["BYTES", "UINT8", "FP32", "BOOL"]


class _ProtocolAnswer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerMetadata(_ProtocolAnswer):
    """``$metadata_server_response``."""

    name: str = Field(description="deepemotion")
    version: str = Field(description="of the program")
    extensions: list[str] = Field(description="of the protocol that are spoken in full: none")


class Live(_ProtocolAnswer):
    """``$live_server_response``."""

    live: bool = Field(description="true while the process can answer")


class ServerReady(_ProtocolAnswer):
    """``$ready_server_response``."""

    ready: bool = Field(description="true; a server that is not answers 503")


class ModelReady(_ProtocolAnswer):
    """``$ready_model_response``."""

    name: str = Field(description="of the model")
    ready: bool = Field(description="true; a model that is not answers 503")


class TensorMetadata(_ProtocolAnswer):
    """``$metadata_tensor``."""

    name: str = Field(description="of the input or output")
    datatype: Datatype = Field(description="BYTES are files or text")
    shape: list[int] = Field(description="-1 where any number will do")


class ModelMetadata(_ProtocolAnswer):
    """``$metadata_model_response``."""

    name: str = Field(description="of the model, as the paths have it")
    versions: list[str] = Field(description="the one that is served")
    platform: str = Field(description="pytorch_torchscript, the kind of the checkpoint's file")
    inputs: list[TensorMetadata] = Field(description="of which one is sent")
    outputs: list[TensorMetadata] = Field(description="that the checkpoint can tell")


class InferOutput(_ProtocolAnswer):
    """``$response_output``."""

    name: str = Field(description="as the model's metadata have it")
    datatype: Datatype = Field(description="of `data`")
    shape: list[int] = Field(description="pictures first")
    data: list[float | bool | str] = Field(description="flat, the last dimension fastest")


class InferAnswer(_ProtocolAnswer):
    """``$inference_response``."""

    model_name: str = Field(description="that answered")
    model_version: str = Field(description="that answered")
    id: str = Field(default="", description="the request's, and left out where it had none")
    outputs: list[InferOutput] = Field(description="those that were asked for, or all")


class ProtocolError(_ProtocolAnswer):
    """``$inference_error_response``, and that of every other request."""

    error: str = Field(description="title: detail; remedy")
