"""JSON that is small as a text and huge once it is understood, in a process with only so much memory."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.api.tensors import MOST_VALUES, MOST_WIDE

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1024 * 1024
ROOM = 96 * MOST_VALUES + 64 * MEBIBYTE
"""What the limits of `app.api.tensors` allow, and the interpreter's own moves."""
TOO_LARGE = "refused: the JSON is too large; send pictures as files, or as binary data"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")

LARGE = 20_000_000
PIXELS = b'{"inputs":[{"name":"pixels","shape":[1,75,75,3],"datatype":"UINT8","data":['

_PROGRAM = """
import resource, sys
from pathlib import Path
from app.api.refusals import BadInference
from app.api.tensors import read
room, *files = sys.argv[1:]
bodies = [Path(file).read_bytes() for file in files]
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(room),) * 2)
for body in bodies:
    try:
        print(read(body, None, 75, 32))
    except BadInference as error:
        print("refused:", error)
    except BaseException as error:
        print("escaped:", type(error).__name__)
"""


def read_within(folder: Path, *bodies: bytes, room: int = ROOM) -> list[str]:
    """What became of each body in a process that may grow by `room` bytes."""
    files = [folder / str(number) for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    command = [sys.executable, "-c", _PROGRAM, str(room), *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()


def repeated(value: bytes, size: int) -> bytes:
    return b",".join([value] * (size // (len(value) + 1)))


VALUES = [b"{}", b"[]", b"1.5", b'"ab"', b'{"a":1}', b"[[]]"]


@pytest.mark.parametrize("where", [b'{"inputs":[%s]}', PIXELS + b"%s]}]}", b'{"x":[%s]}'])
def test_millions_of_values_are_refused_unread(where: bytes, tmp_path: Path) -> None:
    bodies = [where % repeated(value, LARGE) for value in VALUES]
    assert read_within(tmp_path, *bodies, room=16 * MEBIBYTE) == [TOO_LARGE] * len(VALUES)


@pytest.mark.parametrize("where", [b'{"inputs":[%s]}', PIXELS + b"%s]}]}", b'{"inputs":[],"outputs":[%s]}'])
def test_as_many_values_as_may_be_take_no_more_than_is_promised(where: bytes, tmp_path: Path) -> None:
    bodies = []
    for value in VALUES:
        tokens = 1 + sum(map(value.count, (b":", b"[", b"{")))
        bodies.append(where % repeated(value, MOST_VALUES // tokens * (len(value) + 1) - 1000))
    bodies.append(where % repeated('"é\u20ac"'.encode(), MOST_WIDE - 1000))
    found = read_within(tmp_path, *bodies)
    assert len(found) == len(bodies)
    assert all(each.startswith("refused: ") and each != TOO_LARGE for each in found), found


@pytest.mark.parametrize("name", [b"pixels", b"image"])
def test_one_long_text_among_short_ones(name: bytes, tmp_path: Path) -> None:
    data = b'"' + b"A" * MEBIBYTE + b'",' + repeated(b'"A"', 4 * 50_000)
    body = PIXELS.replace(b"pixels", name) + data + b"]}]}"  # as an array of texts, 200 GB
    (found,) = read_within(tmp_path, body)
    assert found.startswith("refused: ")


def test_a_long_text_among_lists_does_not_come_apart(tmp_path: Path) -> None:
    bodies = [PIXELS + first + b',"' + b"a" * LARGE + b'"]}]}' for first in (b"[1]", b"[[1]]", b"[]")]
    found = read_within(tmp_path, *bodies)
    assert all(each.startswith("refused: the data of `pixels` are not") for each in found), found


def test_a_long_text_of_wide_letters(tmp_path: Path) -> None:
    letter, escape = "\U0001f600".encode(), b"\\ud83d\\ude00"
    bodies = [b'{"id":"' + each + b"a" * LARGE + b'"}' for each in (letter, escape)]
    bodies.append((b'{"id":"' + escape + b"a" * (LARGE // 2) + b'"}').decode().encode("utf-16-le"))
    found = read_within(tmp_path, *bodies, room=16 * MEBIBYTE)
    assert found == ["refused: JSON of more than 1,000,000 bytes must be ASCII, without escapes of more"] * 3


@pytest.mark.parametrize("escaped", [rb"\/", rb"\u002b", rb"\u002F"], ids=["PHP", "NET", "other"])
def test_a_long_text_that_escapes_signs_of_base64(tmp_path: Path, escaped: bytes) -> None:
    body = PIXELS.replace(b"pixels", b"image").replace(b"UINT8", b"BYTES").replace(b"1,75,75,3", b"1")
    (found,) = read_within(tmp_path, body + b'"' + (b"QUJD" + 4 * escaped) * 100_000 + b'"]}]}')
    assert found.startswith("Asked(")


def test_too_much_memory_would_be_seen(tmp_path: Path) -> None:
    body = PIXELS + repeated(b"{}", MEBIBYTE) + b"]}]}"
    assert read_within(tmp_path, body, room=MEBIBYTE) == ["escaped: MemoryError"]
