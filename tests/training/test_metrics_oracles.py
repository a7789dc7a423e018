"""The figures, against those of libraries that have them too.

Where raters disagree, a picture becomes one case for each of its votes: then a distribution's figures must
be those of a library that knows one label a case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from netcal.metrics import ECE
from scipy.spatial.distance import canberra as scipy_canberra
from sklearn import metrics as sklearn
from torchmetrics.functional import classification as torchmetrics
from torchmetrics.functional.regression import cosine_similarity
from torchmetrics.functional.regression import kl_divergence as torchmetrics_kl

from training import metrics

if TYPE_CHECKING:
    from training.metrics import Floats

LABELS, VOTES = 5, 8


@pytest.fixture(scope="module")
def predicted() -> Floats:
    return np.random.default_rng(0).dirichlet([0.6] * LABELS, 400)


@pytest.fixture(scope="module")
def votes(predicted: Floats) -> Floats:
    """Votes that have to do with the predictions, as those of a network that has learned something."""
    return np.random.default_rng(1).multinomial(VOTES, 0.5 * predicted + 0.5 / LABELS).astype(np.float64)


@pytest.fixture(scope="module")
def rated(votes: Floats) -> Floats:
    return votes / VOTES


@pytest.fixture(scope="module")
def cases(predicted: Floats, votes: Floats) -> tuple[Floats, Floats]:
    """Every vote as a case of its own: predictions ``[N V, K]`` and labels ``[N V]``."""
    chosen = [np.repeat(np.arange(LABELS), row.astype(int)) for row in votes]
    return np.repeat(predicted, VOTES, axis=0), np.concatenate(chosen)


def test_what_is_right(predicted: Floats, rated: Floats) -> None:
    truth, answer = rated.argmax(axis=1), predicted.argmax(axis=1)
    inputs = torch.from_numpy(predicted), torch.from_numpy(truth)
    assert metrics.hits(predicted, rated).mean() == pytest.approx(sklearn.accuracy_score(truth, answer))
    assert metrics.balanced_accuracy(predicted, rated) == pytest.approx(
        torchmetrics.multiclass_accuracy(*inputs, num_classes=LABELS, average="macro").item()
    )
    assert metrics.balanced_accuracy(predicted, rated) == pytest.approx(
        sklearn.balanced_accuracy_score(truth, answer)
    )
    assert metrics.macro_f1(predicted, rated) == pytest.approx(
        torchmetrics.multiclass_f1_score(*inputs, num_classes=LABELS, average="macro").item()
    )
    assert metrics.macro_f1(predicted, rated) == pytest.approx(
        sklearn.f1_score(truth, answer, average="macro")
    )
    table = torchmetrics.multiclass_confusion_matrix(*inputs, num_classes=LABELS)
    assert metrics.confusion(predicted, rated).tolist() == table.tolist()


def test_macro_f1_of_emotions_that_do_not_all_occur() -> None:
    truth, answer = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 0])
    ours = metrics.macro_f1(np.eye(LABELS)[answer], np.eye(LABELS)[truth])
    assert ours == pytest.approx(sklearn.f1_score(truth, answer, average="macro"))


def test_distances(predicted: Floats, rated: Floats) -> None:
    theirs = cosine_similarity(torch.from_numpy(predicted), torch.from_numpy(rated), reduction="none")
    assert metrics.cosine(predicted, rated) == pytest.approx(theirs.numpy())
    smooth = 0.9 * rated + 0.1 / LABELS  # theirs has no 0 log 0
    theirs = torchmetrics_kl(torch.from_numpy(smooth), torch.from_numpy(predicted), reduction="none")
    assert metrics.kl_divergence(predicted, smooth) == pytest.approx(theirs.numpy())
    pairs = zip(predicted, rated, strict=True)
    canberra = [scipy_canberra(first, second) / LABELS for first, second in pairs]
    assert metrics.canberra(predicted, rated) == pytest.approx(canberra)


def test_proper_scores(predicted: Floats, rated: Floats, cases: tuple[Floats, Floats]) -> None:
    shares, labels = cases
    assert metrics.negative_log_likelihood(predicted, rated).mean() == pytest.approx(
        sklearn.log_loss(labels, shares)
    )
    brier = sklearn.brier_score_loss(labels, shares, scale_by_half=False)
    assert metrics.brier(predicted, rated).mean() == pytest.approx(brier)


def test_calibration(predicted: Floats, rated: Floats, cases: tuple[Floats, Floats]) -> None:
    shares, labels = cases
    ours = metrics.calibration_error(predicted, rated)
    assert ours == pytest.approx(ECE(metrics.BINS).measure(shares, labels))
    theirs = torchmetrics.multiclass_calibration_error(
        torch.from_numpy(shares), torch.from_numpy(labels), LABELS, n_bins=metrics.BINS
    )
    assert ours == pytest.approx(theirs.item(), abs=1e-5)  # in single precision
    each = [
        torchmetrics.binary_calibration_error(
            torch.from_numpy(shares[:, k].copy()),
            torch.from_numpy((labels == k).astype(int)),
            n_bins=metrics.BINS,
        ).item()
        for k in range(LABELS)
    ]
    assert metrics.classwise_calibration_error(predicted, rated) == pytest.approx(np.mean(each), abs=1e-5)
