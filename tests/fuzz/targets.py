"""What is fuzzed: each target takes any bytes and raises only if the code under it broke its promise."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from PIL import Image
from starlette.requests import Request

from app.api.refusals import ApiError, BadInference
from app.api.tensors import read
from app.api.upload import read_upload, read_uploads
from app.picture import PictureError, decode
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message

MAX_PIXELS = 40_000  # more would only make each try slower
LARGEST_BODY = 20_000
SIDE = 32

_SETTINGS = Settings(
    max_upload_bytes=LARGEST_BODY, max_batch_bytes=LARGEST_BODY, upload_memory_bytes=LARGEST_BODY, max_files=3
)
_LOOP = asyncio.new_event_loop()


def fuzz_decoder(data: bytes) -> None:
    """Any bytes are an upright RGB picture within the limits, or a `PictureError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF
        # What the module itself turned into an error stays one.
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        try:
            picture = decode(data, max_pixels=MAX_PIXELS, side=SIDE if len(data) % 2 else None)
        except PictureError:
            return
        pixels = picture.as_input(SIDE)
    assert picture.rgb.mode == "RGB"
    assert not picture.rgb.info
    assert picture.width * picture.height <= MAX_PIXELS
    assert pixels.shape == (3, SIDE, SIDE)


def fuzz_upload(data: bytes) -> None:
    """Any body, in pieces of any size, is pictures within the limits, or an `ApiError`.

    The first byte chooses the content type and the second the size of the pieces.
    """
    kinds = (b"multipart/form-data; boundary=b", b"image/png", b"multipart/form-data; charset=x; boundary=b")
    kind = kinds[data[0] % len(kinds)] if data else kinds[0]
    piece = 1 + (data[1] if len(data) > 1 else 0)
    body = data[2:]
    held = 0

    def take(size: int) -> None:
        nonlocal held
        held += size

    async def upload() -> int:
        request = _request(kind, body, piece)
        if data[:1] and data[0] & 128:
            return sum(map(len, await read_uploads(request, _SETTINGS, take)))
        return len(await read_upload(request, _SETTINGS, take))

    with suppress(ApiError):
        assert _LOOP.run_until_complete(upload()) <= len(body)
    assert held <= LARGEST_BODY


def fuzz_tensors(data: bytes) -> None:
    """Any body of the Open Inference Protocol is what it asks for, or a `BadInference`."""
    length = int.from_bytes(data[:2], "big")
    with suppress(BadInference):
        asked = read(data[2:], length if length % 2 else None, SIDE, 3)
        assert len(asked.files or ()) <= 3


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": fuzz_decoder,
    "upload": fuzz_upload,
    "tensors": fuzz_tensors,
}


def _request(kind: bytes, body: bytes, piece: int) -> Request:
    start = 0

    async def receive() -> Message:
        nonlocal start
        part = body[start : start + piece]
        start += piece
        return {"type": "http.request", "body": part, "more_body": start < len(body)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
    return Request(scope, receive)
