"""What the client takes for a picture."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

Picture: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, the bytes of a file, or a file that is open for reading bytes."""

Given = TypeVar("Given", bound=Picture)


async def bytes_of(picture: Picture) -> bytes:
    """The bytes to send; they are held, because a request may have to be sent again.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        try:
            return await asyncio.to_thread(Path(picture).read_bytes)
        except ValueError as error:  # a null byte, which no file's name has
            raise OSError(errno.EINVAL, str(error), os.fspath(picture)) from error
    data: object = await asyncio.to_thread(picture.read)
    if not isinstance(data, bytes):
        raise TypeError("the picture's file must be open for reading bytes, as in open(path, 'rb')")
    return data


async def each(pictures: Iterable[Given] | AsyncIterable[Given]) -> AsyncIterator[Given]:
    """The pictures of either kind of iterable."""
    if isinstance(pictures, AsyncIterable):
        async for picture in pictures:
            yield picture
    else:
        for picture in pictures:
            yield picture
