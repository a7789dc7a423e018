from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.training.drawing import draw
from training.affective_set import DataError
from training.sources import SourceOptions, cap_d, load

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet
    from training.sources.options import Unit


def read(folder: Path, text: str, options: SourceOptions | None = None) -> AffectiveSet:
    path = folder / "table.csv"
    path.write_text(text, "utf-8")
    return cap_d.read(path, options or SourceOptions())


def problems_of(folder: Path, text: str, options: SourceOptions | None = None) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(folder, text, options)
    return list(caught.value.problems)


FRACTIONS = "picture,joy,fear,awe\na,0.25,0.75,0\nb,0.5,0.25,0.25\n"
AGREEMENT = [[0.25, 0.75, 0], [0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("text", "raters"),
    [
        (FRACTIONS, None),
        ("picture,joy,fear,awe\na,25.0,75,\nb,50,25,24.9\n", None),
        ("picture,joy,fear,awe\na,25 %,75 %,0 %\nb,50%,25%,25.2%\n", None),
        ("picture;joy;fear;awe\na;0,25;0,75;0\nb;0,5;0,25;0,25\n", None),
        ("picture,joy,fear,awe\na,5,15,0\nb,4,2,2\n", [20, 8]),
        ("picture,N,joy,fear,awe\na,20,5,15,\nb,8,4,2,2\n", [20, 8]),  # so nobody chose awe
        ("picture,N,joy,fear,awe\na,30,5,15,0\nb,8,4,2,2\n", [20, 8]),  # ten chose none of them
        ("picture,joy,fear,awe,n_raters\na,0.25,0.75,0,20\nb,0.5,0.25,0.25,8\n", [20, 8]),
    ],
    ids=[
        "fractions",
        "percents",
        "percent signs",
        "decimal commas",
        "counts",
        "all raters",
        "raters",
        "both",
    ],
)
def test_the_same_votes_in_each_unit(tmp_path: Path, text: str, raters: list[float] | None) -> None:
    found = read(tmp_path, text)
    assert found.labels == ("joy", "fear", "awe")
    np.testing.assert_allclose(found.agreement, AGREEMENT, atol=0.002)
    np.testing.assert_allclose(found.agreement.sum(axis=1), 1)
    assert (None if found.raters is None else found.raters.tolist()) == raters


def test_a_sheet_is_read_like_text(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    frame = pd.DataFrame(
        {"picture": [101, 102], "joy": [0.25, 0.5], "fear": [0.75, None], "awe": [None, 0.5]}
    )
    frame.to_excel(path, index=False)
    found = cap_d.read(path, SourceOptions())
    assert found.agreement.tolist() == [[0.25, 0.75, 0], [0.5, 0, 0.5]]
    assert [picture.name for picture in found.pictures] == ["101", "102"]


def test_what_a_spreadsheet_could_not_compute_is_no_missing_vote(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    frame = pd.DataFrame({"picture": [101, 102], "joy": [25, "#DIV/0!"], "fear": [10, 20]})
    frame.to_excel(path, index=False)
    with pytest.raises(DataError) as caught:
        cap_d.read(path, SourceOptions())
    assert len(caught.value.problems) == 1
    assert "joy" in str(caught.value.problems[0])


@pytest.mark.parametrize("cell", ["", "NA"])
def test_a_count_that_is_not_there_is_no_0(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"picture,joy,fear\na,12,3\nb,{cell},9\n", "utf-8")
    with pytest.raises(DataError, match="write 0 for no votes") as caught:
        cap_d.read(path, SourceOptions())
    assert caught.value.problems == ("row 3, column 'joy' is empty",)


def test_votes_for_what_is_left_out_are_no_votes(tmp_path: Path) -> None:
    text = "picture,raters,joy,fear,neutral\na,20,2,1,17\nb,20,15,5,0\n"
    options = SourceOptions(ignore_columns=("neutral",))
    found = read(tmp_path, text, options)
    assert found.raters is not None
    assert found.raters.tolist() == [3, 20]


def test_more_votes_than_raters_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read(tmp_path, "picture,n,joy,fear\na,20,15,12\nb,20,12,8\n")
    assert found.agreement[0].tolist() == [15 / 27, 12 / 27]
    assert "1 of 2 rows have more votes than raters" in caplog.text


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "joy,arousal,Who,file,fear,series\n1,7.5,4,a,3,x\n2,3.1,4,b,2,x\n4,9,4,c,0,\n4,9,4,d,0,\n"
    options = SourceOptions(
        picture_column="file", raters_column="Who", group_column="series", ignore_columns=("arousal",)
    )
    found = read(tmp_path, text, options)
    assert found.labels == ("joy", "fear")
    assert found.agreement.tolist() == [[0.25, 0.75], [0.5, 0.5], [1, 0], [1, 0]]
    assert found.raters is not None
    assert found.raters.tolist() == [4, 4, 4, 4]
    assert found.groups.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(picture_column="file"), "no column 'file'"),
        (SourceOptions(ignore_columns=("valence",)), "no column 'valence'"),
        (SourceOptions(ignore_columns=("joy", "fear")), "two or more columns of emotions"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, options: SourceOptions, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, FRACTIONS, options)


def test_two_columns_that_could_be_the_raters(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="n and Raters may be the raters"):
        read(tmp_path, "picture,n,Raters,joy,fear\na,3,3,1,2\n")


def test_all_broken_rows_are_listed_at_once(tmp_path: Path) -> None:
    text = (
        "picture,n,joy,fear\n"
        "a,20,0.5,0.5\n"
        "b,20,much,0.5\n"
        "c,20,-0.5,1.5\n"
        "\n"
        "d,20,0,\n"
        "a,20,0.5,0.5\n"
        "e,0,0.5,0.5\n"
        ",20,0.5,0.5\n"
    )
    assert sorted(problems_of(tmp_path, text)) == [
        "row 3, column 'joy': 'much' is not a number",
        "row 4: -0.5 is negative",
        "row 6: no votes",
        "row 7: a is already in row 2",
        "row 8: 0 raters",
        "row 9: no picture is named",
    ]


def test_sums_are_mended_within_five_percent_and_listed_beyond(tmp_path: Path) -> None:
    text = "picture,joy,fear\na,0.5,0.45\nb,0.55,0.5\nc,0.5,0.44\nd,0.6,0.46\n"
    assert problems_of(tmp_path, text, SourceOptions(unit="fraction")) == [
        "row 4: the fractions sum to 0.94 instead of 1",
        "row 5: the fractions sum to 1.06 instead of 1",
    ]
    found = read(tmp_path, "".join(text.splitlines(keepends=True)[:3]))
    np.testing.assert_allclose(found.agreement.sum(axis=1), 1)


def test_broken_counts_are_listed(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "picture,a,b\nx,3,4\ny,2.5,1\n", SourceOptions(unit="count")) == [
        "row 3: 2.5 is not a whole number of raters"
    ]


WHOLE = "picture,joy,fear\na,60,40\nb,33,66\n"


def test_whole_percents_need_the_unit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could be percents or counts .*; give the unit"):
        read(tmp_path, WHOLE)


def test_counts_that_look_like_percents_need_the_unit(tmp_path: Path) -> None:
    text = "picture,raters,joy,fear\na,100,60,40\nb,100,50,49\nc,100,40,30\n"
    with pytest.raises(DataError, match=r"could be percents or counts .*; give the unit with --unit"):
        read(tmp_path, text)
    found = read(tmp_path, text, SourceOptions(unit="count"))
    assert found.raters is not None
    assert found.raters.tolist() == [100, 99, 70]
    with pytest.raises(DataError, match=r"is not in fractions of joy, fear; .* give it with --unit"):
        read(tmp_path, "picture,joy,fear\na,1,0\nb,0,1\nc,0.5,0.2\n")


@pytest.mark.parametrize(("unit", "raters"), [("percent", None), ("count", [100, 99])])
def test_the_unit_that_was_passed_is_taken(tmp_path: Path, unit: Unit, raters: list[float] | None) -> None:
    found = read(tmp_path, WHOLE, SourceOptions(unit=unit))
    np.testing.assert_allclose(found.agreement, [[0.6, 0.4], [1 / 3, 2 / 3]])
    assert (None if found.raters is None else found.raters.tolist()) == raters


def test_a_total_is_no_emotion(tmp_path: Path) -> None:
    text = "picture,awe,fear,joy,total\na,5,3,2,10\nb,0,0,4,4\n"
    with pytest.raises(
        DataError, match=r"total is the sum of all other .* --ignore-column, .* --raters-column"
    ):
        read(tmp_path, text)
    for options in (SourceOptions(ignore_columns=("total",)), SourceOptions(raters_column="total")):
        assert read(tmp_path, text, options).labels == ("awe", "fear", "joy")
    assert read(tmp_path, text + "c,1,1,1,2\n").labels[-1] == "total", "it may be one that is chosen often"
    assert read(tmp_path, "picture,awe,fear\na,5,5\nb,3,3\n").labels == ("awe", "fear")
    known = "picture,n,awe,fear,joy\na,10,3,2,5\nb,8,0,4,4\n"
    assert read(tmp_path, known).labels == ("awe", "fear", "joy"), "half of the raters chose joy"


def test_a_column_that_is_no_emotion_is_suspected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"if all these columns are emotions: arousal, joy, fear .* --ignore"):
        read(tmp_path, "picture,arousal,joy,fear\na,7.5,0.5,0.5\nb,3.1,0.1,0.9\n")


def test_pictures_are_found_beside_the_table_or_in_images(tmp_path: Path) -> None:
    drawn = [
        draw(tmp_path / "a.webp", 0),
        draw(tmp_path / "images" / "b.JPG", 1),
        draw(tmp_path / "images" / "more" / "c.v2.png", 2),
        draw(tmp_path / "d.jpeg", 3),
    ]
    text = "picture,joy,fear\na,1,2\nb,1,2\nmore\\c.v2,1,2\nd.jpeg,1,2\n"
    assert list(read(tmp_path, text).pictures) == drawn
    assert problems_of(tmp_path, text + "d,1,2\n") == ["row 6: d is already in row 5"]


def test_somebody_elses_table_is_not_credited_to_the_authors_of_cap_d(tmp_path: Path) -> None:
    cited = read(tmp_path, FRACTIONS, SourceOptions(terms="ask us"))
    assert (cited.name, cited.citation, cited.terms) == ("table", "not stated", "ask us")
    own = read(tmp_path, FRACTIONS, SourceOptions(name="ours"))
    assert (own.name, own.citation, own.terms) == ("ours", "not stated", "not stated")
    with pytest.raises(DataError, match="terms of the pictures are empty"):
        SourceOptions(terms=" ")


def test_a_table_is_loaded_with_its_pictures(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        draw(tmp_path / "images" / f"{name}.png", seed % 2)
    (tmp_path / "table.csv").write_text("picture,joy,fear\na,1,4\nb,3,2\nc,5,0\n")
    found = load("cap_d", tmp_path / "table.csv")
    assert found.groups[0] == found.groups[2] != found.groups[1]


def test_a_name_without_its_suffix_that_means_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        draw(tmp_path / name, 7)
    (problem,) = problems_of(tmp_path, FRACTIONS)
    assert problem == "row 2: a may be a.jpg or a.png; name it as its file is named"
    (tmp_path / "a").write_bytes((tmp_path / "a.png").read_bytes())
    assert read(tmp_path, FRACTIONS).pictures[0].name == "a"  # which is just as it says
    (tmp_path / "a").unlink()
    (tmp_path / "a.png").unlink()
    assert [path.name for path in read(tmp_path, FRACTIONS).pictures] == ["a.jpg", "b.png"]
