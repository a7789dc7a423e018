"""Tensors of the Open Inference Protocol: from a request's body to pictures.

The protocol is specified at kserve/open-inference-protocol. Its JSON carries a picture as Base64; the binary
extension of Triton and its clients, whose inputs are read too, carries the file's own bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.api.refusals import BadInference

if TYPE_CHECKING:
    from app.picture import Pixels

IMAGE, PIXELS = "image", "pixels"
MOST_VALUES = 2_000_000
"""Values in the JSON: thirteen pictures of 224 x 224 pixels, as one flat list of numbers. Python takes up to
96 bytes for one, of which a body of 20 MB has room for seven million, and no other thread runs until it has
read them."""
MOST_WIDE = 1_000_000
"""Bytes of a JSON text that is not all ASCII, as Base64 is: Python takes up to four times as many for it."""
_WIDENS = re.compile(rb"\\u(?!00)|\0")
"""What makes more than a byte a letter of ASCII: an escape of JSON, and UTF-16, in which it looks otherwise.
Escapes of a byte do no harm, and some write Base64 with them: Gson has ``\\u003d`` for its ``=``."""


class Tensor(BaseModel):
    """One input. Its data are here, or follow the JSON."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=64, description="image or pixels")
    shape: list[int] = Field(
        max_length=8, fail_fast=True, description="as the model's metadata have it, pictures first"
    )
    datatype: Literal["BYTES", "UINT8"] = Field(description="BYTES of image, UINT8 of pixels")
    parameters: dict[str, Any] = Field(
        default={}, description="`binary_data_size`: bytes of the data, where they follow the JSON"
    )
    data: list[Any] | None = Field(
        default=None, description="Base64 of files, or levels of 0 to 255, flat or nested as the shape is"
    )


class Output(BaseModel):
    """One output that is asked for."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=64, description="as the model's metadata have it")


class InferRequest(BaseModel):
    """The JSON of a request."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = Field(default=None, max_length=256, description="comes back with the answer")
    # The first failure is the last: to say what is wrong with each of a million values would take gigabytes.
    inputs: list[Tensor] = Field(min_length=1, max_length=1, fail_fast=True, description="one of the two")
    outputs: list[Output] | None = Field(
        default=None, max_length=64, fail_fast=True, description="that are wanted; all if left out"
    )


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        id: to be sent back.
        files: pictures as files, or None.
        pixels: pictures ``uint8 [N, 3, S, S]``, or None.
        outputs: names of the outputs that are asked for; None is all.
    """

    id: str | None
    files: list[bytes] | None
    pixels: Pixels | None
    outputs: list[str] | None


def read(body: bytes, json_length: int | None, side: int, most: int) -> Asked:
    """Understand a request's body.

    Args:
        body: JSON, and after it the data of binary inputs.
        json_length: bytes of the JSON; None is all.
        side: of the network's input.
        most: pictures in one request.

    Raises:
        BadInference: it is not as the protocol or the model's metadata say.
    """
    length = len(body) if json_length is None else json_length
    text = body[:length]
    _check_size(text)
    try:
        wish = InferRequest.model_validate(json.loads(text))
    except (ValueError, RecursionError) as error:  # broken JSON or UTF-8, or ValidationError
        raise BadInference(_what(error)) from error
    (tensor,) = wish.inputs
    binary = _binary(tensor, body[length:])
    names = [output.name for output in wish.outputs] if wish.outputs else None
    if tensor.name == IMAGE:
        files = _files(tensor, binary, most)
        return Asked(wish.id, files, None, names)
    if tensor.name == PIXELS:
        pixels = _pixels(tensor, binary, side)
        _check_count(len(pixels), most)
        return Asked(wish.id, None, pixels, names)
    raise BadInference(f"the input is `{IMAGE}` or `{PIXELS}`")


def _check_size(text: bytes) -> None:
    """Each value has a comma, a colon or a bracket to itself."""
    values = sum(map(text.count, (b",", b":", b"[", b"{")))
    if values > MOST_VALUES:
        raise BadInference("the JSON is too large; send pictures as files, or as binary data")
    if len(text) > MOST_WIDE and (not text.isascii() or _WIDENS.search(text)):
        raise BadInference(f"JSON of more than {MOST_WIDE:,} bytes must be ASCII, without escapes of more")


def _what(error: ValueError | RecursionError) -> str:
    if isinstance(error, ValidationError):  # pydantic's messages here do not repeat the input
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return "the body is not JSON"


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise BadInference(f"a request has 1 to {most} pictures, not {count}")


def _binary(tensor: Tensor, rest: bytes) -> bytes | None:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if size != len(rest):
        raise BadInference(f"{len(rest)} bytes of data follow the JSON, and not as many are announced")
    return rest


def _files(tensor: Tensor, binary: bytes | None, most: int) -> list[bytes]:
    if tensor.datatype != "BYTES" or len(tensor.shape) not in {1, 2} or tensor.shape[1:] not in ([], [1]):
        raise BadInference(f"the input `{IMAGE}` must be BYTES of shape [n] or [n, 1]")
    _check_count(tensor.shape[0], most)
    files = _from_base64(tensor.data or []) if binary is None else _split(binary, most)
    if len(files) != tensor.shape[0]:
        raise BadInference(f"the shape says {tensor.shape[0]} pictures, and there are {len(files)}")
    return files


def _from_base64(data: list[Any]) -> list[bytes]:
    flat = [each for part in data for each in (part if isinstance(part, list) else [part])]
    try:
        return [base64.b64decode(each, validate=True) for each in flat]
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadInference(f"the data of `{IMAGE}` must be Base64 strings") from error


def _split(binary: bytes, most: int) -> list[bytes]:
    """Each element is preceded by its length in four bytes, little-endian."""
    files: list[bytes] = []
    at = 0
    while at < len(binary):
        _check_count(len(files) + 1, most)
        if at + 4 > len(binary):
            raise BadInference("the binary data end within a length")
        (length,) = struct.unpack_from("<I", binary, at)
        files.append(binary[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(binary):
        raise BadInference("the binary data end within an element")
    return files


def _pixels(tensor: Tensor, binary: bytes | None, side: int) -> Pixels:
    """``[N, 3, S, S]`` from ``[N, S, S, 3]``, the order in which pictures are held elsewhere."""
    if tensor.datatype != "UINT8" or tensor.shape[1:] != [side, side, 3]:
        raise BadInference(f"the input `{PIXELS}` must be UINT8 of shape [n, {side}, {side}, 3]")
    try:
        levels = _flat(tensor.data or []) if binary is None else binary
        pictures = np.frombuffer(levels, np.uint8).reshape(tensor.shape)
    except (OverflowError, TypeError, ValueError) as error:
        raise BadInference(f"the data of `{PIXELS}` are not {tensor.shape} levels of 0 to 255") from error
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _flat(data: list[Any]) -> bytes:
    """Lists of lists of levels, one level after the other.

    NumPy would make an array of the longest of millions of texts, each as long as it. And a text among lists
    would come apart into its letters, of which one without a comma may have millions.

    Raises:
        TypeError, ValueError: there is something else than a level of 0 to 255 in it.
    """
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise TypeError("something else lies among lists")
        data = list(chain.from_iterable(data))
    return bytes(data)
