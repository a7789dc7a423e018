from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from torch.utils.flop_counter import FlopCounterMode

from app.picture import decode
from tests.training.colours import SIDE, colour_set, parts
from training.evaluate import outputs_of
from training.inception import build
from training.novelty import JudgingNetwork, Novelty, with_novelty

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from training.pretrained import StartWeights


def around(centre: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Features that vary more in some directions than in others."""
    generator = torch.Generator().manual_seed(seed)
    loose = torch.randn(count, 8, generator=generator) @ torch.diag(torch.tensor([4.0] * 3 + [0.1] * 5))
    return centre + loose


def test_usual_features_are_about_1_away_and_strange_ones_further() -> None:
    centre = torch.full((8,), 20.0)
    novelty = Novelty(around(centre, 400, seed=0))
    seen, new = novelty(around(centre, 400, seed=0)), novelty(around(centre, 400, seed=1))
    assert seen.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert new.square().mean().item() == pytest.approx(1, abs=0.2)
    strange = around(centre, 50, seed=2)
    strange[:, -1] += 2.0  # little beside what the first three do, but the last one never does it
    assert novelty(strange).min() > new.quantile(0.98)


def test_with_every_direction_it_is_mahalanobis_distance() -> None:
    features = around(torch.full((8,), 20.0), 400, seed=0)
    novelty = Novelty(features)
    unit = torch.nn.functional.normalize(features.double()).numpy() * 100
    # Seven of eight directions: unit vectors leave nothing for the last, and the rest is all that it has.
    along = (unit - unit.mean(axis=0)) @ novelty.directions.double().numpy()
    expected = EmpiricalCovariance(assume_centered=True).fit(along).mahalanobis(along) / 7
    rest = np.square(unit - unit.mean(axis=0)).sum(axis=1) - np.square(along).sum(axis=1)
    expected = np.sqrt((expected + rest / rest.mean()) / 2)
    assert novelty(features).numpy() == pytest.approx(expected, rel=0.02)


def test_the_length_of_features_says_nothing() -> None:
    features = around(torch.full((8,), 20.0), 60, seed=0)
    novelty = Novelty(features)
    torch.testing.assert_close(novelty(3 * features), novelty(features), rtol=1e-3, atol=1e-3)


def test_features_that_do_not_vary_are_no_division_by_nothing() -> None:
    same = torch.ones(6, 8)
    assert torch.isfinite(Novelty(same)(same)).all()


@torch.no_grad()
def test_a_judging_network_says_both_in_one_pass_and_keeps_the_rest(
    start: StartWeights, colour_folder: Path
) -> None:
    rated = colour_set(colour_folder)
    network = build(3, start)
    torch.nn.init.normal_(network.head.weight, std=0.05)
    train = parts(rated, train=6, validation=2).train
    judging = with_novelty(network, rated, train, side=SIDE, seed=0, device=torch.device("cpu"))
    pictures = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    logits, novelty = judging.judge(pictures)
    torch.testing.assert_close(logits, network(pictures))
    torch.testing.assert_close(judging(pictures), network(pictures))
    torch.testing.assert_close(novelty, judging.novelty(network.features(pictures)))
    assert judging.activations(pictures).keys() == network.activations(pictures).keys()


@torch.no_grad()
def test_noise_blanks_and_negatives_are_newer_to_a_checkpoint_than_held_out_pictures(
    colours: Checkpoint, colour_folder: Path
) -> None:
    rated = colour_set(colour_folder)
    held_out = outputs_of(colours, rated, parts(rated, train=6, validation=2).test)
    assert held_out.novelty is not None
    usual = np.median(held_out.novelty)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 3, SIDE, SIDE), dtype=np.uint8)
    blank = np.stack([np.full((3, SIDE, SIDE), grey, np.uint8) for grey in (0, 60, 128, 190, 255)])
    negative = 255 - np.stack([_read(path) for path in rated.pictures[::5]])
    for what, pictures in (("noise", noise), ("blank", blank), ("negative", negative)):
        _, novelty = colours.network.judge(torch.from_numpy(pictures))
        assert np.median(novelty.numpy()) > 1.2 * usual, what


def _read(path: Path) -> NDArray[np.uint8]:
    return decode(path.read_bytes(), side=SIDE).as_input(SIDE)


@torch.no_grad()
def test_half_precision_on_disk_costs_little(start: StartWeights, colour_folder: Path) -> None:
    rated = colour_set(colour_folder)
    network = build(3, start)
    train = parts(rated, train=6, validation=2).train
    novelty = with_novelty(network, rated, train, side=SIDE, seed=0, device=torch.device("cpu")).novelty
    features = torch.rand(8, 2048, generator=torch.Generator().manual_seed(0))
    exact = novelty(features)
    torch.testing.assert_close(novelty.half().float()(features), exact, rtol=0.01, atol=0.0)


@torch.no_grad()
def test_it_adds_little_to_the_file_and_to_the_work(start: StartWeights) -> None:
    network = build(7, start)
    features = torch.rand(200, 2048, generator=torch.Generator().manual_seed(0))
    judging = JudgingNetwork(network, Novelty(features)).eval()
    values = sum(buffer.numel() for buffer in judging.novelty.buffers())
    assert values < 0.01 * sum(weight.numel() for weight in network.parameters())
    pictures = torch.zeros(1, 3, 299, 299, dtype=torch.uint8)
    counted = []
    for work in (network, judging.judge):
        with FlopCounterMode(display=False) as counter:
            work(pictures)
        counted.append(counter.get_total_flops())
    assert counted[0] < counted[1] < 1.001 * counted[0]
