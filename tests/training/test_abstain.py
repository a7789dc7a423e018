from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from training.abstain import SHARE, thresholds

RNG = np.random.default_rng(0)
PREDICTED = RNG.dirichlet(np.ones(7), 1000)
NOVELTY = RNG.gamma(2.0, size=1000)


@pytest.mark.parametrize("share", [SHARE, 0.1])
def test_each_threshold_flags_the_share_that_it_says(share: float) -> None:
    found = thresholds(PREDICTED, NOVELTY, share=share)
    assert found.share == share
    assert np.mean(found.novelty < NOVELTY) == pytest.approx(share)
    assert np.mean(entropy(PREDICTED, axis=1) > found.entropy) == pytest.approx(share)


def test_a_flat_distribution_is_flagged_and_a_sure_one_is_not() -> None:
    at = thresholds(PREDICTED, NOVELTY).entropy
    assert np.log(7) > at > entropy([0.9, 0.1, 0, 0, 0, 0, 0])


def test_an_emotion_that_nobody_feels_has_no_entropy() -> None:
    sure = np.eye(7)[np.zeros(50, int)]
    assert thresholds(sure, NOVELTY[:50]).entropy == 0
