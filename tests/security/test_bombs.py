"""Pictures that are small as files and huge as pictures, in a process that may have only so much memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app.picture import BrokenPicture, decode
from tests.app.test_picture import near, pixel, swapped_profile
from tests.pictures import encoded, noise, png_bomb, png_chunk, png_file, with_tag

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")

MEBIBYTE = 1024 * 1024
LIMIT = 4_000_000
PROMISED = 14 * LIMIT
"""Bytes that decoding a picture of `LIMIT` pixels may take, by the settings' own description."""
ROOM = 48 * MEBIBYTE
"""For the interpreter's own moves: arenas, and libraries that are loaded late."""

_PROGRAM = """
import resource, sys
from pathlib import Path
from app.picture import decode
decode(Path(sys.argv[1]).read_bytes(), side=75)  # loads what is loaded late
data = Path(sys.argv[2]).read_bytes()
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[4]),) * 2)
try:
    picture = decode(data, max_pixels=int(sys.argv[3]), side=75)
    print("decoded", picture.width, picture.height, picture.as_input(75).shape)
except Exception as error:
    print(type(error).__name__)
except BaseException as error:
    print("escaped:", type(error).__name__)
"""


def decoded_within(data: bytes, folder: Path, *, room: int, limit: int = LIMIT) -> str:
    """What became of a picture in a process that may grow by `room` bytes."""
    (folder / "small").write_bytes(encoded(noise((100, 80)), "PNG"))
    (folder / "picture").write_bytes(data)
    arguments = [str(folder / "small"), str(folder / "picture"), str(limit), str(room)]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip()


def real_bomb(side: int) -> bytes:
    """A PNG that keeps what its header says: `side` squared white points, a thousandth as a file."""
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row * 256) for _ in range(side // 256 + 1)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_that_announces(width: int, height: int) -> bytes:
    data = bytearray(encoded(noise((16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_that_announces(width: int, height: int) -> bytes:
    """The extended form, which has room for 2^24 on each side."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS = {
    "png 16383": lambda: real_bomb(16_383),
    "png 16384": lambda: real_bomb(16_384),
    "png 10 gigapixels": lambda: png_bomb(100_000, 100_000),
    "png 2^31": lambda: png_bomb(2**31 - 1, 2**31 - 1),
    "png of one row": lambda: encoded(Image.new("1", (49_000_000, 1))),
    "png of one column": lambda: encoded(Image.new("1", (1, 10_000_000))),
    "jpeg 65535": lambda: jpeg_that_announces(65_535, 65_535),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_no_memory(bomb: str, tmp_path: Path) -> None:
    data = BOMBS[bomb]()
    assert len(data) < MEBIBYTE
    assert decoded_within(data, tmp_path, room=ROOM) == "TooManyPixels"


def test_a_webp_that_lies_about_its_size(tmp_path: Path) -> None:
    for side in (16_384, 2**24):
        data = webp_that_announces(side, side)
        refused = decoded_within(data, tmp_path, room=ROOM)
        assert refused in {"TooManyPixels", "BrokenPicture", "UnsupportedPicture"}


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_a_compressed_chunk_that_swells(name: bytes, tmp_path: Path) -> None:
    swollen = name + b"\0\0" + zlib.compress(bytes(400 * MEBIBYTE), 9)
    data = png_file(
        8, 8, depth=8, colour_type=0, rows=bytes(72), extra=png_chunk(name, swollen.replace(name, b"a", 1))
    )
    assert len(data) < MEBIBYTE
    assert decoded_within(data, tmp_path, room=ROOM).startswith(("BrokenPicture", "decoded"))


def with_pieces(file_format: str, piece: bytes) -> bytes:
    """A picture of 20 MB, of which almost all are small pieces before its pixels."""
    whole = encoded(noise((16, 16)), file_format)
    head = {"JPEG": 2, "PNG": 33}[file_format]
    return whole[:head] + piece * (20_000_000 // len(piece)) + whole[head:]


def with_scans(number: int, side: int = 7000) -> bytes:
    """`side` squared points of one grey, refined again and again by scans of a few bytes each."""
    whole = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * (number - whole.count(b"\xff\xda\0\x08")) + whole[-2:]


PIECES = {
    "png chunks": lambda: with_pieces("PNG", png_chunk(b"abCd", b"")),
    "png texts": lambda: with_pieces("PNG", png_chunk(b"tEXt", b"a\0b")),
    "jpeg comments": lambda: with_pieces("JPEG", b"\xff\xfe\0\2"),
    "jpeg exif": lambda: with_pieces("JPEG", b"\xff\xe1\0\x0aExif\0\0xx"),
    "jpeg filling": lambda: with_pieces("JPEG", b"\xff"),
    "jpeg scans": lambda: with_scans(20_000),
}


@pytest.mark.parametrize("pieces", PIECES)
def test_a_picture_in_millions_of_pieces_takes_no_time(pieces: str) -> None:
    data = PIECES[pieces]()
    began = time.thread_time()
    with pytest.raises(BrokenPicture, match=r"too many pieces|more than 40 scans"):
        decode(data, side=75)
    assert time.thread_time() - began < 3  # jpeg exif and jpeg scans would take more than a minute


def test_a_picture_in_many_pieces_is_read() -> None:
    small = encoded(noise((16, 16)))
    assert decode(small[:33] + png_chunk(b"tEXt", b"a\0b") * 10_000 + small[33:]).width == 16


@pytest.mark.parametrize(("side", "most"), [(7000, 40), (1000, 500)])
def test_the_larger_a_jpeg_the_fewer_scans_it_may_have(side: int, most: int) -> None:
    assert decode(with_scans(most, side), side=75).width == side
    with pytest.raises(BrokenPicture, match=f"of {side} x {side} pixels has more than {most} scans"):
        decode(with_scans(most + 1, side), side=75)


def test_what_a_film_behind_a_jpeg_has_by_chance_is_no_scan() -> None:
    film = np.random.default_rng(0).bytes(19_000_000)
    assert film.count(b"\xff\xda") > 200
    assert decode(encoded(Image.new("L", (7000, 7000)), "JPEG") + film, side=75).width == 7000


def steps_to_black(number: int) -> bytes:
    """The data of an ICC tag that makes every colour black, in as many steps, which are one and the same."""
    step = b"matf" + bytes(4) + struct.pack(">HH", 3, 3) + bytes(4 * 12)
    head = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, number)
    return head + struct.pack(">II", 16 + 8 * number, len(step)) * number + step


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("steps", [1, 3000])
def test_a_profile_is_used_without_its_list_of_steps(file_format: str, steps: int) -> None:
    profile = with_tag(swapped_profile(), b"D2B0", steps_to_black(steps))
    data = encoded(Image.new("RGB", (16, 16), "red"), file_format, icc_profile=profile)
    assert near(pixel(decode(data)), (0, 255, 0), 12)  # the other tags exchange red and green


def test_thousands_of_mistakes_in_exif_are_no_lines_of_the_log(tmp_path: Path) -> None:
    entries = b"".join(struct.pack("<HHII", tag, 7, 4_000_000, 8) for tag in range(1, 4000))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 3999) + entries + bytes(4)
    (tmp_path / "picture").write_bytes(encoded(noise((16, 16)), "PNG", exif=exif))
    program = "import sys; from pathlib import Path; from app.picture import decode; "
    program += "print(decode(Path(sys.argv[1]).read_bytes()).width)"
    command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "picture")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("16\n", "")


@pytest.mark.parametrize("file_format", ["WEBP", "PNG"])
def test_of_an_animation_of_a_thousand_frames_one_is_decoded(file_format: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (300, 300), colour) for colour in ("red", "blue")] * 500
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=10)
    assert Image.open(io.BytesIO(data)).n_frames == 1000  # type: ignore[attr-defined] # of these formats it has
    assert decoded_within(data, tmp_path, room=ROOM).startswith("decoded 300 300")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L"])
def test_the_largest_picture_takes_no_more_than_is_promised(
    file_format: str, mode: str, tmp_path: Path
) -> None:
    if (file_format, mode) in {("JPEG", "RGBA"), ("PNG", "CMYK"), ("WEBP", "CMYK")}:
        pytest.skip("the format has no such pictures")
    exif = Image.Exif()
    exif[0x0112] = 6  # turning makes a copy
    picture = Image.new(mode, (2500, 1600))
    data = encoded(picture, file_format, exif=exif)
    assert decoded_within(data, tmp_path, room=PROMISED + ROOM).startswith("decoded 1600 2500")


def test_too_little_memory_is_an_error_and_no_death(tmp_path: Path) -> None:
    data = encoded(Image.new("RGBA", (6000, 6000)), "PNG")
    assert decoded_within(data, tmp_path, room=64 * MEBIBYTE, limit=50_000_000) == "MemoryError"
