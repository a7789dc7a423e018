from __future__ import annotations

import pytest
import torch

from app.explain.balance import LARGEST_WEIGHT, balanced

RELEVANCE = torch.tensor([[4.0, -3.0], [2.0, -1.0]])


@pytest.mark.parametrize("rise", [2.0, 1.0, 0.0, -1.5, 3.0])
def test_the_sum_becomes_the_rise_and_no_sign_changes(rise: float) -> None:
    found, _ = balanced(RELEVANCE, rise)
    assert found.sum().item() == pytest.approx(rise, abs=1e-5)
    assert torch.equal(found.sign(), RELEVANCE.sign())


def test_what_adds_up_is_left_alone() -> None:
    found, imbalance = balanced(RELEVANCE, 2.0)
    torch.testing.assert_close(found, RELEVANCE)
    assert imbalance == pytest.approx(0.0, abs=1e-6)


def test_pixels_of_one_sign_keep_their_proportions() -> None:
    found, imbalance = balanced(RELEVANCE, 3.0)
    assert found[0, 0] / found[1, 0] == pytest.approx(2.0)
    assert found[0, 1] / found[1, 1] == pytest.approx(3.0)
    assert found[1, 0].item() == pytest.approx(2.0 * (1 + imbalance), rel=1e-5)


@pytest.mark.parametrize("rise", [100.0, -100.0])
def test_what_the_gradients_cannot_account_for_stays_missing(rise: float) -> None:
    found, imbalance = balanced(RELEVANCE, rise)
    assert imbalance == LARGEST_WEIGHT - 1
    assert abs(found.sum().item()) < 20


@pytest.mark.parametrize("relevance", [torch.zeros(2, 2), torch.ones(2, 2), -torch.ones(2, 2)])
def test_one_side_alone_has_nothing_to_be_weighed_against(relevance: torch.Tensor) -> None:
    found, imbalance = balanced(relevance, 1.0)
    assert torch.equal(found, relevance)
    assert imbalance == 0
