from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from training.calibrate import COLDEST, HOTTEST, fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (200, 5))
    rated = softmax(logits / temperature, axis=1)
    assert fit_temperature(logits, rated) == pytest.approx(temperature, rel=1e-3)


def test_a_known_temperature_is_found_in_votes() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2000, 5))
    votes = rng.multinomial(10, softmax(logits / 2, axis=1)) / 10
    assert fit_temperature(logits, votes) == pytest.approx(2, rel=0.05)


def test_the_temperature_stays_within_its_bounds() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 3))
    always_right, always_wrong = np.eye(3)[logits.argmax(axis=1)], np.eye(3)[logits.argmin(axis=1)]
    assert fit_temperature(logits, always_right) == pytest.approx(COLDEST, rel=1e-3)
    assert fit_temperature(logits, always_wrong) == pytest.approx(HOTTEST, rel=1e-3)
