"""What the documentation says of measurements is what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from app.card import Quantised, Score
from app.compiled import INT8_SUFFIX, QUANTISED

ROOT = Path(__file__).parents[2]


def section(page: str, begin: str, end: str) -> str:
    """The text from one heading or mark to the next."""
    text = (ROOT / page).read_text("utf-8")
    first = text.index(begin)
    return text[first : text.index(end, first + len(begin))]


def test_each_bar_that_a_storm_missed_is_told_in_words_too() -> None:
    storms = section("bench/RESULTS.md", "<!-- storms: begin -->", "<!-- storms: end -->")
    failed = re.findall(r"^.*\*\*FAILED\*\*.*$", storms, re.MULTILINE)
    told = re.findall(
        r"^.*\*\*missed\*\*.*$", (ROOT / "docs/reliability.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(told) == len(failed)
    for bar, row in zip(failed, told, strict=True):
        for share in re.findall(r"(\d+)%", bar):
            assert f"{share} %" in row


def changes_of(name: str) -> dict[str, Score]:
    """What 8-bit integers change, as the graph says."""
    graph = onnx.load((ROOT / "models" / name).with_suffix(INT8_SUFFIX), load_external_data=False)
    (told,) = (each.value for each in graph.metadata_props if each.key == QUANTISED)
    return Quantised.model_validate_json(told).changes


def test_every_figure_that_integers_surely_change_is_told() -> None:
    words = section("docs/performance.md", "## 8-bit integers", "## Half precision")
    all_changes = [changes_of(name) for name in ("emotion6", "fi")]
    surely = {
        name for changes in all_changes for name, score in changes.items() if score.low * score.high > 0
    }
    told = set(re.findall(r"`(\w+)`", words)) & set(all_changes[0])
    assert told | {"kl"} == surely | {"kl"}
    for changes in all_changes:
        for name in ("kl", "cosine"):
            assert f"{changes[name].value:+.4f} (" in words


@pytest.mark.parametrize(
    ("page", "script"),
    [("README.md", "docs/draw_results.py"), ("docs/explanations.md", "docs/draw_explanations.py")],
)
def test_a_figure_s_caption_names_the_quality_that_it_is_drawn_in(page: str, script: str) -> None:
    captions = re.findall(r"^\*[^*].*?\*$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (caption,) = (each for each in captions if Path(script).name in each)
    (drawn,) = re.findall(r'"quality": "(\w+)"', (ROOT / script).read_text("utf-8"))
    assert f"`quality={drawn}`" in caption
