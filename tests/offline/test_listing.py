from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from app.offline.listing import Listing, ListingError, folder_or_list, in_folder, in_list, named
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_gives_its_pictures_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.jpg",
        "a/z.PNG",
        "a/b/c.webp",
        "c.jpeg",
        "B.jpg",
        "readme.md",
        "Makefile",
        ".git/x.png",
        "._b.jpg",
    )
    found = in_folder(str(tmp_path))
    names = [os.path.relpath(path, tmp_path) for path in found.paths]
    assert names == ["B.jpg", "a/b/c.webp", "a/z.PNG", "b.jpg", "c.jpeg"]
    assert found.passed_over == {".md": 1, "without a suffix": 1, "hidden": 1}


def test_formats_that_are_not_read_are_listed_so_that_they_are_told_of(tmp_path: Path) -> None:
    touch(tmp_path, "a.gif", "b.tiff", "c.heic", "d.mp4", "e.pdf")
    assert [path.rpartition("/")[2] for path in in_folder(str(tmp_path)).paths] == [
        "a.gif",
        "b.tiff",
        "c.heic",
    ]


def test_a_jpeg_by_another_name_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.jfif", "b.pjpeg", "c.MPO", "d.apng")
    assert len(in_folder(str(tmp_path)).paths) == 4


def test_a_name_is_never_taken_for_an_address(tmp_path: Path) -> None:
    touch(tmp_path, "Note: what?.png", "IMG:1#2.jpg", "data:x.png", "x.png.gz")
    found = in_folder(str(tmp_path))
    assert len(found.paths) == 3
    assert found.passed_over == {".gz": 1}


def test_a_pattern_means_what_it_means_to_a_shell(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/more/b.jpg", "in/more/notes.txt")
    found = named([str(tmp_path / "in" / "*")])
    assert [os.path.relpath(path, tmp_path) for path in found.paths] == ["in/a.jpg", "in/more/b.jpg"]
    assert found.passed_over == {".txt": 1}


def test_a_name_that_is_too_long_is_told_as_that_picture_s(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    names = (str(tmp_path / "a.jpg"), "x" * 300)
    assert named(names).paths == names


def test_a_picture_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(plain())
    with pytest.raises(ListingError, match="is a picture"):
        folder_or_list(str(tmp_path / "a.png"))


def test_linked_folders_are_not_followed_and_linked_files_are(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "real" / "round").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "b.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    found = in_folder(str(tmp_path / "real"))
    assert len(found.paths) == 2
    assert found.passed_over == {"linked folders": 1}


def test_paths_are_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/a.jpg")
    assert in_folder("in").paths == ("in/a.jpg",)
    assert in_folder("./in").paths == ("./in/a.jpg",)
    assert named(["in", "in/a.jpg", "none.jpg", "in/*.jpg"]).paths == ("in/a.jpg",) * 2 + (
        "none.jpg",
        "in/a.jpg",
    )


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match="No such file"):
        in_folder(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a.jpg\nb c.jpg\n\n#d.jpg\n", ("a.jpg", "b c.jpg", "#d.jpg")),
        ("a.jpg\r\nb.jpg", ("a.jpg", "b.jpg")),
        ("\ufeffa.jpg\n", ("a.jpg",)),
        ("", ()),
    ],
)
def test_a_list_has_one_path_a_line(tmp_path: Path, text: str, paths: tuple[str, ...]) -> None:
    (tmp_path / "list").write_bytes(text.encode())
    assert folder_or_list(str(tmp_path / "list")).paths == paths


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a.jpg\nb.jpg\n", ("a.jpg", "b.jpg")),
        ("n,path\n1,a.jpg\n2,b.jpg\n", ("a.jpg", "b.jpg")),
        ('path,x\n"a, b.jpg",1\n"c\nd.jpg",2\n\n,3\n', ("a, b.jpg", "c\nd.jpg")),
        ("x,path\n1\n2,b.jpg\n", ("b.jpg",)),
    ],
)
def test_a_csv_list(tmp_path: Path, text: str, paths: tuple[str, ...]) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode())
    assert folder_or_list(str(tmp_path / "list.csv")).paths == paths


def test_names_that_are_no_text_come_through(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff.jpg\n")
    assert os.fsencode(folder_or_list(str(tmp_path / "list")).paths[0]) == b"\xff.jpg"


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match="cannot be read"):
        folder_or_list(str(tmp_path / "none.txt"))
    (tmp_path / "null.csv").write_bytes(b'"' + b"x" * 200_000)  # beyond csv's longest field
    with pytest.raises(ListingError, match="not a CSV table"):
        folder_or_list(str(tmp_path / "null.csv"))


def test_the_digest_tells_lists_apart() -> None:
    lists = [("a", "b"), ("b", "a"), ("ab",), ("a",), (), ("a", "b", "b")]
    assert len({Listing(paths).digest for paths in lists}) == len(lists)
    assert Listing(("a", "b")).digest == in_list(["a\n", "b\n"], table=False).digest
