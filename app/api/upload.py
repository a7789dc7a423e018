"""From a request to the bytes of its pictures: a multipart form, or one picture as the body itself.

Limits come before parsing: the announced length, the bytes that really arrive, the memory of all uploads
together, and the time a body may take. Nothing is written to disk. The client's file name and the content
type of a part are not looked at: `app.picture` knows a picture by its bytes.
"""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
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

T = TypeVar("T")

FIELD = "file"
"""The form's field that holds the picture."""

_RAW = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Content types of a bare body. The last is what ``curl --data-binary`` says of anything."""

MAX_FIELDS = 8  # other fields are ignored, but a form of ten thousand of them is not read
MAX_FIELD_BYTES = 4096
SMALL_BODY = 64 * 1024
"""Bytes of a body that is no upload."""


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
    read = _read_one if _is_form(request) else _read_raw
    return await _in_time(request, settings, take, settings.max_upload_bytes, read)


async def read_uploads(request: Request, settings: Settings, take: Callable[[int], None]) -> list[bytes]:
    """The bytes of each picture in a form, in the order of the form.

    Takes and raises what `read_upload` does, and UnsupportedMediaType for anything but a form.
    """
    if not _is_form(request):
        raise UnsupportedMediaType(
            "this path takes multipart/form-data alone; a picture as the body itself goes to /predict"
        )
    read = partial(_read_many, most=settings.max_files)
    return await _in_time(request, settings, take, settings.max_batch_bytes, read)


async def read_body(request: Request, settings: Settings, take: Callable[[int], None]) -> bytes:
    """A body that is no form and no picture, within the limits of a batch; raises what `read_upload` does."""
    _check_plain(request)
    return await _in_time(request, settings, take, settings.max_batch_bytes, _read_raw)


async def read_small(request: Request, settings: Settings) -> bytes:
    """A body that is no upload.

    FastAPI would read one of any length, and before it asks whether the client may send it.

    Raises:
        BodyTooLarge, BodyTooSlow: as their names say.
        ClientDisconnect: the client left before the end.
    """
    return await _in_time(request, settings, lambda _size: None, SMALL_BODY, _read_raw)


async def _in_time(
    request: Request,
    settings: Settings,
    take: Callable[[int], None],
    most: int,
    read: Callable[[Request, AsyncGenerator[bytes]], Awaitable[T]],
) -> T:
    """What `read` makes of the body, within the limits."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(settings.upload_seconds), aclosing(_counted(request, most, take)) as body:
            return await read(request, body)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {settings.upload_seconds:g} s") from error


def _is_form(request: Request) -> bool:
    """Whether the body is a form; otherwise it is a bare picture."""
    _check_plain(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return True
    if kind in _RAW or kind.startswith("image/"):
        return False
    raise UnsupportedMediaType("the content type is neither multipart/form-data nor that of a picture")


def _check_plain(request: Request) -> None:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("a compressed body is not accepted; pictures are compressed already")


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {most:,} bytes")


async def _counted(request: Request, most: int, take: Callable[[int], None]) -> AsyncGenerator[bytes]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most:
            raise _too_large(most)
        take(len(chunk))
        yield chunk


async def _read_raw(_request: Request, stream: AsyncGenerator[bytes]) -> bytes:
    body = io.BytesIO()
    async for chunk in stream:
        body.write(chunk)
    return body.getvalue()  # shares the buffer: no second copy


async def _read_one(request: Request, stream: AsyncGenerator[bytes]) -> bytes:
    return (await _read_many(request, stream, most=1))[0]


async def _read_many(request: Request, stream: AsyncGenerator[bytes], *, most: int) -> list[bytes]:
    parser = _PictureParser(request, stream, most)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadMultipart(f"the multipart form cannot be read: {error.message}") from error
    try:
        pictures = [part for part in form.getlist(FIELD) if isinstance(part, UploadFile)]
        if not pictures:
            without = ": what it has there has no filename, and so is no file" if form.getlist(FIELD) else ""
            raise MissingFile(f"the form has no file in the field `{FIELD}`{without}")
        read = []
        for picture in pictures:
            read.append(cast("_Held", picture.file).getvalue())
            await picture.close()
        return read
    finally:
        await form.close()


def _boundary_alone(request: Request) -> Headers:
    """The content type of a form with no parameter but its boundary.

    Starlette would look a `charset` up among Python's codecs, which remember for ever each name that they do
    not know, and which raise what is no LookupError for some that they do. A form has none (RFC 7578, 4.6).
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    if b"boundary" not in parameters:
        raise BadMultipart("the multipart form cannot be read: its content type has no boundary")
    boundary = parameters[b"boundary"].decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})


class _Held(io.BytesIO):
    """A file of a form, which gives its bytes without copying them."""

    _rolled = False  # by this name Starlette asks a file whether it is on the disk


class _PictureParser(MultiPartParser):
    """Starlette's parser, which keeps everything in memory and knows a form that was cut off."""

    spool_max_size = sys.maxsize  # never to disk; the stream has its own limit

    def __init__(self, request: Request, stream: AsyncGenerator[bytes], most: int) -> None:
        super().__init__(
            _boundary_alone(request),
            self._to_the_end(stream),
            max_files=most + 1,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        self._most = most
        self._ended = False

    async def _to_the_end(self, stream: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in stream:
            yield chunk
        if not self._ended:  # raised from the stream, so that the parser closes the half-read file
            raise MultiPartException("it ends before its last boundary")

    def on_headers_finished(self) -> None:
        """A part begins."""
        super().on_headers_finished()
        if (file := self._current_part.file) is not None:
            file.file.close()
            file.file = _Held()

    def on_part_end(self) -> None:
        super().on_part_end()
        if sum(isinstance(value, UploadFile) for _, value in self.items) > self._most:
            files = "one file" if self._most == 1 else f"{self._most} files"
            raise TooManyFiles(f"the form has more than {files}")

    def on_end(self) -> None:
        self._ended = True
