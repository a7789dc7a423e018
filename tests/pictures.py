"""Picture files built by code, whole and hostile."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def plain(
    colour: tuple[int, int, int] = RED, size: tuple[int, int] = (64, 48), file_format: str = "PNG"
) -> bytes:
    """A picture of one colour, as a file."""
    return encoded(Image.new("RGB", size, colour), file_format)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture that compresses badly."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def png_chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_file(
    width: int, height: int, *, depth: int, colour_type: int, rows: bytes, extra: bytes = b""
) -> bytes:
    """A PNG file built by hand, for what Pillow cannot write.

    Args:
        width: in pixels.
        height: in pixels.
        depth: bits of a sample.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        rows: raw bytes of all rows, a zero (no filter) before each.
        extra: chunks to put before the pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def with_tag(profile: bytes, name: bytes, data: bytes) -> bytes:
    """The ICC profile with one tag more, behind those that it has."""
    count = int.from_bytes(profile[128:132])
    end = 132 + 12 * count
    table = b""
    for tag, offset, size in struct.iter_unpack(">4sII", profile[132:end]):
        table += struct.pack(">4sII", tag, offset + 12, size)
    table += struct.pack(">4sII", name, len(profile) + 12, len(data))
    size = struct.pack(">I", len(profile) + 12 + len(data))
    return size + profile[4:128] + struct.pack(">I", count + 1) + table + profile[end:] + data


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A header that announces gigapixels, and next to no data."""
    return png_file(width, height, depth=8, colour_type=2, rows=bytes(1000))
