from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.training.colours import SIDE, colour_set
from training import head
from training.head import PENALTIES, extract, fit_head, soft_cross_entropy
from training.inception import EmotionInception, build
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.pretrained import StartWeights

LABELS = 3
WIDTH = 2048


@pytest.fixture
def network() -> EmotionInception:
    return EmotionInception(LABELS, mean=0.5, std=0.5, count_border=True)


def features_of(count: int, seed: int, *, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Three clusters in far from standard features, and a target mostly on each one's emotion."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(LABELS, WIDTH, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % LABELS
    features = centres[labels] + noise * torch.randn(count, WIDTH, generator=generator)
    features = 50 + 20 * features * torch.linspace(0.01, 1, WIDTH)
    features[:, 0] = 7.0  # a channel that is always the same
    targets = 0.9 * functional.one_hot(labels, LABELS) + 0.1 / LABELS
    return features, targets


def test_soft_cross_entropy_is_kl_plus_the_entropy_of_the_target() -> None:
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]])
    expected = functional.cross_entropy(logits, targets)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), expected)
    uniform = soft_cross_entropy(torch.zeros(2, 3), targets)
    assert uniform.item() == pytest.approx(math.log(3))


def test_separable_features_are_separated(network: EmotionInception) -> None:
    training, validation = features_of(60, 1), features_of(30, 2)
    found = fit_head(network, training, validation)
    with torch.no_grad():
        for (features, targets), loss in (
            (training, found.train_loss),
            (validation, found.validation_loss),
        ):
            logits = network.head(features)
            assert (logits.argmax(dim=1) == targets.argmax(dim=1)).all()
            assert soft_cross_entropy(logits, targets).item() == pytest.approx(loss, abs=1e-3)
    assert found.validation_loss < 0.7 < math.log(3)


def test_the_layer_has_taken_in_the_standardisation(network: EmotionInception) -> None:
    training = features_of(60, 1)
    found = fit_head(network, training, features_of(30, 2))
    features, targets = training
    standard = (features - features.mean(dim=0)) / (features.std(dim=0) + head._FLAT)
    weight, bias = head._solve(standard, targets, found.penalty, torch.zeros_like(targets))
    with torch.no_grad():
        torch.testing.assert_close(network.head(features), standard @ weight + bias, rtol=1e-4, atol=1e-3)


def test_the_penalty_is_the_one_that_validates_best(network: EmotionInception) -> None:
    training, validation = features_of(24, 1, noise=40.0), features_of(60, 2, noise=40.0)
    chosen = fit_head(network, training, validation)
    weight = network.head.weight.clone()
    losses = {}
    for penalty in PENALTIES:
        losses[penalty] = fit_head(network, training, validation, penalties=(penalty,)).validation_loss
    assert chosen.penalty == min(losses, key=lambda penalty: losses[penalty])
    assert chosen.penalty > min(PENALTIES), "so much noise needs a strong penalty"
    assert chosen.validation_loss == losses[chosen.penalty]
    fit_head(network, training, validation, penalties=(chosen.penalty,))
    assert torch.equal(network.head.weight, weight)


def test_the_solution_is_the_same_every_time(network: EmotionInception) -> None:
    fits = [fit_head(network, features_of(30, 1), features_of(12, 2)) for _ in range(2)]
    assert fits[0] == fits[1]


def test_features_are_extracted_in_order(colour_folder: Path, start: StartWeights) -> None:
    network = build(LABELS, start).train()
    rated = colour_set(colour_folder)
    indices = np.array([25, 3, 14])
    loader = batches(RatedPictures(rated, indices, side=SIDE), batch=2)
    features, targets = extract(network, loader, torch.device("cpu"))
    assert features.shape == (3, WIDTH)
    assert not features.requires_grad
    assert targets.numpy() == pytest.approx(rated.agreement[indices])
    alone = batches(RatedPictures(rated, indices[2:], side=SIDE), batch=2)
    torch.testing.assert_close(extract(network, alone, torch.device("cpu"))[0], features[2:])
    assert not network.training, "dropout must not touch the features"


@pytest.mark.parametrize("right", [True, False])
def test_an_earlier_last_layer_is_built_on_where_it_helps(network: EmotionInception, right: bool) -> None:
    many, few, validation = features_of(600, 3), features_of(9, 1, noise=3), features_of(90, 2, noise=3)
    fit_head(network, many, validation)
    weight, bias = (part.detach().clone() for part in network.head.parameters())
    if not right:
        weight, bias = -weight, -bias
    alone = fit_head(network, few, validation)
    found = fit_head(network, few, validation, (weight, bias))
    assert found.built_on == right
    assert (found.validation_loss < alone.validation_loss - 0.01) == right
    with torch.no_grad():
        loss = soft_cross_entropy(network.head(validation[0]), validation[1])
    assert loss.item() == pytest.approx(found.validation_loss, abs=1e-3)
