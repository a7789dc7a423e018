from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.explain.dream import DEFAULTS, Dream, DreamSettings, take_step
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from app.engine.jobs import Pixels

FINE = DreamSettings(octaves=(1.0,), steps=(8,), radius=4.0, smoothing=1.0)


def noise(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)


def dreamt(checkpoint: Checkpoint, pixels: Pixels, emotion: int, settings: DreamSettings = DEFAULTS) -> Dream:
    dream = Dream(pixels, emotion, checkpoint, settings)
    while not dream.done:
        take_step(checkpoint.network, [dream])
    return dream


def log_odds(
    checkpoint: Checkpoint, pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]], emotion: int
) -> float:
    with torch.no_grad():
        logits = checkpoint.network(torch.from_numpy(pixels)[None])[0] / checkpoint.card.temperature
    p = float(torch.softmax(logits, 0)[emotion])
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize("emotion", range(len(LABELS)))
def test_the_dream_raises_the_emotion(checkpoint: Checkpoint, emotion: int) -> None:
    dream = dreamt(checkpoint, noise(), emotion)
    before = log_odds(checkpoint, noise().astype(np.float32), emotion)
    after = log_odds(checkpoint, dream.dreamed(), emotion)
    assert after > before


def test_the_rise_is_that_of_the_path_and_the_relevance_sums_to_it(checkpoint: Checkpoint) -> None:
    dream = dreamt(checkpoint, noise(), 1, FINE)
    before = log_odds(checkpoint, noise().astype(np.float32), 1)
    assert dream.rise == pytest.approx(log_odds(checkpoint, dream.dreamed(), 1) - before, abs=1e-4)
    assert dream.relevance().sum() == pytest.approx(dream.rise, rel=0.02)
    assert dream.completeness_error < 0.02


def test_the_relevance_sums_over_octaves_too(checkpoint: Checkpoint) -> None:
    dream = dreamt(checkpoint, noise(), 2)
    assert dream.completeness_error < 0.05
    assert dream.completeness_error == pytest.approx(
        abs(dream.relevance().sum() - dream.rise) / dream.rise, abs=1e-4
    )


def test_the_dream_stays_close_and_is_a_picture(checkpoint: Checkpoint) -> None:
    settings = DreamSettings(octaves=(1.0,), steps=(5,), radius=3.0)
    dreamed = dreamt(checkpoint, noise(), 0, settings).dreamed()
    assert np.abs(dreamed - noise()).max() <= 3.0 + 1e-4
    assert dreamed.min() >= 0
    assert dreamed.max() <= 255


def test_the_same_dream_gives_the_same_bytes(checkpoint: Checkpoint) -> None:
    first, second = (dreamt(checkpoint, noise(), 1) for _ in range(2))
    assert first.relevance().tobytes() == second.relevance().tobytes()
    assert first.dreamed().tobytes() == second.dreamed().tobytes()


def test_dreams_in_one_batch_do_not_touch_each_other(checkpoint: Checkpoint) -> None:
    alone = [dreamt(checkpoint, noise(seed), seed % 3) for seed in range(3)]
    together = [Dream(noise(seed), seed % 3, checkpoint, DEFAULTS) for seed in range(3)]
    while not together[0].done:
        take_step(checkpoint.network, together)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.relevance(), one.relevance(), atol=1e-6)
        assert other.steps_taken == one.steps_taken == sum(DEFAULTS.steps) + len(DEFAULTS.steps)


def test_a_flat_gradient_leaves_the_picture_alone(checkpoint: Checkpoint) -> None:
    class Indifferent(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.flatten(1)[:, :3] * 0.0

    dream = Dream(noise(), 0, checkpoint, FINE)
    network = torch.jit.trace(Indifferent(), torch.zeros(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
    while not dream.done:
        take_step(network, [dream])
    assert dream.rise == 0
    assert not dream.relevance().any()
    np.testing.assert_array_equal(dream.dreamed(), noise())


def test_a_gradient_that_is_not_a_number_stops_the_step_and_moves_nothing(checkpoint: Checkpoint) -> None:
    class Broken(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(pictures.flatten(1)[:, :3] * 0.0)

    dream = Dream(noise(), 0, checkpoint, FINE)
    network = torch.jit.trace(Broken(), torch.ones(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
    with pytest.raises(FloatingPointError):
        take_step(network, [dream])
    assert dream.steps_taken == 0


def test_every_octave_needs_a_step() -> None:
    with pytest.raises(ValueError, match="as many positive steps"):
        DreamSettings(octaves=(0.5, 1.0), steps=(3,))
    with pytest.raises(ValueError, match="as many positive steps"):
        DreamSettings(octaves=(1.0,), steps=(0,))
