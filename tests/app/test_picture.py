from __future__ import annotations

import importlib
import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from skimage import data as photos

from app.picture import (
    FORMATS,
    BrokenPicture,
    EmptyPicture,
    Picture,
    PictureError,
    TooManyPixels,
    UnsupportedPicture,
    decode,
)
from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain, png_bomb, png_chunk, png_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EXIF_ORIENTATION = 0x0112


def pixel(picture: Picture, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = picture.rgb.getpixel((x, y))
    assert isinstance(value, tuple)
    return tuple(map(int, value))


def near(actual: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(actual, expected, strict=True))


def corners() -> Image.Image:
    """Wider than high, each quarter another colour, so that no turn leaves it the same."""
    image = Image.new("RGB", (64, 32), "white")
    image.paste(RED, (0, 0, 32, 16))
    image.paste(GREEN, (32, 0, 64, 16))
    image.paste(BLUE, (0, 16, 32, 32))
    return image


def as_float(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image).astype(np.float64)


@pytest.mark.parametrize("file_format", FORMATS)
def test_formats(file_format: str) -> None:
    picture = decode(plain(GREEN, (40, 30), file_format))
    assert (picture.format, picture.rgb.mode, picture.width, picture.height) == (file_format, "RGB", 40, 30)
    assert near(pixel(picture), GREEN)


def test_lossless_pixels_are_exact() -> None:
    image = noise((31, 17))
    for data in (encoded(image), encoded(image, "WEBP", lossless=True)):
        assert np.array_equal(np.asarray(decode(data).rgb), np.asarray(image))


# What each orientation says was done to the upright picture before it was stored; decoding undoes it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_out_upright(file_format: str, orientation: int) -> None:
    step = STORED[orientation]
    stored = corners() if step is None else corners().transpose(step)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    picture = decode(encoded(stored, file_format, exif=exif))
    assert (picture.width, picture.height) == (64, 32)
    assert np.abs(as_float(picture.rgb) - as_float(corners())).mean() < 6


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_for_the_network_and_looks_the_same_to_it(orientation: int) -> None:
    coffee = Image.fromarray(photos.coffee())  # type: ignore[no-untyped-call]
    photo = coffee.resize((1200, 960), Image.Resampling.LANCZOS)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    file = encoded(photo, "JPEG", quality=95, exif=exif)
    whole, small = decode(file), decode(file, side=75)
    assert small.rgb.size == ((150, 120) if orientation == 1 else (120, 150))
    assert (small.width, small.height) == (whole.width, whole.height) == whole.rgb.size
    difference = np.abs(whole.as_input(75).astype(float) - small.as_input(75))
    assert difference.mean() < 1
    assert difference.max() < 12


@pytest.mark.parametrize(("side", "width"), [(80, 150), (81, 300), (160, 300), (161, 600)])
def test_a_jpeg_decoded_small_keeps_half_as_many_pixels_again_as_the_network_sees(
    side: int, width: int
) -> None:
    file = encoded(noise((1200, 960)), "JPEG")
    assert decode(file, side=side).rgb.width == width


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_not_much_larger_than_the_input_is_decoded_whole(file_format: str) -> None:
    file = encoded(noise((200, 299)), file_format)
    assert np.array_equal(np.asarray(decode(file).rgb), np.asarray(decode(file, side=150).rgb))


@pytest.mark.parametrize("file_format", FORMATS)
def test_only_exif_turns_a_picture_as_in_a_browser(file_format: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    (text := PngInfo()).add_itxt("XML:com.adobe.xmp", xmp.decode())
    file = encoded(corners(), file_format, **({"pnginfo": text} if file_format == "PNG" else {"xmp": xmp}))
    assert Image.open(io.BytesIO(file)).getexif().get(EXIF_ORIENTATION) == 6, "Pillow itself would turn it"
    assert decode(file).rgb.size == (64, 32)


def test_xmp_does_not_turn_a_jpeg_that_has_exif_and_no_resolution() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = "a camera"
    file = encoded(corners(), "JPEG", exif=exif, xmp=xmp)
    assert b"JFIF\0\1\1\0\0\1\0\1" in file, "with a resolution Pillow looks at no EXIF"
    assert decode(file).rgb.size == (64, 32)


def test_a_resolution_that_is_none_spoils_no_jpeg() -> None:
    turned = struct.pack("<HHIHxx", EXIF_ORIENTATION, 3, 1, 6)
    resolution = struct.pack("<HHI4s", ExifTags.Base.XResolution, 2, 1, b"")  # a text, and an empty one
    unit = struct.pack("<HHIHxx", ExifTags.Base.ResolutionUnit, 3, 1, 2)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 3) + turned + resolution + unit + bytes(4)
    assert decode(encoded(corners(), "JPEG", exif=exif)).rgb.size == (32, 64)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 99
    assert decode(encoded(corners(), "JPEG", exif=exif)).width == 64


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Possibly corrupt EXIF data")
@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(
    "rest", [b"", b"MM\x00*\x00\x00\x00\x08\xff\xff\x00", b"nonsense", b"II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_is_ignored(file_format: str, rest: bytes) -> None:
    assert decode(encoded(corners(), file_format, exif=b"Exif\x00\x00" + rest)).width == 64


def test_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert near(pixel(decode(encoded(image, "JPEG"))), (255, 0, 0), 12)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_greyscale(file_format: str) -> None:
    assert near(pixel(decode(encoded(Image.new("L", (16, 16), 100), file_format))), (100, 100, 100), 1)


def test_one_bit() -> None:
    image = Image.new("1", (16, 16), 1)
    image.putpixel((0, 0), 0)
    picture = decode(encoded(image))
    assert pixel(picture) == (0, 0, 0)
    assert pixel(picture, 5, 5) == (255, 255, 255)


def test_palette() -> None:
    image = Image.new("RGB", (16, 16), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert image.mode == "P"
    assert pixel(decode(encoded(image))) == RED


def test_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((3, 3), 1)
    picture = decode(encoded(image, transparency=0))
    assert pixel(picture) == (255, 255, 255)
    assert pixel(picture, 3, 3) == GREEN


def test_palette_with_partial_transparency_lies_on_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, *GREEN])
    picture = decode(encoded(image, transparency=bytes([128, 255])))
    assert near(pixel(picture), (127, 127, 127), 1)


def test_grey_with_transparent_value_lies_on_white() -> None:
    image = Image.new("L", (16, 16), 7)
    image.putpixel((2, 2), 90)
    picture = decode(encoded(image, transparency=7))
    assert pixel(picture) == (255, 255, 255)
    assert pixel(picture, 2, 2) == (90, 90, 90)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_rgba_lies_on_white(file_format: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (8, 0, 16, 16))
    picture = decode(encoded(image, file_format, **({"lossless": True} if file_format == "WEBP" else {})))
    assert pixel(picture) == (255, 255, 255)
    assert near(pixel(picture, 12, 4), (127, 127, 127), 1)


def test_grey_with_alpha_lies_on_white() -> None:
    image = Image.new("LA", (16, 16), (0, 128))
    assert near(pixel(decode(encoded(image))), (127, 127, 127), 1)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, 0)
    picture = decode(encoded(Image.fromarray(ramp)))
    assert np.array_equal(np.asarray(picture.rgb)[0, :, 0], np.arange(256))


def test_sixteen_bit_grey_with_a_transparent_value_lies_on_white() -> None:
    samples = struct.pack(">4H", 0, 32768, 65535, 40000)
    data = png_file(
        4, 1, depth=16, colour_type=0, rows=b"\0" + samples, extra=png_chunk(b"tRNS", struct.pack(">H", 0))
    )
    picture = decode(data)
    assert pixel(picture, 0) == (255, 255, 255)
    assert near(pixel(picture, 1), (128, 128, 128), 1)


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x1b"), (4, b"\x01\x23")])
def test_a_transparent_value_of_few_bits_lies_on_white(depth: int, row: bytes) -> None:
    data = png_file(
        4, 1, depth=depth, colour_type=0, rows=b"\0" + row, extra=png_chunk(b"tRNS", struct.pack(">H", 1))
    )
    picture = decode(data)
    step = 255 // (2**depth - 1)
    assert [pixel(picture, x)[0] for x in range(2)] == [0, 255]
    assert depth == 1 or [pixel(picture, x)[0] for x in (2, 3)] == [2 * step, 3 * step]


@pytest.mark.parametrize("transparent", [0x8000, 0x0100, 0xFFFF])
def test_a_transparent_value_of_sixteen_bit_rgb_lies_on_white(transparent: int) -> None:
    row = b"".join(struct.pack(">3H", *[value] * 3) for value in (transparent, 0, 0x4000))
    extra = png_chunk(b"tRNS", struct.pack(">3H", *[transparent] * 3))
    picture = decode(png_file(3, 1, depth=16, colour_type=2, rows=b"\0" + row, extra=extra))
    assert [pixel(picture, x)[0] for x in range(3)] == [255, 0, 0x40]


def test_a_profile_and_notes_of_some_megabytes_are_no_damage() -> None:
    notes = png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(bytes(3_000_000)))
    profile = png_chunk(b"iCCP", b"a large one\0\0" + zlib.compress(bytes(3_000_000)))
    data = png_file(1, 1, depth=8, colour_type=2, rows=b"\0" + bytes(RED), extra=notes + profile)
    assert pixel(decode(data)) == RED


def test_sixteen_bit_rgb() -> None:
    samples = struct.pack(">3H", 65535, 32768, 0) * 8
    picture = decode(png_file(8, 2, depth=16, colour_type=2, rows=(b"\0" + samples) * 2))
    assert near(pixel(picture), (255, 128, 0), 1)


def test_sixteen_bit_rgba_lies_on_white() -> None:
    samples = struct.pack(">4H", 0, 0, 0, 32768) * 8
    picture = decode(png_file(8, 2, depth=16, colour_type=6, rows=(b"\0" + samples) * 2))
    assert near(pixel(picture), (127, 127, 127), 1)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50)
    picture = decode(data)
    assert picture.format == file_format
    assert near(pixel(picture), RED)


def test_mpo_is_a_jpeg() -> None:
    twin = Image.new("RGB", (16, 16), BLUE)
    data = encoded(Image.new("RGB", (16, 16), RED), "MPO", save_all=True, append_images=[twin])
    picture = decode(data)
    assert picture.format == "JPEG"
    assert near(pixel(picture), RED)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries have changed places."""
    profile = bytearray(srgb_profile())
    count = struct.unpack_from(">I", profile, 128)[0]
    where = {}
    for index in range(count):
        name, offset, _size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        where[name] = (132 + 12 * index + 4, offset)
    (red_slot, red), (green_slot, green) = where[b"rXYZ"], where[b"gXYZ"]
    struct.pack_into(">I", profile, red_slot, green)
    struct.pack_into(">I", profile, green_slot, red)
    return bytes(profile)


@pytest.mark.parametrize("file_format", FORMATS)
def test_srgb_profile_changes_nothing(file_format: str) -> None:
    image = corners()
    bare = decode(encoded(image, file_format)).rgb
    tagged = decode(encoded(image, file_format, icc_profile=srgb_profile())).rgb
    assert np.abs(as_float(bare) - as_float(tagged)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied(mode: str) -> None:
    image = Image.new("RGB", (16, 16), (255, 0, 0)).convert(mode)
    picture = decode(encoded(image, icc_profile=swapped_profile()))
    assert near(pixel(picture), (0, 255, 0), 8)


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200, srgb_profile()[:150]])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    picture = decode(encoded(Image.new("RGB", (16, 16), RED), icc_profile=profile))
    assert pixel(picture) == RED


def test_a_profile_for_other_colours_is_ignored() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert pixel(decode(encoded(Image.new("RGB", (16, 16), RED), icc_profile=lab))) == RED
    assert near(pixel(decode(encoded(Image.new("L", (16, 16), 50), icc_profile=srgb_profile()))), (50,) * 3)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8, 0.95])
def test_a_truncated_picture_is_broken(file_format: str, kept: float) -> None:
    data = encoded(noise((64, 64)), file_format)
    with pytest.raises(BrokenPicture, match="damaged"):
        decode(data[: int(len(data) * kept)])


@pytest.mark.parametrize("file_format", FORMATS)
def test_no_truncation_escapes_as_another_error(file_format: str) -> None:
    data = encoded(noise((32, 32)), file_format)
    for length in range(0, len(data) - 20, max(1, len(data) // 97)):
        with pytest.raises(PictureError):
            decode(data[:length])


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF; that is not the question here
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_escapes_as_another_error(data: st.DataObject) -> None:
    whole = bytearray(DAMAGED[data.draw(st.sampled_from(FORMATS))])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(whole), max_pixels=100_000)
    except PictureError:
        return
    assert picture.rgb.mode == "RGB"


EXIF = Image.Exif()
EXIF[EXIF_ORIENTATION] = 6
DAMAGED = {each: encoded(noise((24, 16)), each, exif=EXIF, icc_profile=srgb_profile()) for each in FORMATS}


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "TIFF", "PPM", "ICO", "PCX", "EPS"])
def test_other_formats_are_not_opened(file_format: str) -> None:
    importlib.import_module(f"PIL.{file_format.title()}ImagePlugin")  # even where somebody has loaded it
    with pytest.raises(UnsupportedPicture, match="not a JPEG, PNG or WebP"):
        decode(encoded(Image.new("RGB", (16, 16)), file_format))


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\0" * 5000,
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"PK\x03\x04" * 50,
        b"8BPS\0\1" + bytes(60),  # PSD
        b"SIMPLE  =                    T".ljust(2880),  # FITS
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),  # JPEG 2000
        b"\0\0\0\x20ftypavif" + bytes(60),
    ],
)
def test_what_is_no_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedPicture):
        decode(data)


def test_no_bytes() -> None:
    with pytest.raises(EmptyPicture, match="0 bytes"):
        decode(b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (20_000, 4_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    data = png_bomb(*size)
    tracemalloc.start()
    try:
        with pytest.raises(TooManyPixels):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_is_exact() -> None:
    data = plain(size=(50, 40))
    assert decode(data, max_pixels=2000).width == 50
    with pytest.raises(TooManyPixels, match="50 x 40 pixels; at most 1,999"):
        decode(data, max_pixels=1999)


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536)])
def test_the_longest_side_is_what_a_jpeg_can_have(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels, match="at most 65,535 are accepted in a row or column"):
        decode(encoded(Image.new("1", size)))
    within = (min(size[0], 65_535), min(size[1], 65_535))
    assert decode(encoded(Image.new("1", within))).width == within[0]


def test_messages_do_not_tell_of_our_inside() -> None:
    with pytest.raises(PictureError) as caught:
        decode(plain(file_format="JPEG")[:200])
    assert "0x" not in str(caught.value)
    assert "<_io" not in str(caught.value)


def test_as_input() -> None:
    pixels = decode(encoded(corners())).as_input(75)
    assert pixels.shape == (3, 75, 75)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert near(tuple(pixels[:, 5, 5].tolist()), RED)
    assert near(tuple(pixels[:, 5, 70].tolist()), GREEN)
    assert near(tuple(pixels[:, 70, 5].tolist()), BLUE)


@pytest.mark.parametrize(
    "size", [(640, 480), (300, 224), (224, 224), (97, 101), (40, 500), (600, 400), (3000, 90)]
)
def test_as_input_is_what_pillow_makes_of_it_on_every_processor(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Image.fromarray(photos.coffee()).resize(size)  # type: ignore[no-untyped-call]
    picture = Picture(photo, "PNG", *size)
    quick = picture.as_input(224)
    monkeypatch.setattr("app.picture._VECTORS", False)
    slow = picture.as_input(224)
    assert quick.shape == slow.shape == (3, 224, 224)
    assert quick.strides == slow.strides
    assert np.abs(quick.astype(int) - slow).max() <= 1


@pytest.mark.parametrize("size", [(640, 480), (224, 224), (224, 100), (1, 1), (1, 400), (400, 1), (2000, 9)])
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_as_input_starts_no_thread(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(encoded(noise(size)))
    program = """
import os, sys, threading
from pathlib import Path
import torch
from app.picture import decode
torch.set_num_threads(4)
def run():
    before = len(os.listdir("/proc/self/task"))
    decode(Path(sys.argv[1]).read_bytes(), side=224).as_input(224)
    print(len(os.listdir("/proc/self/task")) - before)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "picture.png")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n"


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (2000, 3)])
def test_as_input_of_extreme_shapes(size: tuple[int, int]) -> None:
    assert decode(plain(RED, size)).as_input(75).shape == (3, 75, 75)


def test_metadata_does_not_survive() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    picture = decode(encoded(corners(), "JPEG", exif=exif, comment=b"a comment"))
    assert not picture.rgb.getexif()
    assert b"a c" not in encoded(picture.rgb)


def test_no_profile_survives() -> None:
    for profile in (swapped_profile(), b"nonsense"):
        picture = decode(encoded(corners(), icc_profile=profile))
        assert b"iCCP" not in encoded(picture.rgb)


def test_nothing_loads_the_decoders_of_other_formats() -> None:
    program = (
        "import sys\n"
        "from app.picture import PictureError, decode\n"
        "for data in (b'hello', b'%!PS-Adobe-3.0', b'II*\\x00' + bytes(40), b'GIF89a' + bytes(40)):\n"
        "    try:\n"
        "        decode(data)\n"
        "    except PictureError:\n"
        "        continue\n"
        "    sys.exit('decoded')\n"
        "from PIL import Image\n"
        "print(*sorted(Image.OPEN))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    # Pillow reads EXIF, and an MPO's list of pictures, with its reader of TIFF, which registers itself.
    assert set(found.stdout.split()) <= {"JPEG", "MPO", "PNG", "WEBP", "TIFF"}
