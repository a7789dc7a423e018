from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.explain.dream import DEFAULTS, QUICK, THOROUGH, Dream, DreamSettings, take_step
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.engine.jobs import Pixels

LONG = DreamSettings(steps=(2, 8), radius=4.0)
PRESETS = pytest.mark.parametrize("settings", [QUICK, THOROUGH], ids=["quick", "thorough"])


def noise(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)


def dreamt(checkpoint: Checkpoint, pixels: Pixels, emotion: int, settings: DreamSettings = DEFAULTS) -> Dream:
    dream = Dream(pixels, emotion, checkpoint, settings)
    while not dream.done:
        take_step(checkpoint.network, [dream])
    return dream


def log_odds(checkpoint: Checkpoint, pixels: NDArray[np.float32], emotion: int) -> float:
    with torch.no_grad():
        logits = checkpoint.network(torch.from_numpy(pixels)[None])[0] / checkpoint.card.temperature
    p = float(torch.softmax(logits, 0)[emotion])
    return float(np.log(p / (1 - p)))


@PRESETS
@pytest.mark.parametrize("emotion", range(len(LABELS)))
def test_the_dream_raises_the_emotion(checkpoint: Checkpoint, emotion: int, settings: DreamSettings) -> None:
    dream = dreamt(checkpoint, noise(), emotion, settings)
    before = log_odds(checkpoint, noise().astype(np.float32), emotion)
    after = log_odds(checkpoint, dream.dreamed(), emotion)
    assert after > before


@PRESETS
def test_the_relevance_sums_to_the_rise(checkpoint: Checkpoint, settings: DreamSettings) -> None:
    dream = dreamt(checkpoint, noise(), 1, settings)
    assert dream.relevance().sum() == pytest.approx(dream.rise, rel=1e-3)
    assert dream.completeness_error < 1e-3


@pytest.mark.parametrize("settings", [QUICK, THOROUGH, LONG], ids=["quick", "thorough", "long"])
def test_a_smooth_network_needs_hardly_any_balance(checkpoint: Checkpoint, settings: DreamSettings) -> None:
    """Its trapezoids add up by themselves, so the balance only rounds off what they leave."""
    dream = dreamt(checkpoint, noise(), 1, settings)
    assert dream.trapezoid_error < 1e-3
    assert dream.imbalance < 1e-4


def test_the_rise_is_that_of_the_path_from_the_haze_into_the_dream(checkpoint: Checkpoint) -> None:
    dream = dreamt(checkpoint, noise(), 2, LONG)
    blurred = noise().astype(np.float32).mean(axis=(1, 2), keepdims=True) * np.ones(
        (1, SIDE, SIDE), np.float32
    )
    before, after = log_odds(checkpoint, blurred, 2), log_odds(checkpoint, dream.dreamed(), 2)
    assert dream.rise == pytest.approx(after - before, abs=0.1)


def test_a_rise_that_the_gradients_cannot_account_for_stays_an_error(checkpoint: Checkpoint) -> None:
    """Every evaluation answers with the same gradient, but the log-odds leap."""
    dream = Dream(noise(), 0, checkpoint, QUICK)
    dream.begin()
    gradient = torch.from_numpy(np.random.default_rng(1).normal(0, 1e-6, (3, SIDE, SIDE)).astype(np.float32))
    for step in range(QUICK.evaluations):
        dream.follow(10.0 * step, gradient)
    assert dream.imbalance == pytest.approx(1.0)
    assert dream.completeness_error > 0.9


def test_a_part_that_lowers_the_emotion_is_negative(checkpoint: Checkpoint) -> None:
    """A fine blue pattern on the left speaks for sadness, a red one on the right against it."""
    pixels = np.full((3, SIDE, SIDE), 60, np.uint8)
    pixels[2, ::4, : SIDE // 2 : 4] = 255
    pixels[0, ::4, SIDE // 2 :: 4] = 255

    class Corners(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.relu(pictures / 255 - 0.5).mean(dim=(2, 3)) * 40

    network = torch.jit.trace(Corners(), torch.zeros(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
    dream = Dream(pixels, 2, checkpoint, QUICK)
    while not dream.done:
        take_step(network, [dream])
    relevance = dream.relevance()
    assert relevance[:, : SIDE // 2 - 4].sum() > 0.1
    assert relevance[:, SIDE // 2 + 4 :].sum() < -0.1


@PRESETS
def test_the_dream_stays_close_and_is_a_picture(checkpoint: Checkpoint, settings: DreamSettings) -> None:
    dreamed = dreamt(checkpoint, noise(), 0, settings).dreamed()
    assert np.abs(dreamed - noise()).max() <= settings.radius + 1e-4
    assert dreamed.min() >= 0
    assert dreamed.max() <= 255


@PRESETS
def test_the_same_dream_gives_the_same_bytes(checkpoint: Checkpoint, settings: DreamSettings) -> None:
    first, second = (dreamt(checkpoint, noise(), 1, settings) for _ in range(2))
    assert first.relevance().tobytes() == second.relevance().tobytes()
    assert first.dreamed().tobytes() == second.dreamed().tobytes()


def test_a_mirrored_dream_of_the_mirror_image_is_the_mirror_image(checkpoint: Checkpoint) -> None:
    there = dreamt(checkpoint, noise(), 1, THOROUGH).relevance()
    back = dreamt(checkpoint, np.ascontiguousarray(noise()[:, :, ::-1]), 1, THOROUGH).relevance()[:, ::-1]
    np.testing.assert_allclose(back, there, atol=1e-5)


@PRESETS
def test_dreams_in_one_batch_do_not_touch_each_other(checkpoint: Checkpoint, settings: DreamSettings) -> None:
    alone = [dreamt(checkpoint, noise(seed), seed % 3, settings) for seed in range(3)]
    together = [Dream(noise(seed), seed % 3, checkpoint, settings) for seed in range(3)]
    while not together[0].done:
        take_step(checkpoint.network, together)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.relevance(), one.relevance(), atol=1e-6)
        assert other.steps_taken == one.steps_taken == settings.evaluations


def test_a_quick_dream_takes_five_gradients_and_a_thorough_one_sixteen() -> None:
    """Who asks pays for so many, and so long others may have to wait."""
    assert (QUICK.evaluations, THOROUGH.evaluations) == (5, 16)


def test_a_flat_gradient_leaves_the_picture_alone(checkpoint: Checkpoint) -> None:
    class Indifferent(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.flatten(1)[:, :3] * 0.0

    dream = Dream(noise(), 0, checkpoint, QUICK)
    network = torch.jit.trace(Indifferent(), torch.zeros(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
    while not dream.done:
        take_step(network, [dream])
    assert dream.rise == 0
    assert dream.imbalance == 0
    assert dream.completeness_error == 0
    assert not dream.relevance().any()
    np.testing.assert_array_equal(dream.dreamed(), noise())


def test_a_gradient_that_is_not_a_number_stops_the_step_and_moves_nothing(checkpoint: Checkpoint) -> None:
    class Broken(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(pictures.flatten(1)[:, :3] * 0.0)

    dream = Dream(noise(), 0, checkpoint, QUICK)
    network = torch.jit.trace(Broken(), torch.ones(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
    with pytest.raises(FloatingPointError):
        take_step(network, [dream])
    assert dream.steps_taken == 0


@pytest.mark.parametrize("steps", [(0, 1), (3, 0)])
def test_a_dream_needs_a_step_to_the_picture_and_one_beyond(steps: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        DreamSettings(steps=steps)


def test_a_length_must_be_above_zero() -> None:
    for build in (
        partial(DreamSettings, haze=0.0),
        partial(DreamSettings, radius=0.0),
        partial(DreamSettings, smoothing=-1.0),
    ):
        with pytest.raises(ValueError, match="must be above"):
            build()


def test_a_dream_of_a_layer_climbs_its_activation_and_adds_up(judging: Checkpoint) -> None:
    dream = Dream(noise(), 0, judging, DEFAULTS, "squashed")
    while not dream.done:
        take_step(judging.network, [dream])

    def height(pixels: NDArray[np.float32]) -> float:
        with torch.no_grad():
            seen = judging.network.activations(torch.from_numpy(pixels)[None])["squashed"]
        return float(seen.square().mean().log())

    assert height(dream.dreamed()) > height(noise().astype(np.float32))
    assert dream.relevance().sum() == pytest.approx(dream.rise, rel=1e-3)
    haze = dreamt(judging, noise(), 0)
    assert not np.array_equal(dream.relevance(), haze.relevance())
