from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch

from app.checkpoint import CARD_FILE, CheckpointError
from app.devices import Device
from app.engine import Model
from app.loading import load
from app.offline.pictures import Refused
from app.offline.predicting import Outcome, Predicted, Predictor
from tests.pictures import BLUE, GREEN, RED, plain
from tests.tiny import LABELS, TinyNetwork, tiny_card, write_checkpoint, write_sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

CPU = torch.device("cpu")
COLOURS = {"anger": plain(RED), "joy": plain(GREEN), "sadness": plain(BLUE)}


def predictor(path: Path, *, devices: int = 1, batch: int = 4, workers: int = 2) -> Predictor:
    model = Model(tuple(load(path, CPU) for _ in range(devices)))
    return Predictor(
        model, [Device(CPU, threads=1)] * devices, batch=batch, workers=workers, max_pixels=10_000
    )


def written(network: torch.nn.Module, folder: Path) -> Path:
    """A checkpoint with a network that no tiny one is."""
    path = folder / "other.pt"
    script = torch.jit.script(network.half().eval())
    torch.jit.save(script, str(path), _extra_files={CARD_FILE: tiny_card().model_dump_json()})
    write_sums(path)
    return path


def feeling(outcome: Outcome) -> str:
    assert isinstance(outcome, Predicted)
    return LABELS[int(outcome.probabilities.argmax())]


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("batch", [1, 4, 50])
def test_outcomes_keep_the_order_on_any_number_of_devices(
    checkpoint_path: Path, devices: int, batch: int
) -> None:
    sources = list(itertools.islice(itertools.cycle(COLOURS), 32))
    batches = list(
        predictor(checkpoint_path, devices=devices, batch=batch).batches(sources, COLOURS.__getitem__)
    )
    assert [len(outcomes) for outcomes in batches[:-1]] == [batch] * (len(batches) - 1)
    found = [outcome for outcomes in batches for outcome in outcomes]
    assert [outcome.source for outcome in found] == sources
    assert [feeling(outcome) for outcome in found] == sources


def test_figures_do_not_depend_on_the_neighbours(checkpoint_path: Path) -> None:
    def figures(*sources: str) -> NDArray[np.float64]:
        (outcomes,) = predictor(checkpoint_path).batches(sources, COLOURS.__getitem__)
        last = outcomes[-1]
        assert isinstance(last, Predicted)
        return last.probabilities

    assert (figures("joy") == figures("anger", "sadness", "joy")).all()


def test_endless_pictures_are_read_only_a_little_ahead(checkpoint_path: Path) -> None:
    read = itertools.count()

    def endless() -> Iterator[str]:
        for name in itertools.cycle(COLOURS):
            next(read)
            yield name

    batches = predictor(checkpoint_path).batches(endless(), COLOURS.__getitem__)
    for _ in range(5):
        next(batches)
    batches.close()
    assert next(read) <= 4 * (5 + 2 + 1 + 1)


def test_leaving_early_ends_the_threads(checkpoint_path: Path) -> None:
    before = threading.active_count()

    def slowly(name: str) -> bytes:
        time.sleep(0.01)
        return COLOURS[name]

    batches = predictor(checkpoint_path, devices=2).batches(itertools.cycle(COLOURS), slowly)
    next(batches)
    batches.close()
    assert threading.active_count() <= before


def test_no_pictures(checkpoint_path: Path) -> None:
    assert list(predictor(checkpoint_path).batches([])) == []


def test_a_picture_that_the_network_fails_on_fails_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = COLOURS | {"white": plain((255, 255, 255))}
    fragile = predictor(write_checkpoint(tmp_path, fails_on_white=True), batch=7)
    (outcomes,) = fragile.batches(["joy", "joy", "white", "anger", "white", "sadness"], pictures.__getitem__)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [outcome.source for outcome in outcomes] == ["joy", "joy", "white", "anger", "white", "sadness"]
    assert [(each.source, each.problem) for each in refused] == [("white", "model-failed")] * 2
    assert "tried in halves" in caplog.text


def test_a_network_that_fails_on_everything_blames_no_picture(tmp_path: Path) -> None:
    class Broken(TinyNetwork):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            if pictures.shape[0] >= 0:
                raise RuntimeError("the device has fallen off")
            return pictures

    path = written(Broken(), tmp_path)
    with pytest.raises(CheckpointError, match="even on a black picture"):
        list(predictor(path).batches(["joy"], COLOURS.__getitem__))


def test_an_answer_that_is_no_number_is_not_told(tmp_path: Path) -> None:
    class Blinded(TinyNetwork):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            x = pictures.to(torch.float32).mean(dim=(2, 3)) / 255.0
            return torch.log(x[:, :1] - 0.5) + x  # not a number for what is rather dark

    path = written(Blinded(), tmp_path)
    (outcomes,) = predictor(path).batches(["anger", "joy"], COLOURS.__getitem__)
    assert isinstance(outcomes[0], Predicted)
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].problem == "model-failed"
