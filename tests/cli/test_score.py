from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from app.checkpoint import sha256_of
from app.cli.common import ExitCode
from app.cli.score import _decoders
from tests.cli.scoring import BAD, GOOD, rows
from tests.pictures import BLUE, RED, plain
from tests.tiny import LABELS, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cli.conftest import Deepemotion

COLUMNS = ["path", *LABELS, "dominant", "entropy", "width", "height", "model"]


def test_a_folder_as_a_table(deepemotion: Deepemotion, pictures: Path) -> None:
    ran = deepemotion("score", "pictures", "--out", "scores.csv", "--batch", 2)
    assert ran.exit_code == ExitCode.FAILED  # because of the bad ones
    assert ran.stdout.startswith("scores.csv: 4 pictures in ")
    assert "2 pictures could not be predicted; scores.csv.errors.csv says why" in ran.stderr
    assert "passed over: 1 hidden, 1 .txt" in ran.stderr
    scores = rows(pictures.parent / "scores.csv")
    assert list(scores[0]) == COLUMNS
    assert [row["path"] for row in scores] == sorted(GOOD)
    assert [row["dominant"] for row in scores] == ["anger", "joy", "sadness", "anger"]
    assert [row["width"] for row in scores] == ["30", "40", "50", "60"]
    assert {row["height"] for row in scores} == {"20"}
    assert {row["model"] for row in scores} == {"tiny@0.0.1"}
    for row in scores:
        shares = [float(row[label]) for label in LABELS]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert float(row["entropy"]) == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-6)
        assert row["dominant"] == LABELS[shares.index(max(shares))]
    errors = rows(pictures.parent / "scores.csv.errors.csv")
    assert [(row["path"], row["problem"]) for row in errors] == [
        ("pictures/b.png", "unsupported-picture"),
        ("pictures/deep/e.jpg", "broken-picture"),
    ]
    assert all(row["detail"] for row in errors)
    there = {path.name for path in pictures.parent.iterdir()}
    assert there == {"pictures", "scores.csv", "scores.csv.errors.csv"}


def test_the_figures_are_those_of_predict(deepemotion: Deepemotion, pictures: Path) -> None:
    deepemotion("score", "pictures", "--out", "scores.csv")
    for row in rows(pictures.parent / "scores.csv"):
        found = json.loads(deepemotion("predict", row["path"], "--json").stdout)
        shares = {label: float(row[label]) for label in LABELS}
        assert shares == pytest.approx(found["distribution"], abs=1e-6)


def test_the_same_table_as_parquet(deepemotion: Deepemotion, pictures: Path, checkpoint_path: Path) -> None:
    deepemotion("score", "pictures", "--out", "scores.csv")
    ran = deepemotion("score", "pictures", "--out", "scores.parquet", "--json")
    summary: dict[str, Any] = json.loads(ran.stdout)
    assert summary.pop("seconds") > 0
    assert summary == {
        "out": "scores.parquet",
        "errors": "scores.parquet.errors.csv",
        "pictures": 6,
        "scored": 4,
        "refused": 2,
        "resumed": 0,
        "passed_over": {"hidden": 1, ".txt": 1},
    }
    table = parquet.read_table(pictures.parent / "scores.parquet")
    assert table.column_names == COLUMNS
    for row, same in zip(table.to_pylist(), rows(pictures.parent / "scores.csv"), strict=True):
        assert {name: str(value) for name, value in row.items() if not isinstance(value, float)} == {
            name: same[name] for name in ("path", "dominant", "width", "height", "model")
        }
        for name in (*LABELS, "entropy"):
            assert row[name] == pytest.approx(float(same[name]), abs=1e-7)
    sha256 = sha256_of(checkpoint_path).encode()
    about = {b"model": b"tiny@0.0.1", b"model_sha256": sha256, b"precision": b"float32"}
    assert table.schema.metadata == about


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_checkpoint_that_abstains_has_more_columns(
    deepemotion: Deepemotion, tmp_path: Path, judging_path: Path, suffix: str
) -> None:
    for name, colour in {"a": (0, 0, 0), "b": (20, 230, 20), "c": (128, 128, 128)}.items():
        (tmp_path / f"{name}.png").write_bytes(plain(colour))
    out = tmp_path / f"scores.{suffix}"
    assert deepemotion("score", ".", "--out", out, "--checkpoint", judging_path).exit_code == 0
    table = rows(out) if suffix == "csv" else parquet.read_table(out).to_pylist()
    more = ["dominant", "entropy", "valence", "novelty", "abstained_because", "width", "height", "model"]
    assert list(table[0]) == ["path", *LABELS, *more]
    assert [row["abstained_because"] for row in table] == ["unfamiliar", "", "flat"]
    for row in table:
        (found,) = map(
            json.loads,
            deepemotion("predict", row["path"], "--json", "--checkpoint", judging_path).stdout.splitlines(),
        )
        for name in ("entropy", "valence", "novelty"):
            assert float(row[name]) == pytest.approx(found[name], abs=1e-5)


def test_a_list_keeps_its_order_and_its_repetitions(deepemotion: Deepemotion, pictures: Path) -> None:
    names = ["pictures/f.png", "pictures/a.png", "pictures/nothing.png", "pictures/f.png", "pictures/c.jpg"]
    (pictures / "list.txt").write_text("\n".join(names) + "\n\n")
    deepemotion("score", "pictures/list.txt", "--out", "scores.csv", "--batch", 2)
    names.remove("pictures/nothing.png")
    assert [row["path"] for row in rows(pictures.parent / "scores.csv")] == names


def test_the_table_of_errors_is_a_list_of_what_is_left(deepemotion: Deepemotion, pictures: Path) -> None:
    deepemotion("score", "pictures", "--out", "scores.csv")
    (pictures / "b.png").write_bytes(plain(BLUE))
    (pictures / "deep" / "e.jpg").write_bytes(plain(RED))
    ran = deepemotion("score", "scores.csv.errors.csv", "--out", "rest.csv")
    assert ran.exit_code == 0
    assert [row["path"] for row in rows(pictures.parent / "rest.csv")] == sorted(BAD)
    assert not (pictures.parent / "rest.csv.errors.csv").exists()


def test_a_picture_that_the_network_fails_on_fails_alone(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "fragile").mkdir()
    checkpoint = write_checkpoint(tmp_path / "fragile", fails_on_white=True)
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(plain((255,) * 3 if number == 4 else RED))
    (tmp_path / "list").write_text("\n".join(f"{number}.png" for number in range(7)))
    ran = deepemotion("score", "list", "--out", "scores.csv", "--checkpoint", checkpoint)
    assert ran.exit_code == ExitCode.FAILED
    assert [row["path"] for row in rows(tmp_path / "scores.csv")] == [f"{n}.png" for n in (0, 1, 2, 3, 5, 6)]
    (error,) = rows(tmp_path / "scores.csv.errors.csv")
    assert (error["path"], error["problem"]) == ("4.png", "model-failed")
    assert "cannot bear white" in error["detail"]


def test_what_is_there_is_never_replaced_unasked(deepemotion: Deepemotion, pictures: Path) -> None:
    for name in ("scores.csv", "scores.csv.errors.csv"):
        (pictures.parent / name).write_text("precious")
        ran = deepemotion("score", "pictures", "--out", "scores.csv")
        assert ran.exit_code == ExitCode.USAGE
        assert f"{name} exists already" in ran.stderr
        (pictures.parent / name).unlink()
    (pictures.parent / "scores.csv").write_text("old")
    assert deepemotion("score", "pictures", "--out", "scores.csv", "--force").exit_code == ExitCode.FAILED
    assert len(rows(pictures.parent / "scores.csv")) == 4


def test_without_bad_pictures_an_old_table_of_errors_goes(deepemotion: Deepemotion, pictures: Path) -> None:
    deepemotion("score", "pictures", "--out", "scores.csv")
    for name in BAD:
        (pictures.parent / name).unlink()
    assert deepemotion("score", "pictures", "--out", "scores.csv", "--force").exit_code == 0
    assert not (pictures.parent / "scores.csv.errors.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pictures", "--out", "scores.xlsx"), "should end in .csv or .parquet"),
        (("pictures", "--out", "nowhere/scores.csv"), "no folder nowhere"),
        (("nothing", "--out", "scores.csv"), "nothing cannot be read: No such file"),
        (("pictures/deep/empty", "--out", "scores.csv"), "no pictures in pictures/deep/empty"),
        (("pictures",), "--out"),
        (("pictures", "--out", "scores.csv", "--batch", "0"), "--batch"),
    ],
)
def test_wrong_usage(deepemotion: Deepemotion, pictures: Path, arguments: Sequence[str], words: str) -> None:
    (pictures / "deep" / "empty").mkdir()
    ran = deepemotion("score", *arguments)
    assert ran.exit_code == ExitCode.USAGE
    assert words in " ".join(ran.stderr.split())
    assert list(pictures.parent.iterdir()) == [pictures]


@pytest.mark.parametrize(
    ("left", "threads"), [(None, 8), (8 * 2 * 700_000_000, 8), (3_000_000_000, 2), (1_000_000, 1)]
)
def test_decoding_has_a_bound_where_memory_is_short(
    left: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cpus.available_cpus", lambda: 8)
    monkeypatch.setattr("app.memory.available_memory", lambda: left)
    assert _decoders(50_000_000) == threads
