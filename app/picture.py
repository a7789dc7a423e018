"""From the bytes that somebody sent to an upright sRGB picture, and from there to the network's input.

Every limit on a picture lives here. The header is checked before any pixel is decoded, and nothing but
JPEG, PNG and WebP is ever opened. Training decodes with these same lines, so a picture is scored in an
evaluation exactly as it is served.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import (
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from torch.nn import functional

from app.colours import to_srgb

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
"""Largest picture that is decoded by default; imgproxy's default too."""
DECODING_BYTES = 14
"""That a pixel may take while it is decoded: Pillow spends four, and turning and blending need copies."""

MOST_READS = 100_000
"""How often Pillow may ask for more of a file, which it does for each of its pieces: 20 MB can hold millions
of empty ones, and the time for a JPEG's EXIF grows with the square of their number. A PNG of 20 MB in the
usual pieces of 8 kB takes it eight thousand."""
LONGEST_SIDE = 65_535
"""Pixels, which is all that a JPEG can have. Each row takes memory of its own, and each row or column of what
is drawn on it 48 bytes: a line of fifty million pixels, ten kilobytes as a PNG, would take gigabytes."""
MOST_SCANS = 500
"""Times that a progressive JPEG may refine its pixels; ten are usual."""
MOST_SCANNED = 2_000_000_000
"""Pixels of all scans together, which is forty scans of fifty megapixels. libjpeg goes through all pixels in
each scan, for which thirty bytes are enough, and takes up to 0.7 ms for a million."""
_SCAN = re.compile(rb"\xff\xda\0(?:\x06\0|\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""How a scan begins: its marker, a length, and the number of components, to which the length must fit. A film
of 20 MB behind the picture has three hundred such markers by chance, and none with the rest."""

Pixels = NDArray[np.uint8]

# Pillow's own ceiling for decompression bombs is a warning by default. Ours is lower and an error.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# EXIF is used where it can be read. One file can hold thousands of mistakes, each a line of the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# Bytes that none of the loaded decoders knows would make Pillow load all it has, EPS and its Ghostscript
# among them, even though `FORMATS` forbids their use. It is told that it has done so.
_DECODERS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
Image._initialized = 2  # noqa: SLF001 - there is no public way

# It would ask EXIF for the resolution, which nobody here needs. That fixes what a picture's EXIF says before
# `_turn` can say what it may, and where the resolution is nonsense, the file is none of Pillow's any more.
setattr(JpegImagePlugin.JpegImageFile, "_read_dpi_from_exif", lambda _image: None)  # noqa: B010
# A profile of colours, or what a program has written about its work, may well be larger than Pillow's 1 MiB.
# All text together keeps Pillow's limit.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 1024**2

_LEVELS = {"L;2": 85, "L;4": 17}
"""By which Pillow multiplies a PNG's samples of two and four bits."""
_EXIF_ORIENTATION = 0x0112
_TURNS = {  # what makes a picture with this EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))
GAP = 1.5
"""A JPEG decoded small has at least so many pixels for each of the input's, so that the last step, which is
filtered, decides what the network sees. `bench.reduced` measures what that costs and saves."""
_REDUCED = 3
"""Of a picture more than twice so many times larger than the input, Pillow first takes means of blocks."""
_VECTORS = torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}
"""Whether torch stretches bytes by this processor's vector instructions, in a third of Pillow's time and on
one thread. Without them it is no faster, and takes threads that the network needs."""


class PictureError(Exception):
    """The bytes cannot be used as a picture; the message says why."""


class EmptyPicture(PictureError):
    """There are no bytes."""


class UnsupportedPicture(PictureError):
    """The bytes are not one of the formats that are read."""


class TooManyPixels(PictureError):
    """The header announces more pixels than are accepted."""


class BrokenPicture(PictureError):
    """The header is that of a picture, but its pixels cannot be decoded."""


class _File(io.BytesIO):
    """A file that can be read so many times and no more."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            OSError: it has been read too often.
        """
        self._reads += 1
        if self._reads > MOST_READS:
            raise OSError("it is in too many pieces")
        return super().read(size)


@dataclass(frozen=True)
class Picture:
    """An upright, opaque sRGB picture.

    Attributes:
        rgb: Pillow picture in mode ``RGB``, turned as its EXIF orientation says, without any metadata.
        format: the format of the bytes, one of `FORMATS`.
        width: of the file's picture in pixels, after turning; `rgb` may have been decoded smaller.
        height: likewise.
    """

    rgb: Image.Image
    format: str
    width: int
    height: int

    def as_input(self, side: int) -> Pixels:
        """The picture stretched to the network's input, ``uint8 [3, side, side]``.

        Stretching keeps the whole picture, so a heat map drawn back covers all of it.
        """
        size = (side, side)
        if _VECTORS and self.rgb.size != size and max(self.rgb.size) < 2 * _REDUCED * side:
            return _stretched(self.rgb, size)
        small = self.rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=_REDUCED)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))

    def within(self, side: int) -> Picture:
        """The picture itself, or a copy reduced so that neither side is longer."""
        scale = side / max(self.rgb.size)
        if scale >= 1:
            return self
        size = (max(1, round(self.rgb.width * scale)), max(1, round(self.rgb.height * scale)))
        return replace(self, rgb=self.rgb.resize(size))


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Picture:
    """Decode bytes into an upright sRGB picture; of an animation, the first frame.

    Args:
        data: a whole JPEG, PNG or WebP file.
        max_pixels: refuse a picture whose header announces more.
        side: of the network's input, when that is all that the picture is for: a JPEG more than `GAP`
            times larger is then decoded at a half, a quarter or an eighth of its size, for less work.

    Raises:
        EmptyPicture: no bytes.
        UnsupportedPicture: another format, or no picture at all.
        TooManyPixels: width times height exceeds `max_pixels`, or one of them `LONGEST_SIDE`.
        BrokenPicture: truncated or damaged, or a JPEG of too many scans for its size.
        MemoryError: its pixels do not fit in memory.
    """
    if not data:
        raise EmptyPicture("the picture is empty (0 bytes)")
    try:
        image = Image.open(_File(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise TooManyPixels(f"the picture has more than {max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise UnsupportedPicture("the bytes are not a JPEG, PNG or WebP picture") from error
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenPicture(f"the header of the picture is damaged: {error}") from error
    with image:
        file_format = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with a twin
        _check_size(image.width, image.height, max_pixels)
        if file_format == "JPEG":
            _check_scans(data, image.width, image.height)
        try:
            stored = image.size
            _load(image, len(data), side)
            turn = _turn(image)
            rgb = to_srgb(image if turn is None else image.transpose(turn))
            rgb.info = {}  # else a heat map drawn on it would carry the camera's profile and place
            width, height = stored[::-1] if turn in _SWAPS_SIDES else stored
            return Picture(rgb, file_format, width, height)
        except MemoryError:
            raise
        except Exception as error:
            raise BrokenPicture(f"the {file_format} picture is truncated or damaged: {error}") from error


def _stretched(rgb: Image.Image, size: tuple[int, int]) -> Pixels:
    """What Pillow's bilinear filter makes of it, but for one level of 256 here and there.

    Not for a picture that has this size: torch would copy it, with all its threads.
    """
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    small = functional.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]
    return np.ascontiguousarray(small.numpy())


def _load(image: ImageFile.ImageFile, size: int, side: int | None) -> None:
    """Decode the pixels of a file of so many bytes; a JPEG is read in one piece, not in a hundred."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.decodermaxblock = max(image.decodermaxblock, size)
        if side is not None:
            least = math.ceil(GAP * side)
            image.draft(None, (least, least))
    _scale_transparency(image)
    image.load()


def _scale_transparency(image: ImageFile.ImageFile) -> None:
    """Samples come in eight bits, and a PNG's transparent colour as the file has it: make it fit them."""
    raw = image.tile[0].args if image.tile else None
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and raw in _LEVELS:
        image.info["transparency"] = transparent * _LEVELS[raw] % 256
    elif isinstance(transparent, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(f"the picture has {width} x {height} pixels; at most {max_pixels:,} are accepted")
    if max(width, height) > LONGEST_SIDE:
        raise TooManyPixels(
            f"the picture has {width} x {height} pixels; "
            f"at most {LONGEST_SIDE:,} are accepted in a row or column"
        )


def _check_scans(data: bytes, width: int, height: int) -> None:
    """Those of a JPEG, counted wherever they may be in the file, so never fewer than libjpeg finds."""
    most = min(MOST_SCANS, MOST_SCANNED // max(1, width * height))
    if sum(1 for _ in islice(_SCAN.finditer(data), most + 1)) > most:
        raise BrokenPicture(f"the JPEG picture of {width} x {height} pixels has more than {most} scans")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What EXIF says. EXIF that cannot be read is ignored, as browsers do; the pixels may be fine."""
    for name in ("xmp", "XML:com.adobe.xmp"):  # where Pillow, unlike browsers, looks if EXIF does not say
        image.info.pop(name, None)
    try:
        return _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a parser may raise anything on hostile bytes
        return None
