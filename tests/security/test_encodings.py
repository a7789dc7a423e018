"""One scene in many encodings is one scene; a file that ends early, or has more in it, is never echoed."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as photos

from app.picture import PictureError, decode
from tests.pictures import encoded, png_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

TOLERANCE = 0.01
"""How far a probability may lie from that of the lossless picture."""
LEVELS = 4.0
"""How far the network's input may lie from it, in mean levels of 256."""

SCENE: Image.Image = Image.fromarray(photos.astronaut())  # type: ignore[no-untyped-call]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CANARY = b"CANARY-71c9e0"


def turned(orientation: int, *stored: Image.Transpose) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = SCENE
    for step in stored:
        image = image.transpose(step)
    return encoded(image, "JPEG", quality=95, exif=exif)


def sixteen_bit() -> bytes:
    samples = np.asarray(SCENE).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    return png_file(*SCENE.size, depth=16, colour_type=2, rows=rows)


def frames(file_format: str, **options: object) -> bytes:
    others = [Image.new("RGB", SCENE.size, "black")]
    return encoded(SCENE, file_format, save_all=True, append_images=others, **options)


ENCODINGS: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(SCENE),
    "png rgba": lambda: encoded(SCENE.convert("RGBA")),
    "png palette": lambda: encoded(SCENE.quantize(256)),
    "png 16 bit": sixteen_bit,
    "png profile": lambda: encoded(SCENE, icc_profile=SRGB),
    "png animation": lambda: frames("PNG"),
    "jpeg 95": lambda: encoded(SCENE, "JPEG", quality=95),
    "jpeg 75 4:2:0": lambda: encoded(SCENE, "JPEG", quality=75, subsampling=2),
    "jpeg 4:4:4": lambda: encoded(SCENE, "JPEG", quality=90, subsampling=0),
    "jpeg progressive": lambda: encoded(SCENE, "JPEG", quality=90, progressive=True),
    "jpeg profile": lambda: encoded(SCENE, "JPEG", quality=90, icc_profile=SRGB),
    "jpeg cmyk": lambda: encoded(SCENE.convert("CMYK"), "JPEG", quality=95),
    "jpeg on its side": lambda: turned(6, Image.Transpose.ROTATE_90),
    "jpeg mirrored": lambda: turned(2, Image.Transpose.FLIP_LEFT_RIGHT),
    "mpo": lambda: frames("MPO", quality=95),
    "webp lossless": lambda: encoded(SCENE, "WEBP", lossless=True),
    "webp 90": lambda: encoded(SCENE, "WEBP", quality=90),
    "webp rgba": lambda: encoded(SCENE.convert("RGBA"), "WEBP", lossless=True),
    "webp animation": lambda: frames("WEBP", lossless=True),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_encodings_of_a_scene_agree(client: httpx.Client, encoding: str) -> None:
    assert len(ENCODINGS) >= 16
    data = ENCODINGS[encoding]()
    right = decode(ENCODINGS["png"]()).as_input(299).astype(float)
    assert np.abs(decode(data, side=299).as_input(299) - right).mean() <= LEVELS
    expected = client.post("/predict", content=ENCODINGS["png"]()).json()["distribution"]
    answer = client.post("/predict", content=data)
    assert answer.status_code == 200
    assert answer.json()["distribution"] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    "encoding", ["png", "jpeg 95", "jpeg progressive", "webp 90", "webp lossless", "png animation"]
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of EXIF that ends early
def test_truncated_at_every_percent(encoding: str) -> None:
    small = SCENE.resize((96, 96))
    options = {"progressive": True} if "progressive" in encoding else {}
    kind = encoding.split(maxsplit=1)[0].upper()
    if encoding == "webp lossless":
        options = {"lossless": True}
    data = encoded(small, kind, **options)
    for percent in range(100):
        with pytest.raises(PictureError):
            decode(data[: len(data) * percent // 100], side=75)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("inside.txt", CANARY)
    return buffer.getvalue()


TAILS = {
    "zip": archive(),
    "html": b"<html><script>/*" + CANARY + b"*/</script></html>",
    "php": b"<?php echo '" + CANARY + b"'; ?>",
    "jar": archive() + CANARY,
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_what_follows_a_picture_is_never_echoed(client: httpx.Client, tail: str, file_format: str) -> None:
    data = encoded(SCENE.resize((64, 64)), file_format) + TAILS[tail]
    for path in ("/predict", "/explain", "/explain?view=pair", "/explain?view=sheet"):
        answer = client.post(path, content=data)
        assert answer.status_code == 200
        assert CANARY not in answer.content
        assert answer.headers["content-type"] in {"application/json", "image/png"}
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "head",
    [b"GIF89a/*", b"%PDF-1.4\n", b"PK\x03\x04", b"<!doctype html>", b"#!/bin/sh\n", b"%!PS-Adobe-3.0\n"],
)
def test_what_begins_as_something_else_is_no_picture(client: httpx.Client, head: bytes) -> None:
    answer = client.post(
        "/predict", content=head + encoded(SCENE.resize((64, 64))), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 415
