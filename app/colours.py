"""The colours of a picture, whatever its file says of them, as opaque sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_TAGS = 132
"""Where an ICC profile lists its tags, 12 bytes each; their number is in the four bytes before."""


def to_srgb(image: Image.Image) -> Image.Image:
    """Any mode that the three formats can have, as opaque sRGB on white."""
    if image.mode in _SIXTEEN_BIT:  # Pillow's own conversion clips at 255 instead of scaling
        return _to_eight_bit(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode not in {"L", "RGB", "CMYK"}:  # 1-bit, palette, YCbCr
        image = _keep_profile(image, image.convert("RGB"))
    image = _apply_profile(image)
    return _plain(image) if image.mode == "RGB" else image.convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """The same pixels without the file that they come from: `convert` would copy all of them."""
    return Image.Image()._new(image.im)  # noqa: SLF001 - there is no public way


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Sixteen-bit grey as RGB, rounded to the nearest of 256 levels; the transparent value, if any, white."""
    samples = np.asarray(image).clip(0, 65535)
    grey = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    opaque = _apply_profile(_keep_profile(image, rgba.convert("RGB")))
    white = Image.new("RGB", rgba.size, "white")
    white.paste(opaque, mask=rgba.getchannel("A"))
    return white


def _keep_profile(source: Image.Image, converted: Image.Image) -> Image.Image:
    if "icc_profile" in source.info:
        converted.info["icc_profile"] = source.info["icc_profile"]
    return converted


def _apply_profile(image: Image.Image) -> Image.Image:
    """Colours in sRGB. A profile that cannot be used is ignored, as browsers do."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(_without_elements(profile)))
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


def _without_elements(profile: bytes) -> bytes:
    """The profile with its tags D2B0 to D2B3 renamed, so that LittleCMS takes what it has beside them.

    They are lists of elements to be applied one after the other. Eight bytes are enough for one, because all
    may be the same, and LittleCMS takes minutes for a megabyte of them. Every other kind of tag has a fixed
    number of steps, and tables no larger than itself. Browsers use those others alone, which no profile may
    lack, so the colours are those that people see.
    """
    end = _TAGS + 12 * int.from_bytes(profile[_TAGS - 4 : _TAGS])
    return profile[:end].replace(b"D2B", b"\0\0\0") + profile[end:]
