"""Where the fuzzer begins: small pictures of every kind that is read, and well-formed bodies."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
from PIL import Image, ImageCms

from tests.pictures import encoded, noise, png_chunk, png_file

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    b"%s\r\n--b--\r\n"
)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def pictures() -> list[bytes]:
    """Some of each format, mode and piece of metadata."""
    scene = noise((24, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = [encoded(scene, name, exif=exif, icc_profile=profile) for name in ("JPEG", "PNG", "WEBP")]
    found += [encoded(scene.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA")]
    found += [encoded(scene.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    found += [encoded(scene, "JPEG", progressive=True), encoded(scene.convert("RGBA"), "WEBP", lossless=True)]
    found += [
        encoded(scene, name, save_all=True, append_images=[scene.rotate(180)]) for name in ("PNG", "WEBP")
    ]
    found.append(encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))))
    found.append(png_file(4, 1, depth=16, colour_type=0, rows=bytes(9), extra=png_chunk(b"tRNS", b"\0\0")))
    found.append(encoded(scene, "MPO", save_all=True, append_images=[scene]))
    return found


def bodies() -> list[bytes]:
    """Forms and bare pictures, in pieces of several sizes."""
    form = FORM % b"picture"
    return [bytes([kind, piece]) + form for kind in (0, 1, 2, 129) for piece in (0, 7, 255)]


def requests() -> list[bytes]:
    """Requests of the Open Inference Protocol in both forms."""
    picture = base64.b64encode(b"picture").decode()
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [picture]}
    pixels = {"name": "pixels", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": [0] * 3072}
    binary = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 11}}
    heads = [json.dumps({"id": "1", "inputs": [each]}).encode() for each in (image, pixels, binary)]
    tail = (7).to_bytes(4, "little") + b"picture"
    return [b"\0\0" + heads[0], b"\0\0" + heads[1], *(_odd(head, tail) for head in (heads[2],))]


def _odd(head: bytes, tail: bytes) -> bytes:
    """A binary request: its first two bytes are the head's length, which the target takes when it is odd."""
    padded = head if len(head) % 2 else head + b" "
    return len(padded).to_bytes(2, "big") + padded + tail


SEEDS = {"decoder": pictures, "upload": bodies, "tensors": requests}


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that their contents need, or else nothing gets past them."""
    if not data.startswith(_SIGNATURE):
        return data
    made = bytearray(_SIGNATURE)
    start = len(_SIGNATURE)
    while start + 12 <= len(data):
        length = min(int.from_bytes(data[start : start + 4], "big"), len(data) - start - 12)
        content = data[start + 4 : start + 8 + length]
        made += length.to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
        start += 12 + length
    return bytes(made)
