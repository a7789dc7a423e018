"""The bars of an explanation, where the truth is known: a patch decides the class, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from app.explain.dream import QUICK, THOROUGH, Dream, DreamSettings, take_step
from app.explain.heatmap import softened
from tests.explain_quality.planted import Planted, as_checkpoint, planted, untrained
from tests.tiny import LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

PICTURES = 40
PRESETS = pytest.mark.parametrize("settings", [QUICK, THOROUGH], ids=["quick", "thorough"])


@pytest.fixture(scope="module")
def pictures() -> list[Planted]:
    """None of them was trained on."""
    rng = np.random.default_rng(1000)
    return [planted(rng) for _ in range(PICTURES)]


def drawn(
    checkpoint: Checkpoint, picture: Planted, settings: DreamSettings, turn: int = 0
) -> NDArray[np.float32]:
    """The map as it is drawn, of the patch's own class or of another."""
    dream = Dream(picture.pixels, (picture.emotion + turn) % len(LABELS), checkpoint, settings)
    while not dream.done:
        take_step(checkpoint.network, [dream])
    return softened(dream.relevance())


def alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


@PRESETS
def test_the_map_points_at_the_patch(
    network: Checkpoint, pictures: list[Planted], settings: DreamSettings
) -> None:
    """Pointing game: the strongest pixel lies in the patch."""
    hits = [bool(each.inside.flat[drawn(network, each, settings).argmax()]) for each in pictures]
    assert np.mean(hits) >= 0.95


@PRESETS
def test_most_of_the_relevance_lies_in_the_patch(
    network: Checkpoint, pictures: list[Planted], settings: DreamSettings
) -> None:
    shares = []
    for each in pictures:
        relevance = np.abs(drawn(network, each, settings))
        shares.append(relevance[each.inside].sum() / relevance.sum())
    assert np.mean(shares) >= 0.6


@PRESETS
def test_the_patch_speaks_for_its_class_and_against_another(
    network: Checkpoint, pictures: list[Planted], settings: DreamSettings
) -> None:
    own, other = (
        np.array([drawn(network, each, settings, turn)[each.inside].sum() for each in pictures])
        for turn in (0, 1)
    )
    assert (own > 0).mean() >= 0.95
    assert (other < 0).mean() >= 0.95


def test_the_maps_of_two_classes_differ(network: Checkpoint, pictures: list[Planted]) -> None:
    likeness = [alike(*(drawn(network, each, QUICK, turn) for turn in (0, 1))) for each in pictures]
    assert np.mean(likeness) < 0.7


def test_the_map_of_a_network_that_learned_nothing_is_another(
    network: Checkpoint, pictures: list[Planted]
) -> None:
    strange = as_checkpoint(untrained(seed=7))
    likeness = [alike(drawn(network, each, QUICK), drawn(strange, each, QUICK)) for each in pictures]
    assert np.mean(likeness) < 0.3


def test_a_picture_of_one_colour_has_no_detail_that_could_speak(network: Checkpoint) -> None:
    """Only the climb is left, so nothing that is drawn is against the emotion."""
    flat = Planted(np.full((3, 96, 96), 90, np.uint8), 0, np.zeros((96, 96), bool))
    assert drawn(network, flat, QUICK).min() >= -1e-4
