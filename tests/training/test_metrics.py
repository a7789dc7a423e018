from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import entr

from training.metrics import (
    SMALLEST,
    accuracy_when_clear,
    balanced_accuracy,
    calibration_error,
    chebyshev,
    cosine,
    hits,
    intersection,
    kl_divergence,
    measure,
    measure_with_intervals,
    reference_levels,
)

if TYPE_CHECKING:
    from training.metrics import Floats


def table(*rows: list[float]) -> Floats:
    return np.array(rows, np.float64)


def random_pictures(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet([0.5] * 4, count), rng.dirichlet([0.5] * 4, count)


PREDICTED = table([0.5, 0.25, 0.25], [0.2, 0.5, 0.3], [1.0, 0.0, 0.0])
RATED = table([0.25, 0.75, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0])


def test_kl_divergence_is_from_the_raters_to_the_prediction_and_survives_zeros() -> None:
    expected = [0.25 * np.log(0.5) + 0.75 * np.log(3), 0.0, -np.log(SMALLEST)]
    assert kl_divergence(PREDICTED, RATED) == pytest.approx(expected)
    half = kl_divergence(table([1.0, 0.0]), table([0.5, 0.5]))
    assert half == pytest.approx([np.log(0.5) - 0.5 * np.log(SMALLEST)])
    assert kl_divergence(table([0.5, 0.5]), table([1.0, 0.0])) == pytest.approx([np.log(2)])


def test_chebyshev_is_the_largest_difference() -> None:
    assert chebyshev(PREDICTED, RATED) == pytest.approx([0.5, 0, 1])


def test_cosine_is_that_of_the_angle() -> None:
    first = (0.125 + 0.1875) / np.sqrt((0.25 + 2 / 16) * (1 / 16 + 9 / 16))
    assert cosine(PREDICTED, RATED) == pytest.approx([first, 1, 0])


def test_intersection_is_the_shared_mass() -> None:
    assert intersection(PREDICTED, RATED) == pytest.approx([0.5, 1, 0])


def test_a_hit_is_the_right_dominant_emotion() -> None:
    assert hits(PREDICTED, RATED).tolist() == [0, 1, 0]


def test_balanced_accuracy_weighs_every_emotion_that_occurs_alike() -> None:
    rated = np.eye(4)[[0, 0, 0, 0, 1, 1]]  # emotions 2 and 3 dominate no picture
    predicted = np.eye(4)[[0, 0, 0, 2, 1, 3]]
    assert balanced_accuracy(predicted, rated) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_calibration_error_compares_confidence_with_votes_bin_by_bin() -> None:
    # Two bins. Below one half: confidence 0.4 and 0.4, votes 0.4 and 0. Above: confidence 0.9, votes 0.5.
    predicted = table([0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.9, 0.1, 0.0])
    rated = table([0.4, 0.6, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0])
    assert calibration_error(predicted, rated, bins=2) == pytest.approx(2 / 3 * 0.2 + 1 / 3 * 0.4)
    # A single bin takes the means of everything: errors of opposite sign cancel.
    assert calibration_error(predicted, rated, bins=1) == pytest.approx(1.7 / 3 - 0.9 / 3)


def test_calibration_error_of_full_confidence_falls_into_the_last_bin() -> None:
    certain = np.eye(2)[[0, 0, 1, 1]]
    assert calibration_error(certain, certain) == 0
    assert calibration_error(certain, np.eye(2)[[0, 1, 1, 1]]) == pytest.approx(0.25)
    nearly = table([1.0, 0.0], [0.95, 0.05])
    assert calibration_error(nearly, table([0.9, 0.1], [1.0, 0.0])) == pytest.approx(0.975 - 0.95)


def test_the_raters_themselves_are_calibrated() -> None:
    _, rated = random_pictures(50)
    assert calibration_error(rated, rated) == pytest.approx(0, abs=1e-12)


def test_accuracy_when_clear_leaves_out_pictures_without_a_majority() -> None:
    rated = table([0.6, 0.4], [0.5, 0.5], [0.4, 0.6])  # exactly one half is no majority
    predicted = table([0.9, 0.1], [0.1, 0.9], [0.9, 0.1])
    assert accuracy_when_clear(predicted, rated) == 0.5
    assert np.isnan(accuracy_when_clear(predicted[1:2], rated[1:2]))


def test_measure_has_every_figure_of_the_card() -> None:
    figures = measure(RATED, RATED)
    assert figures == pytest.approx(
        {
            "accuracy": 1,
            "accuracy_when_clear": 1,
            "balanced_accuracy": 1,
            "kl": 0,
            "chebyshev": 0,
            "cosine": 1,
            "intersection": 1,
            "calibration_error": 0,
        }
    )


def test_intervals_hold_the_value_and_shrink_with_the_number_of_pictures() -> None:
    few, many = (
        measure_with_intervals(*random_pictures(count), seed=1, resamples=200) for count in (30, 480)
    )
    assert few.keys() == many.keys() == measure(*random_pictures(30)).keys()
    for name in few.keys() - {"calibration_error"}:  # biased upwards, the more so the fewer pictures
        for scores in (few, many):
            assert scores[name].low <= scores[name].value <= scores[name].high, name
        # Sixteen times the pictures: a quarter of the width.
        narrower = (many[name].high - many[name].low) / (few[name].high - few[name].low)
        assert 0.15 < narrower < 0.4, name


def test_intervals_depend_on_the_seed_and_on_nothing_else() -> None:
    pictures = random_pictures(20)
    first, again, other = (measure_with_intervals(*pictures, seed=seed, resamples=50) for seed in (1, 1, 2))
    assert first == again
    assert first["kl"].value == other["kl"].value
    assert first["kl"].low != other["kl"].low


def test_a_figure_that_cannot_be_measured_is_left_out() -> None:
    unclear = table([0.5, 0.5], [0.4, 0.6], [0.5, 0.5])[[0, 2]]
    scores = measure_with_intervals(unclear, unclear, seed=0, resamples=20)
    assert "accuracy_when_clear" not in scores
    assert scores["accuracy"].value == 1


def test_a_figure_that_some_resamples_lack_still_has_an_interval() -> None:
    rated = table([0.5, 0.5], [0.1, 0.9])  # one resample in four has no clear picture
    score = measure_with_intervals(rated, rated, seed=0, resamples=40)["accuracy_when_clear"]
    assert (score.low, score.value, score.high) == (1, 1, 1)


def test_reference_levels_know_nothing_of_the_picture() -> None:
    trained_on = table([0.6, 0.4, 0.0], [0.8, 0.0, 0.2], [0.1, 0.8, 0.1])
    rated = table([0.7, 0.2, 0.1], [0.2, 0.8, 0.0])
    levels = reference_levels(trained_on, rated, None, seed=0)
    assert levels.keys() == {"chance", "majority", "mean"}
    assert levels["chance"]["accuracy"] == levels["chance"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert levels["chance"]["kl"] == pytest.approx(np.log(3) - entr(rated).sum(axis=1).mean())
    # A predictor that has no favourite is neither right nor confident.
    assert not levels["chance"].keys() & {"accuracy_when_clear", "calibration_error"}
    assert levels["majority"]["accuracy"] == levels["majority"]["balanced_accuracy"] == 0.5
    assert levels["majority"]["chebyshev"] == pytest.approx((0.3 + 0.8) / 2)
    mean = table([0.5, 0.4, 0.1])
    assert levels["mean"]["intersection"] == pytest.approx((0.5 + 0.2 + 0.1 + 0.2 + 0.4) / 2)
    assert levels["mean"]["kl"] == pytest.approx(kl_divergence(mean[[0, 0]], rated).mean())


def test_reference_levels_leave_out_what_cannot_be_measured() -> None:
    unclear = np.full((4, 2), 0.5)
    for level in reference_levels(unclear, unclear, np.full(4, 2.0), seed=0).values():
        assert np.isfinite(list(level.values())).all()
    assert "accuracy_when_clear" not in reference_levels(unclear, unclear, None, seed=0)["mean"]


def test_the_raters_level_rises_with_their_number() -> None:
    _, rated = random_pictures(200)
    few, many, endless = (
        reference_levels(rated, rated, np.full(200, count), seed=0)["raters"] for count in (3.0, 30.0, 1e6)
    )
    assert few["kl"] > many["kl"] > endless["kl"]
    assert few["intersection"] < many["intersection"] < endless["intersection"]
    assert endless["intersection"] == pytest.approx(1, abs=0.01)
    assert endless["accuracy"] > 0.97


def test_less_than_one_rater_counts_as_one() -> None:
    _, rated = random_pictures(50)  # shares of raters come from the filter for the most common classes
    part, one = (reference_levels(rated, rated, np.full(50, count), seed=0)["raters"] for count in (0.3, 1.0))
    assert part == one
    assert part["kl"] > 0
