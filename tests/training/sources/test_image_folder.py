from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.drawing import draw
from training.affective_set import DataError
from training.sources import SourceOptions, load

if TYPE_CHECKING:
    from pathlib import Path


def test_one_folder_a_label_at_any_depth(tmp_path: Path) -> None:
    wanted = [
        draw(tmp_path / "awe" / "b.JPG", 0),
        draw(tmp_path / "awe" / "deep" / "a.webp", 1),
        draw(tmp_path / "joy" / "a.png", 2),
    ]
    draw(tmp_path / "joy" / "a.gif", 3)
    draw(tmp_path / "joy" / ".thumbnails" / "a.png", 4)
    draw(tmp_path / "joy" / "._a.png", 5)
    draw(tmp_path / ".cache" / "a.png", 6)
    draw(tmp_path / "loose.png", 7)
    found = load("image_folder", tmp_path, SourceOptions(terms="mine", citation="me"))
    assert found.labels == ("awe", "joy")
    assert list(found.pictures) == wanted
    assert found.agreement.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert found.raters is None
    assert (found.name, found.terms, found.citation) == (tmp_path.name, "mine", "me")


def test_near_duplicates_are_grouped_unless_not_wanted(tmp_path: Path) -> None:
    for name in ("awe/1.png", "awe/2.jpg", "joy/3.png"):
        draw(tmp_path / name, seed=1 if name != "awe/1.png" else 2)
    assert load("image_folder", tmp_path).groups.tolist() == [0, 1, 1]
    separate = load("image_folder", tmp_path, SourceOptions(near_duplicates=False))
    assert separate.groups.tolist() == [0, 1, 2]


def test_what_is_not_folders_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load("image_folder", tmp_path / "gone")
    draw(tmp_path / "joy" / "a.png")
    with pytest.raises(DataError, match="two or more folders"):
        load("image_folder", tmp_path)
    (tmp_path / "awe").mkdir()
    with pytest.raises(DataError, match="awe: no picture"):
        load("image_folder", tmp_path)
