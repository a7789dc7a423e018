from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.distribution import described, entropy, valence, why_abstain
from tests.tiny import LABELS, judging_card, tiny_card

shares = st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(
    lambda values: [value / sum(values) for value in values]
)


def test_the_ends_of_the_entropy() -> None:
    assert entropy([0.0, 1.0, 0.0]) == 0
    assert entropy([1 / 3] * 3) == pytest.approx(math.log(3))


@given(shares)
def test_the_entropy_is_between_them(probabilities: list[float]) -> None:
    assert 0 <= entropy(probabilities) <= math.log(3) + 1e-12


@given(shares, st.integers(1, 5))
def test_what_stands_out(probabilities: list[float], top_k: int) -> None:
    said = described(tiny_card(), probabilities, None, top_k)
    found = [each["probability"] for each in said["top"]]
    assert found == sorted(probabilities, reverse=True)[:top_k]
    assert said["dominant"] == said["top"][0]
    assert all(said["distribution"][each["emotion"]] == each["probability"] for each in said["top"])


def test_equal_emotions_keep_the_order_of_the_card() -> None:
    said = described(tiny_card(), [0.25, 0.375, 0.375], None, 3)
    assert [each["emotion"] for each in said["top"]] == ["joy", "sadness", "anger"]


@given(shares)
def test_the_valence_is_a_mean(probabilities: list[float]) -> None:
    assert -1 <= (valence(judging_card(), probabilities) or 0.0) <= 1


def test_the_valence_of_one_emotion() -> None:
    assert valence(judging_card(), [0, 1, 0]) == 1.0
    assert valence(judging_card(), [0.5, 0.5, 0]) == pytest.approx(0.25)
    assert valence(tiny_card(), [0, 1, 0]) is None


FLAT, SHARP = [1 / 3] * 3, [0.9, 0.05, 0.05]


@pytest.mark.parametrize(
    ("probabilities", "novelty", "reason"),
    [
        (SHARP, 5.0, None),
        (SHARP, 5.01, "unfamiliar"),
        (FLAT, 5.0, "flat"),
        (FLAT, 5.01, "unfamiliar"),
    ],
)
def test_why(probabilities: list[float], novelty: float, reason: str | None) -> None:
    assert why_abstain(judging_card(), probabilities, novelty) == reason
    said = described(judging_card(), probabilities, novelty)
    assert (said["abstained"], said["abstained_because"]) == (reason is not None, reason)


def test_a_checkpoint_without_thresholds_never_abstains() -> None:
    said = described(tiny_card(), FLAT, None)
    assert (said["abstained"], said["abstained_because"], said["novelty"]) == (False, None, None)
    assert list(said["distribution"]) == list(LABELS)
