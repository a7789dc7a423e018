from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.drawing import draw
from training.affective_set import DataError
from training.sources import SourceOptions, load

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, rows: str) -> None:
    (folder / "labels.csv").write_text("file,label,dup_group\n" + rows)
    for seed in range(5):
        draw(folder / "images" / f"{seed}.jpg", seed if seed < 4 else 0)


ROWS = (
    "images/0.jpg,joy,\nimages/1.jpg,awe,images/1.jpg\nimages/2.jpg,awe,images/1.jpg\n"
    "images/3.jpg,joy,images/3.jpg\nimages/4.jpg,joy,\n"
)


def test_one_label_a_picture_and_its_own_list_of_near_duplicates(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    found = load("fi", tmp_path, SourceOptions(near_duplicates=False))
    assert found.labels == ("awe", "joy")
    assert found.agreement.tolist() == [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1]]
    assert found.groups.tolist() == [0, 1, 1, 2, 3]
    assert found.raters is None
    assert found.name == "FI"
    assert "AAAI 2016" in found.citation
    assert "research only" in found.terms


def test_near_duplicates_that_its_list_misses_are_added(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    groups = load("fi", tmp_path).groups
    assert groups[0] == groups[4]
    assert groups[1] == groups[2]
    assert len(set(groups.tolist())) == 3


def test_the_picture_that_names_a_group_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path, "images/0.jpg,joy,\nimages/1.jpg,awe,images/0.jpg\n")
    assert load("fi", tmp_path, SourceOptions(near_duplicates=False)).groups.tolist() == [0, 0]


def test_a_group_that_is_not_there_is_no_group(tmp_path: Path) -> None:
    write(tmp_path, ROWS.replace("joy,\n", "joy,NA\n"))
    found = load("fi", tmp_path, SourceOptions(near_duplicates=False))
    assert found.groups.tolist() == [0, 1, 1, 2, 3]


def test_broken_rows_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "images/0.jpg,joy,\nimages/1.jpg,,\nimages/0.jpg,awe,\n")
    with pytest.raises(DataError) as caught:
        load("fi", tmp_path)
    assert caught.value.problems == ("row 4: images/0.jpg is already in row 2", "row 3: no label")
