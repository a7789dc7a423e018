"""What the Open Inference Protocol has a server answer, as its specification names the fields."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal["BYTES", "UINT8", "FP32", "BOOL"]


class _ProtocolAnswer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerMetadata(_ProtocolAnswer):
    """``$metadata_server_response``."""

    name: str
    version: str
    extensions: list[str]


class Live(_ProtocolAnswer):
    """``$live_server_response``."""

    live: bool


class ServerReady(_ProtocolAnswer):
    """``$ready_server_response``."""

    ready: bool


class ModelReady(_ProtocolAnswer):
    """``$ready_model_response``."""

    name: str
    ready: bool


class TensorMetadata(_ProtocolAnswer):
    """``$metadata_tensor``."""

    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 where any number will do")


class ModelMetadata(_ProtocolAnswer):
    """``$metadata_model_response``."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferOutput(_ProtocolAnswer):
    """``$response_output``."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[float | bool | str] = Field(description="flat, the last dimension fastest")


class InferAnswer(_ProtocolAnswer):
    """``$inference_response``."""

    model_name: str
    model_version: str
    id: str = Field(default="", description="the request's, and left out where it had none")
    outputs: list[InferOutput]


class ProtocolError(_ProtocolAnswer):
    """``$inference_error_response``, and that of every other request."""

    error: str
