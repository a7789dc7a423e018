"""From a request to the bytes of one picture: a multipart form, or the picture as the body itself.

Limits come before parsing: the announced length, the bytes that really arrive, the memory of all uploads
together, and the time a body may take. Nothing is written to disk. The client's file name and the content
type of a part are not looked at: `app.picture` knows a picture by its bytes.
"""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.refusals import (
    BadMultipart,
    BodyTooLarge,
    BodyTooSlow,
    Busy,
    MissingFile,
    TooManyFiles,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from starlette.requests import Request

    from app.settings import Settings

FIELD = "file"
"""The form's field that holds the picture."""

_RAW = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Content types of a bare body. The last is what ``curl --data-binary`` says of anything."""

MAX_FIELDS = 8  # other fields are ignored, but a form of ten thousand of them is not read
MAX_FIELD_BYTES = 4096


class UploadMemory:
    """The bytes that all uploads may hold together.

    It counts what has arrived, not what is announced, so a client that sends slowly takes little.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes a number of bytes; all are given back at the end.

        Raises:
            Busy: from that function, when the bytes do not fit.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self.used + size > self.limit:
                raise Busy("the uploads that are held already fill their memory")
            self.used += size
            mine += size

        try:
            yield take
        finally:
            self.used -= mine


async def read_upload(request: Request, settings: Settings, take: Callable[[int], None]) -> bytes:
    """The bytes of the one picture in a request; possibly none, which decoding refuses.

    Args:
        request: its body is read to the end, unless an error is raised.
        settings: the limits.
        take: from `UploadMemory.share`; called with the size of each chunk.

    Raises:
        UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Busy, BadMultipart, MissingFile, TooManyFiles:
            as their names say.
        ClientDisconnect: the client left before the end.
    """
    read = _reader(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > settings.max_upload_bytes:
        raise _too_large(settings)
    try:
        async with (
            asyncio.timeout(settings.upload_seconds),
            aclosing(_counted(request, settings, take)) as stream,
        ):
            return await read(request, stream)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {settings.upload_seconds:g} s") from error


def _reader(request: Request) -> Callable[[Request, AsyncGenerator[bytes]], Awaitable[bytes]]:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("a compressed body is not accepted; pictures are compressed already")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _read_form
    if kind in _RAW or kind.startswith("image/"):
        return _read_raw
    raise UnsupportedMediaType("the content type is neither multipart/form-data nor that of a picture")


def _too_large(settings: Settings) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {settings.max_upload_bytes:,} bytes")


async def _counted(
    request: Request, settings: Settings, take: Callable[[int], None]
) -> AsyncGenerator[bytes]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > settings.max_upload_bytes:
            raise _too_large(settings)
        take(len(chunk))
        yield chunk


async def _read_raw(_request: Request, stream: AsyncGenerator[bytes]) -> bytes:
    body = io.BytesIO()
    async for chunk in stream:
        body.write(chunk)
    return body.getvalue()  # shares the buffer: no second copy


async def _read_form(request: Request, stream: AsyncGenerator[bytes]) -> bytes:
    parser = _OnePictureParser(request, stream)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadMultipart(f"the multipart form cannot be read: {error.message}") from error
    try:
        picture = form.get(FIELD)
        if not isinstance(picture, UploadFile):
            raise MissingFile(f"the form has no file in the field `{FIELD}`")
        return await picture.read()
    finally:
        await form.close()


class _OnePictureParser(MultiPartParser):
    """Starlette's parser, which keeps everything in memory and knows a form that was cut off."""

    spool_max_size = sys.maxsize  # never to disk; the stream has its own limit

    def __init__(self, request: Request, stream: AsyncGenerator[bytes]) -> None:
        super().__init__(
            request.headers,
            self._to_the_end(stream),
            max_files=2,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        self._ended = False

    async def _to_the_end(self, stream: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in stream:
            yield chunk
        if not self._ended:  # raised from the stream, so that the parser closes the half-read file
            raise MultiPartException("it ends before its last boundary")

    def on_part_end(self) -> None:
        super().on_part_end()
        if sum(isinstance(value, UploadFile) for _, value in self.items) > 1:
            raise TooManyFiles("the form has more than one file")

    def on_end(self) -> None:
        self._ended = True
