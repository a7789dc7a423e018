from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.report import TITLE, replace_section

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "RESULTS.md"
    for name in ("first", "second", "third"):
        replace_section(name, f"## {name}\n", path)
    return path


def test_a_section_takes_the_place_of_its_last_one_and_others_stay(results: Path) -> None:
    before = results.read_text("utf-8")
    assert before.startswith(TITLE)
    replace_section("second", "## anew\n\nlonger", results)
    assert results.read_text("utf-8") == before.replace("## second", "## anew\n\nlonger")
    replace_section("second", "## second", results)
    assert results.read_text("utf-8") == before


@pytest.mark.parametrize(
    ("mark", "damaged"),
    [
        ("<!-- second: end -->", "<!-- second: ende -->"),
        ("<!-- second: end -->", ""),
        ("<!-- second: begin -->", ""),
        ("<!-- first: begin -->", "<!-- second: end -->"),
    ],
)
def test_what_follows_a_damaged_mark_is_not_lost(results: Path, mark: str, damaged: str) -> None:
    text = results.read_text("utf-8").replace(mark, damaged)
    results.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="second"):
        replace_section("second", "## anew", results)
    assert results.read_text("utf-8") == text


def test_a_file_without_a_last_line_break(results: Path) -> None:
    text = results.read_text("utf-8")
    results.write_text(text.rstrip(), "utf-8")
    replace_section("third", "## third", results)
    assert results.read_text("utf-8") == text
