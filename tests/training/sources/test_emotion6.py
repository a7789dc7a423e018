from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.drawing import draw
from training.affective_set import DataError
from training.sources import SourceOptions, load

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "file,valence,arousal,anger,disgust,fear,joy,sadness,surprise,neutral\n"


def test_shares_of_fifteen_raters_without_valence_and_arousal(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "joy" / "1.jpg", 1)
    draw(tmp_path / "images" / "fear" / "1.jpg", 2)
    (tmp_path / "labels.csv").write_text(
        HEADER + "joy/1.jpg,7.1,5.2,0,0,0,0.8,0,0.0666667,0.133333\nfear/1.jpg,2,6,0.2,0,0.6,0,0.2,0,0\n"
    )
    found = load("emotion6", tmp_path)
    assert found.labels == ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
    np.testing.assert_allclose(found.agreement[0], [0, 0, 0, 12 / 15, 0, 1 / 15, 2 / 15], atol=1e-6)
    assert found.frequencies()["joy"] == found.frequencies()["fear"] == 1
    assert found.raters is not None
    assert found.raters.tolist() == [15, 15]
    assert found.valence is not None
    assert found.valence.tolist() == [7.1, 2.0]
    assert found.valence_scale is not None
    assert "9 (very pleasant)" in found.valence_scale
    assert found.pictures[1] == tmp_path / "images" / "fear" / "1.jpg"
    assert found.name == "Emotion6"
    assert "CVPR 2015" in found.citation
    assert "identifiable" in found.terms


def test_options_for_other_tables_do_not_change_its_layout(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "1.jpg")
    (tmp_path / "labels.csv").write_text(HEADER + "1.jpg,5,5,0,0,0,1,0,0,0\n")
    options = SourceOptions(unit="percent", picture_column="x", group_column="y", ignore_columns=("joy",))
    assert load("emotion6", tmp_path, options).frequencies()["joy"] == 1


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,anger,joy\n1.jpg,0.5,0.5\n")
    with pytest.raises(DataError, match="no column 'valence'"):
        load("emotion6", tmp_path)


@pytest.mark.parametrize("cell", ["", "0.9", "9.5", "pleasant"])
def test_a_valence_off_the_scale_is_refused(tmp_path: Path, cell: str) -> None:
    draw(tmp_path / "images" / "1.jpg")
    (tmp_path / "labels.csv").write_text(HEADER + f"1.jpg,{cell},5,0,0,0,1,0,0,0\n")
    with pytest.raises(DataError) as caught:
        load("emotion6", tmp_path)
    assert f"row 2, column 'valence': {cell!r} is not from 1 to 9" in str(caught.value)


def test_a_picture_left_out_takes_its_valence_along(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "2.jpg")
    (tmp_path / "labels.csv").write_text(HEADER + "1.jpg,3,5,0,0,0,1,0,0,0\n2.jpg,6,5,0,0,0,1,0,0,0\n")
    found = load("emotion6", tmp_path, SourceOptions(skip_missing=True))
    assert found.valence is not None
    assert found.valence.tolist() == [6]
