from __future__ import annotations

import logging
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.drawing import draw, truncate
from training.affective_set import DataError
from training.sources import SourceOptions, load, load_unrated
from training.sources import files as files_module
from training.sources.files import group_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two good pictures; one missing, one of text, one whose pixels are cut off."""
    draw(tmp_path / "good.png", 1)
    (tmp_path / "text.jpg").write_text("not a picture")
    truncate(draw(tmp_path / "cut.jpg", 2))
    draw(tmp_path / "fine.webp", 3)
    path = tmp_path / "table.csv"
    path.write_text("p,a,b\ngood,1,4\ngone,2,3\ntext,3,2\ncut,4,1\nfine,5,0\n")
    return path


@pytest.mark.parametrize(
    ("near_duplicates", "bad"),
    [(True, ["gone", "text", "cut"]), (False, ["gone", "text"])],  # a header does not show cut pixels
)
def test_all_unusable_pictures_are_listed(table: Path, bad: list[str], *, near_duplicates: bool) -> None:
    with pytest.raises(DataError, match=rf"{len(bad)} of 5 pictures of table cannot be read") as caught:
        load("cap_d", table, SourceOptions(near_duplicates=near_duplicates))
    assert len(caught.value.problems) == len(bad)
    assert all(name in problem for name, problem in zip(bad, caught.value.problems, strict=True))


@pytest.mark.parametrize(
    ("near_duplicates", "left"), [(True, ["good", "fine"]), (False, ["good", "cut", "fine"])]
)
def test_unusable_pictures_are_skipped_on_demand_and_logged(
    table: Path, caplog: pytest.LogCaptureFixture, left: list[str], *, near_duplicates: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        found = load("cap_d", table, SourceOptions(skip_missing=True, near_duplicates=near_duplicates))
    assert [picture.stem for picture in found.pictures] == left
    assert found.agreement[-1].tolist() == [1, 0]
    assert found.agreement[0].tolist() == [0.2, 0.8]
    assert len(caplog.records) == 1
    assert "gone" in caplog.text
    assert "text.jpg" in caplog.text
    assert "good" not in caplog.text


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("p,a,b\nx,1,4\ny,2,3\n")
    with pytest.raises(DataError, match="there is no picture"):
        load("cap_d", tmp_path / "table.csv", SourceOptions(skip_missing=True))


def test_a_damaged_or_too_large_picture_is_noticed_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, label in enumerate("ab"):
        draw(tmp_path / label / "picture.png", number)
    options = SourceOptions(near_duplicates=False)
    assert len(load("image_folder", tmp_path, options)) == 2
    truncate(tmp_path / "b" / "picture.png")  # the checksums of a PNG show it
    with pytest.raises(DataError, match=r"1 of 2 pictures"):
        load("image_folder", tmp_path, options)
    draw(tmp_path / "b" / "picture.png")
    monkeypatch.setattr(files_module, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(DataError, match=r"2 of 2 pictures(.|\n)*more than 4,095 pixels"):
        load("image_folder", tmp_path, options)


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source 'x'; there are cap_d, emotion6, fi, image_folder"):
        load("x", tmp_path)


def test_pictures_without_a_group_are_alone() -> None:
    assert group_ids(["", "x", "", "x", "1", "0"]).tolist() == [0, 1, 2, 1, 3, 4]
    assert group_ids(["NA", "x", "NA", "x", "NaN", "n/a"]).tolist() == [0, 1, 2, 1, 3, 4], "as R writes it"


@pytest.mark.parametrize(
    ("on_disk", "in_table"),
    [
        (unicodedata.normalize("NFD", "Mädchen.jpg"), unicodedata.normalize("NFC", "Mädchen.jpg")),
        (unicodedata.normalize("NFC", "Mädchen.jpg"), unicodedata.normalize("NFD", "Mädchen")),
        ("beach.JPG", "Beach.jpg"),
        (f"{unicodedata.normalize('NFD', 'Öl')}/Kopf.PNG", f"{unicodedata.normalize('NFC', 'öl')}\\kopf.png"),
    ],
)
def test_a_name_that_looks_the_same_is_found(tmp_path: Path, on_disk: str, in_table: str) -> None:
    wanted = draw(tmp_path / "images" / on_disk, 1)
    draw(tmp_path / "other.png", 2)
    table = tmp_path / "table.csv"
    table.write_text(f"p,a,b\n{in_table},1,4\nother.png,2,3\n", "utf-8")
    assert load("cap_d", table).pictures == (wanted, tmp_path / "other.png")


def test_a_name_that_looks_like_two_is_refused_and_its_own_file_is_taken_before(tmp_path: Path) -> None:
    for seed, name in enumerate(("beach.jpg", "beach.JPG", "other.png")):
        draw(tmp_path / name, seed)
    if len([*tmp_path.iterdir()]) < 3:
        pytest.skip("this file system does not tell beach.jpg from beach.JPG")
    table = tmp_path / "table.csv"
    table.write_text("p,a,b\nbeach.JPG,1,4\nbeach.jpg,2,3\n")
    assert [path.name for path in load("cap_d", table).pictures] == ["beach.JPG", "beach.jpg"]
    table.write_text("p,a,b\nBeach.jpg,1,4\nother.png,2,3\n")
    with pytest.raises(DataError) as caught:
        load("cap_d", table)
    assert caught.value.problems == (
        "row 2: Beach.jpg may be beach.JPG or beach.jpg; name it as its file is named",
    )


def test_a_folder_is_listed_once_however_many_names_are_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"Picture {number}.PNG,1,4" for number in range(9)]
    for number in range(9):
        draw(tmp_path / f"picture {number}.png", number)
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["p,a,b", *rows]))
    listed: list[Path] = []
    iterdir = type(tmp_path).iterdir

    def counted(folder: Path) -> Iterator[Path]:
        listed.append(folder)
        return iterdir(folder)

    monkeypatch.setattr(type(tmp_path), "iterdir", counted)
    assert len(load("cap_d", table, SourceOptions(near_duplicates=False))) == 9
    assert listed == [tmp_path]


def test_pictures_that_nobody_rated_need_no_folders_of_emotions(tmp_path: Path) -> None:
    wanted = [draw(tmp_path / name, seed) for seed, name in enumerate(("a.png", "b.jpg", "deep/er/c.webp"))]
    draw(tmp_path / ".cache" / "a.png", 6)
    found = load_unrated(tmp_path, ("awe", "joy"), SourceOptions(terms="mine"))
    assert sorted(found.pictures) == sorted(wanted)
    assert found.labels == ("awe", "joy")
    assert np.array_equal(found.agreement, np.full((3, 2), 0.5))
    assert found.terms == "mine"
    (tmp_path / "b.jpg").write_text("not a picture")
    with pytest.raises(DataError, match="1 of 3 pictures"):
        load_unrated(tmp_path, ("awe", "joy"))
    (tmp_path / "none").mkdir()
    for folder, said in (("none", "no picture in"), ("gone", "no folder")):
        with pytest.raises(DataError, match=said):
            load_unrated(tmp_path / folder, ("awe", "joy"))
