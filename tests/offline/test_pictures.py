from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from app.api.errors import kind_of
from app.offline.pictures import LARGEST_FILE, Ready, Refused, prepare, read_file, refusal
from app.picture import BrokenPicture, EmptyPicture, PictureError, TooManyPixels, UnsupportedPicture, decode
from tests.pictures import encoded, noise

if TYPE_CHECKING:
    from pathlib import Path

SIDE, MOST = 75, 10_000


def test_a_picture_is_decoded_as_the_service_does(tmp_path: Path) -> None:
    data = encoded(noise((90, 70)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    ready = prepare(str(tmp_path / "a.jpg"), SIDE, MOST)
    assert isinstance(ready, Ready)
    assert (ready.width, ready.height, ready.format) == (90, 70, "JPEG")
    assert (ready.pixels == decode(data, side=SIDE).as_input(SIDE)).all()


@pytest.mark.parametrize("error", [EmptyPicture, UnsupportedPicture, TooManyPixels, BrokenPicture])
def test_problems_have_the_names_that_the_service_gives_them(error: type[PictureError]) -> None:
    assert refusal("a", error("why")) == Refused("a", kind_of(error).slug, "why")


def test_so_has_a_lack_of_memory() -> None:
    assert refusal("a", MemoryError()).problem == kind_of(MemoryError).slug


def test_what_is_no_picture_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise((101, 100))))
    refused = prepare(str(tmp_path / "a.png"), SIDE, MOST)
    assert isinstance(refused, Refused)
    assert refused.problem == "too-many-pixels"


def test_files_that_would_block_or_fill_the_memory_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)  # takes no room on the disk
    for name, words in (("pipe.jpg", "ordinary"), ("huge.jpg", "bytes"), ("", "folder"), ("\0", "null")):
        refused = prepare(f"{tmp_path}/{name}", SIDE, MOST)
        assert isinstance(refused, Refused)
        assert refused.problem == "unusable-file"
        assert words in refused.detail


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused = prepare(str(tmp_path / "none"), SIDE, MOST)
    assert refused == Refused(str(tmp_path / "none"), "unreadable-file", "No such file or directory")
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "none"))
