from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tests.training.colours import EACH, SIDE
from training.__main__ import main
from training.written import check_writable, save_tensors

if TYPE_CHECKING:
    from pathlib import Path


def test_tensors_are_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, file: Path, **__: object) -> None:
        file.write_bytes(b"half")
        raise SafetensorError("no space")

    path = tmp_path / "new" / "weights.safetensors"
    save_tensors({"weight": torch.ones(2)}, path, {"note": "first"})
    with monkeypatch.context() as patched:
        patched.setattr("training.written.save_file", full)
        with pytest.raises(OSError, match="cannot be written: no space"):
            save_tensors({"weight": torch.zeros(2)}, path, {})
    assert load_file(path)["weight"].tolist() == [1, 1]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "weights.safetensors")
    assert not any(tmp_path.iterdir())
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "weights.safetensors")


@pytest.mark.parametrize("verb", ["tune", "pseudo-rate"])
def test_a_folder_as_output_is_refused_at_once(
    verb: str, tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, "image_folder", str(colour_folder), "--teacher", "nowhere", "--output", str(tmp_path)]
    assert main([*words, "--rated", "image_folder", str(colour_folder)]) == 1
    assert "is a folder; name a file in it" in " ".join(capsys.readouterr().err.split())


def test_names_that_no_table_can_have_are_refused(
    tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "pictures" / "red"
    strange.mkdir(parents=True)
    for number, picture in enumerate(sorted((colour_folder / "red").iterdir())):
        (strange / f"{number}\udce4.png").write_bytes(picture.read_bytes())
    words = ["pseudo-rate", "image_folder", str(strange.parent), "--output", str(tmp_path / "table.csv")]
    words += ["--teacher", "nowhere", "--rated", "image_folder", str(colour_folder), "--side", str(SIDE)]
    assert main(words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{EACH} pictures have names that are no UTF-8; rename them" in said
    assert "0\\udce4.png" in said
    assert not (tmp_path / "table.csv").exists()
