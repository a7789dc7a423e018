from __future__ import annotations

import errno
import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from app.checkpoint import (
    CHECKSUMS,
    Checkpoint,
    CheckpointError,
    Judged,
    judge,
    probabilities,
    sha256_of,
    verified,
)
from app.loading import load
from tests.engine.harness import BLACK, GREEN, GREY
from tests.tiny import (
    LABELS,
    SIDE,
    card_without,
    judging_card,
    tiny_card,
    write_checkpoint,
    write_sums,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


def test_load(checkpoint: Checkpoint, checkpoint_path: Path) -> None:
    assert checkpoint.card == tiny_card()
    assert checkpoint.sha256 == sha256_of(checkpoint_path)
    assert checkpoint.device == CPU
    assert not checkpoint.network.training


def test_weights_are_stored_in_half_precision_and_widened(checkpoint: Checkpoint) -> None:
    parameters = list(checkpoint.network.parameters())
    assert parameters
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in parameters)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_network_takes_integer_and_floating_point_pictures(
    checkpoint: Checkpoint, dtype: torch.dtype
) -> None:
    red = torch.zeros(2, 3, SIDE, SIDE, dtype=dtype)
    red[:, 0] = 230
    logits = checkpoint.network(red)
    assert logits.shape == (2, len(LABELS))
    assert logits.dtype == torch.float32
    assert logits.argmax(1).tolist() == [LABELS.index("anger")] * 2


def test_network_is_differentiable(checkpoint: Checkpoint) -> None:
    pictures = torch.full((1, 3, SIDE, SIDE), 100.0, requires_grad=True)
    checkpoint.network(pictures)[0, 0].backward()
    assert pictures.grad is not None
    assert (pictures.grad[0, 0] > 0).any()
    assert (pictures.grad[0, 1] < 0).any()


@pytest.mark.parametrize("where", [0, 1000, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, where: int) -> None:
    path = write_checkpoint(tmp_path)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"has sha256 .* but SHA256SUMS lists"):
        load(path, CPU)


def test_an_unlisted_file_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    other = path.rename(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"does not list other\.pt"):
        load(other, CPU)


def test_missing_sums_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    with pytest.raises(CheckpointError, match="SHA256SUMS is missing"):
        load(path, CPU)


def test_sums_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    (tmp_path / CHECKSUMS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="SHA256SUMS"):
        load(path, CPU)


@pytest.mark.parametrize("name", ["tiny.pt", CHECKSUMS])
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_checkpoint(tmp_path)
    real = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: Permission denied"):
        load(path, CPU)


def test_a_device_that_takes_no_network_is_told(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be put on mps"):
        load(path, torch.device("mps"))  # which no Linux has


def test_a_missing_file_is_refused_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"there is no checkpoint at {tmp_path}/none.pt"):
        load(Path("none.pt"), CPU)


@pytest.mark.parametrize("line", ["{digest} *tiny.pt", "{upper}  tiny.pt", "# note\n\n{digest}  tiny.pt"])
def test_forms_of_a_sums_line(tmp_path: Path, line: str) -> None:
    path = write_checkpoint(tmp_path)
    digest = sha256_of(path)
    (tmp_path / CHECKSUMS).write_text(line.format(digest=digest, upper=digest.upper()) + "\n", "utf-8")
    assert verified(path) == (path.read_bytes(), digest)


def test_a_listed_file_that_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(b"not a model")
    write_sums(path)
    with pytest.raises(CheckpointError, match="is not a TorchScript file"):
        load(path, CPU)


class Payload:
    """Writes a file if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def _pickled(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


def _saved(payload: Payload, path: Path) -> None:
    torch.save({"weights": payload}, path)


def _inside(payload: Payload, path: Path) -> None:
    """In the place where a TorchScript file has its constants and data."""
    write_checkpoint(path.parent)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, data in parts.items():
            changed.writestr(name, pickle.dumps(payload) if name.endswith(".pkl") else data)


@pytest.mark.parametrize("hide", [_pickled, _saved, _inside])
def test_no_pickle_in_a_listed_file_is_run(tmp_path: Path, hide: Callable[[Payload, Path], None]) -> None:
    mark, path = tmp_path / "ran", tmp_path / "tiny.pt"
    payload = Payload(mark)
    hide(payload, path)
    write_sums(path)
    with pytest.raises(CheckpointError, match="is not a TorchScript file"):
        load(path, CPU)
    assert not mark.exists()
    pickle.loads(pickle.dumps(payload))  # noqa: S301 - ours; it would have
    assert mark.exists()


@pytest.mark.parametrize(
    "card",
    [
        "",
        "{}",
        "not json",
        card_without("labels"),
        card_without("limits"),
        json.dumps(tiny_card().model_dump(mode="json") | {"surprise": 1}),
        json.dumps(tiny_card().model_dump(mode="json") | {"format": 2}),
        json.dumps(tiny_card().model_dump(mode="json") | {"temperature": 0}),
        json.dumps(tiny_card().model_dump(mode="json") | {"labels": ["joy"]}),
        json.dumps(tiny_card().model_dump(mode="json") | {"labels": ["joy", "joy", "anger"]}),
    ],
)
def test_a_bad_card_is_refused(tmp_path: Path, card: str) -> None:
    path = write_checkpoint(tmp_path, card=card)
    with pytest.raises(CheckpointError, match=r"the card in .* is not valid"):
        load(path, CPU)


def test_a_torchscript_file_without_a_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(path))
    write_sums(path)
    with pytest.raises(CheckpointError, match=r"the card in .* is not valid"):
        load(path, CPU)


def test_logits_and_novelty_come_from_one_pass(judging: Checkpoint) -> None:
    pictures = np.stack([GREEN, GREY, BLACK])
    before = judging.network.passes
    judged = judge(judging, pictures)
    assert judging.network.passes == before + 1
    assert (judged.probabilities == probabilities(judging, pictures)).all()
    assert judged.novelty is not None
    assert judged.novelty.argsort().tolist() == [0, 1, 2]
    assert judged.novelty_of(2) == pytest.approx(10)


def test_a_checkpoint_that_cannot_tell_says_so(checkpoint: Checkpoint) -> None:
    judged = judge(checkpoint, np.stack([GREEN, BLACK]))
    assert judged.novelty is None
    assert judged.novelty_of(1) is None
    assert judged.sound.all()


def test_what_is_not_a_number_is_not_sound() -> None:
    rows = np.full((3, 2), 0.5)
    rows[1, 0] = np.nan
    assert Judged(rows, None).sound.tolist() == [True, False, True]
    assert Judged(rows, np.array([1.0, 1.0, np.inf])).sound.tolist() == [True, False, False]


def test_thresholds_without_a_network_that_judges(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, card=judging_card().model_dump_json())
    with pytest.raises(CheckpointError, match=r"no judge\(\)"):
        load(path, CPU)


def test_a_checkpoint_from_before_there_were_thresholds(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, card=card_without("valence", "valence_scale", "abstain"))
    assert load(path, CPU).card == tiny_card()


@pytest.mark.parametrize(
    "wrong",
    [
        {"valence": {"joy": 1.0}},
        {"valence": dict.fromkeys([*LABELS, "awe"], 0.0)},
        {"valence_scale": None},
        {"valence": None},
        {"abstain": {"entropy": -1, "novelty": 1, "share": 0.1}},
        {"abstain": {"entropy": 1, "novelty": 1, "share": 2}},
    ],
)
def test_what_a_card_cannot_say(tmp_path: Path, wrong: dict[str, object]) -> None:
    text = json.dumps(judging_card().model_dump(mode="json") | wrong)
    path = write_checkpoint(tmp_path, card=text, judges=True)
    with pytest.raises(CheckpointError, match="is not valid"):
        load(path, CPU)


def test_what_is_loaded_is_what_was_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced after it was looked at would be code that nobody has listed."""
    path = write_checkpoint(tmp_path)
    digest, real = sha256_of(path), torch.jit.load

    def replaced_meanwhile(*arguments: object, **options: object) -> object:
        path.write_bytes(b"something else")
        return real(*arguments, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(torch.jit, "load", replaced_meanwhile)
    assert load(path, torch.device("cpu")).sha256 == digest
