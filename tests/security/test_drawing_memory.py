"""A heat map on a large picture is drawn in no more memory than is promised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.doctor import DRAWING_BYTES
from app.explain.views import VIEWS
from tests.security.test_bombs import ROOM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")

SIZE = (4000, 3000)

_PROGRAM = """
import resource, sys
from pathlib import Path
from PIL import Image
from app.explain.heatmap import to_png
from app.explain.views import Style, draw
from app.picture import Picture
from tests.explain.test_heatmap import explanation, spots
from tests.pictures import noise
view, legend, room, width, height = sys.argv[1], sys.argv[2] == "True", *map(int, sys.argv[3:])
def draw_it(pixels, *size):
    def picture():
        return Picture(Image.frombytes("RGB", size, pixels), "PNG", *size)
    style = Style(legend=legend)
    return to_png(draw(picture(), [explanation(spots())], ["joy", "fear"], view, style), {})
draw_it(noise((100, 80)).tobytes(), 100, 80)  # loads what is loaded late
pixels = noise((width, height)).tobytes()
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + room,) * 2)
print(len(draw_it(pixels, width, height)))
"""


@pytest.mark.parametrize("legend", [False, True])
@pytest.mark.parametrize("view", [view for view in VIEWS if view != "sheet"])
def test_the_largest_picture_is_drawn_on_in_no_more_than_is_promised(view: str, legend: bool) -> None:
    room = DRAWING_BYTES * SIZE[0] * SIZE[1] + ROOM
    arguments = [view, str(legend), *map(str, (room, *SIZE))]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], check=True, capture_output=True, text=True, timeout=120
    )
    assert int(done.stdout) > 10_000
