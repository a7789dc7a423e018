from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import entr
from scipy.stats import binomtest

from app.card import Score
from training.affective_set import AffectiveSet
from training.metrics import (
    SMALLEST,
    accuracy_when_clear,
    balanced_accuracy,
    brier,
    calibration_error,
    canberra,
    chebyshev,
    clark,
    classwise_calibration_error,
    clear_and_common,
    common_labels,
    confusion,
    cosine,
    gap_closed,
    hits,
    intersection,
    kl_divergence,
    macro_f1,
    measure,
    measure_changes,
    measure_with_intervals,
    negative_log_likelihood,
    reference_levels,
    reliability,
    reliability_by_emotion,
)
from training.metrics.reference import concentration
from training.metrics.summary import BIASED

if TYPE_CHECKING:
    from pathlib import Path

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


def test_clark_and_canberra_are_over_the_number_of_emotions() -> None:
    # Relative differences 1/3, 1/2 and 1; none; and 1, none of 0/0, and 1.
    assert clark(PREDICTED, RATED) == pytest.approx([np.sqrt((1 / 9 + 1 / 4 + 1) / 3), 0, np.sqrt(2 / 3)])
    assert canberra(PREDICTED, RATED) == pytest.approx([(1 / 3 + 1 / 2 + 1) / 3, 0, 2 / 3])


def test_likelihood_and_brier_are_means_over_raters() -> None:
    half = -(0.25 * np.log(0.5) + 0.75 * np.log(0.25))
    same = entr([0.2, 0.5, 0.3]).sum()
    assert negative_log_likelihood(PREDICTED, RATED) == pytest.approx([half, same, -np.log(SMALLEST)])
    # Of four raters one chose the first emotion, three the second.
    first, second = 0.5**2 + 0.25**2 + 0.25**2, 0.5**2 + 0.75**2 + 0.25**2
    assert brier(PREDICTED, RATED)[0] == pytest.approx((first + 3 * second) / 4)
    assert brier(PREDICTED, RATED)[2] == pytest.approx(2)


def test_confusion_has_a_row_for_what_was_rated() -> None:
    counts = confusion(np.eye(3)[[0, 1, 1, 2]], np.eye(3)[[0, 0, 1, 0]])
    assert counts.tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 0]]
    weighted = confusion(np.eye(2)[[0, 1]], np.eye(2)[[0, 0]], np.array([3.0, 2.0]))
    assert weighted.tolist() == [[3, 2], [0, 0]]


def test_macro_f1_is_the_mean_of_the_emotions() -> None:
    predicted, rated = np.eye(4)[[0, 0, 1, 2]], np.eye(4)[[0, 1, 1, 1]]
    # 2 / 3 and 2 x 1 / (2 + 2) for those rated, 0 for the one only predicted; the last one is nowhere.
    assert macro_f1(predicted, rated) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_clear_and_common_pictures_are_told_apart_among_common_emotions() -> None:
    rated = table([0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0], [0.4, 0.3, 0.3])
    rated = np.vstack([rated, rated[:3]])
    assert common_labels(rated, at_least=2).tolist() == [0, 1]
    assert common_labels(rated, at_least=3).tolist() == [0]
    predicted = np.tile(table([0.2, 0.1, 0.7]), (len(rated), 1))  # the third is no answer that counts
    assert clear_and_common(predicted, rated, np.array([0, 1])).tolist() == [[4, 0], [2, 0]]
    assert clear_and_common(predicted, rated, np.array([], int)).shape == (0, 0)
    figures = measure(predicted, rated, common=np.array([0, 1]))
    assert figures["accuracy_when_clear_and_common"] == pytest.approx(4 / 6)
    assert figures["balanced_accuracy_when_clear_and_common"] == pytest.approx(1 / 2)


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


def test_reliability_is_what_the_calibration_error_is_made_of() -> None:
    predicted, rated = random_pictures(300)
    bins = reliability(predicted, rated)
    gaps = [abs(each.rated - each.confidence) * each.count for each in bins]
    assert sum(each.count for each in bins) == 300
    assert sum(gaps) / 300 == pytest.approx(calibration_error(predicted, rated))
    assert all(each.low <= each.confidence <= each.high for each in bins)
    by_emotion = reliability_by_emotion(predicted, rated, "abcd")
    errors = [sum(abs(b.rated - b.confidence) * b.count for b in bins) / 300 for bins in by_emotion.values()]
    assert list(by_emotion) == ["a", "b", "c", "d"]
    assert np.mean(errors) == pytest.approx(classwise_calibration_error(predicted, rated))


def test_classwise_calibration_error_sees_what_the_dominant_emotion_hides() -> None:
    predicted, rated = table([0.6, 0.4, 0.0]), table([0.6, 0.1, 0.3])
    assert calibration_error(predicted, rated) == pytest.approx(0)
    assert classwise_calibration_error(predicted, rated) == pytest.approx((0 + 0.3 + 0.3) / 3)


def test_accuracy_when_clear_leaves_out_pictures_without_a_majority() -> None:
    rated = table([0.6, 0.4], [0.5, 0.5], [0.4, 0.6])  # exactly one half is no majority
    predicted = table([0.9, 0.1], [0.1, 0.9], [0.9, 0.1])
    assert accuracy_when_clear(predicted, rated) == 0.5
    assert np.isnan(accuracy_when_clear(predicted[1:2], rated[1:2]))


def test_measure_has_every_figure_of_the_card() -> None:
    figures = measure(RATED, RATED)
    assert np.isnan(figures.pop("accuracy_when_clear_and_common")), "three pictures are not forty"
    assert np.isnan(figures.pop("balanced_accuracy_when_clear_and_common"))
    entropy = entr(RATED).sum(axis=1).mean()
    assert figures == pytest.approx(
        {
            "accuracy": 1,
            "accuracy_when_clear": 1,
            "balanced_accuracy": 1,
            "macro_f1": 1,
            "kl": 0,
            "chebyshev": 0,
            "clark": 0,
            "canberra": 0,
            "cosine": 1,
            "intersection": 1,
            "negative_log_likelihood": entropy,
            "brier": 1 - (RATED**2).sum(axis=1).mean(),
            "calibration_error": 0,
            "classwise_calibration_error": 0,
        }
    )


def test_intervals_hold_the_value_and_shrink_with_the_number_of_pictures() -> None:
    common = np.arange(3)
    few, many = (
        measure_with_intervals(*random_pictures(count), seed=1, resamples=200, common=common)
        for count in (30, 480)
    )
    assert few.keys() == many.keys() == measure(*random_pictures(30)).keys()
    # Those of few pictures: a class of two or three has no interval to speak of.
    sparse = {"balanced_accuracy_when_clear_and_common", "accuracy_when_clear_and_common"}
    for name in few.keys() - sparse:
        for scores in (few, many):
            assert scores[name].low <= scores[name].value <= scores[name].high, name
        if name in BIASED:
            continue
        # Sixteen times the pictures: a quarter of the width.
        narrower = (many[name].high - many[name].low) / (few[name].high - few[name].low)
        assert 0.15 < narrower < 0.4, name


def test_the_interval_of_a_perfect_calibration_holds_nothing_but_what_noise_allows() -> None:
    shares = np.repeat([0.5, 0.6, 0.7], 100)
    predicted = np.stack([shares, 1 - shares], axis=1)
    right = np.concatenate([np.arange(100) < 100 * share for share in (0.5, 0.6, 0.7)])
    found = measure_with_intervals(predicted, np.stack([right, ~right], axis=1).astype(float), seed=0)
    for name in BIASED:
        assert found[name].low == 0
        assert found[name].value == pytest.approx(0, abs=1e-9)


def test_changes_are_differences_on_the_same_pictures() -> None:
    (before, rated), (after, _) = random_pictures(40), random_pictures(40, seed=1)
    changes = measure_changes(before, after, rated, seed=0, resamples=50)
    was, now = measure(before, rated), measure(after, rated)
    assert {name: change.value for name, change in changes.items()} == pytest.approx(
        {name: now[name] - was[name] for name in was if np.isfinite(was[name])}
    )
    # Pictures that are easy to both predictions leave their difference alone.
    noisy, same = (
        measure_with_intervals(after, rated, seed=0, resamples=50),
        measure_changes(after, after, rated, seed=0, resamples=50),
    )
    assert noisy["kl"].high > noisy["kl"].low
    for name in ("kl", "brier", "intersection", "calibration_error"):
        assert (same[name].value, same[name].low, same[name].high) == (0, 0, 0)


def test_a_share_that_did_not_change_may_change_on_other_pictures() -> None:
    predicted, rated = (np.repeat(each, 2, axis=0) for each in random_pictures(60))
    after = 0.9 * predicted + 0.1 / 4  # no other emotion is the strongest
    alone, together = (
        measure_changes(predicted, after, rated, seed=0, resamples=20, groups=groups)
        for groups in (None, np.repeat(np.arange(60), 2))
    )
    for found, count in ((alone, 120), (together, 60)):
        wilson = binomtest(0, count).proportion_ci(method="wilson").high
        change = found["accuracy"]
        assert (change.value, change.low, change.high) == pytest.approx((0, -wilson, wilson), abs=1e-6)
        rarer = found["balanced_accuracy"], found["accuracy_when_clear"], found["macro_f1"]
        assert all(each.low == -each.high and each.high > wilson for each in rarer)
        assert found["kl"].low != -found["kl"].high, "a mean of distances is no share"


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
    assert (score.value, score.high) == (1, 1)
    assert 0 < score.low < 0.5, "one picture that is right proves little"


def test_all_right_and_all_wrong_have_an_interval() -> None:
    rated = np.eye(3)[np.arange(60) % 3]
    right = measure_with_intervals(rated, rated, seed=0, resamples=20)
    wrong = measure_with_intervals(np.roll(rated, 1, axis=1), rated, seed=0, resamples=20)
    wilson = binomtest(60, 60).proportion_ci(method="wilson").low
    for name in ("accuracy", "accuracy_when_clear", "balanced_accuracy", "macro_f1"):
        assert [right[name].low, right[name].high] == pytest.approx([wilson, 1], abs=1e-6)
        assert [wrong[name].low, wrong[name].high] == pytest.approx([0, 1 - wilson], abs=1e-6)
    assert right["intersection"].low == 1, "a mean of distances is no share"
    skewed = np.eye(2)[[0] * 58 + [1] * 2]
    few = measure_with_intervals(skewed, skewed, seed=0, resamples=20)
    assert few["balanced_accuracy"].low < few["accuracy"].low


def test_ten_photos_of_one_scene_are_one_trial() -> None:
    rated = np.eye(3)[np.repeat(np.arange(12) % 3, 10)]
    groups = np.repeat(np.arange(12), 10)
    right = measure_with_intervals(rated, rated, seed=0, resamples=20, common=np.arange(3), groups=groups)
    wilson = binomtest(12, 12).proportion_ci(method="wilson").low
    for name in right.keys() & {name for name in right if "accuracy" in name or name == "macro_f1"}:
        assert right[name].low == pytest.approx(wilson, abs=1e-6), name
    mixed = np.repeat(np.arange(4), 30)  # groups of every emotion: there still are no more than four
    few = measure_with_intervals(rated, rated, seed=0, resamples=20, groups=mixed)
    wilson = binomtest(4, 4).proportion_ci(method="wilson").low
    assert few["accuracy"].low == few["balanced_accuracy"].low == pytest.approx(wilson, abs=1e-6)


def test_half_of_the_raters_is_not_more_than_half_by_rounding() -> None:
    rated = table([0.5000003, 0.4999997], [0.51, 0.49])
    predicted = table([0.0, 1.0], [1.0, 0.0])
    assert accuracy_when_clear(predicted, rated) == 1
    assert np.isnan(accuracy_when_clear(predicted[:1], rated[:1]))
    assert common_labels(rated, at_least=1).tolist() == [0]


def test_the_chance_of_f1_is_that_of_a_die() -> None:
    rng = np.random.default_rng(3)
    rated = np.eye(4)[rng.choice(4, p=[0.6, 0.2, 0.15, 0.05], size=20_000)]
    die = np.eye(4)[rng.integers(4, size=20_000)]
    chance = reference_levels(rated, rated, None, seed=0)["chance"]
    assert chance["macro_f1"] == pytest.approx(macro_f1(die, rated), abs=0.01)
    assert chance["accuracy_when_clear"] == 0.25


def test_reference_levels_know_nothing_of_the_picture() -> None:
    trained_on = table([0.6, 0.4, 0.0], [0.8, 0.0, 0.2], [0.1, 0.8, 0.1])
    rated = table([0.7, 0.2, 0.1], [0.2, 0.8, 0.0])
    levels = reference_levels(trained_on, rated, None, seed=0)
    assert levels.keys() == {"chance", "majority", "mean"}
    assert levels["chance"]["accuracy"] == levels["chance"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert levels["chance"]["kl"] == pytest.approx(np.log(3) - entr(rated).sum(axis=1).mean())
    # A predictor that has no favourite is neither right nor confident.
    assert "calibration_error" not in levels["chance"]
    assert levels["majority"]["accuracy"] == levels["majority"]["balanced_accuracy"] == 0.5
    assert levels["majority"]["chebyshev"] == pytest.approx((0.3 + 0.8) / 2)
    mean = table([0.5, 0.4, 0.1])
    assert levels["mean"]["intersection"] == pytest.approx((0.5 + 0.2 + 0.1 + 0.2 + 0.4) / 2)
    assert levels["mean"]["kl"] == pytest.approx(kl_divergence(mean[[0, 0]], rated).mean())


def test_reference_levels_leave_out_what_cannot_be_measured() -> None:
    unclear = np.full((4, 2), 0.5)
    for level in reference_levels(unclear, unclear, np.full(4, 2.0), seed=0).values():
        assert np.isfinite(list(level.values())).all()
    for level in reference_levels(unclear, unclear, None, seed=0).values():
        assert "accuracy_when_clear" not in level


@pytest.mark.parametrize("count", [3, 15])
def test_the_raters_level_is_what_the_truth_would_score(count: int) -> None:
    rng = np.random.default_rng(5)
    truth = rng.dirichlet([0.2, 0.5, 1.0, 0.3], 1500)
    votes = rng.multinomial(count, truth) / count
    found = reference_levels(votes, votes, np.full(1500, float(count)), seed=0)["raters"]
    scored = measure(truth, votes, common=common_labels(votes))
    for name in ("accuracy", "kl", "negative_log_likelihood", "brier", "intersection", "clark"):
        assert found[name] == pytest.approx(scored[name], rel=0.08), name


@pytest.mark.parametrize("count", [5, 15])
def test_the_raters_level_is_what_the_truth_would_score_on_pictures_chosen_for_their_agreement(
    count: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    truth = rng.dirichlet([0.2, 0.5, 1.0, 0.3], 3000)
    pictures = AffectiveSet(
        name="drawn",
        labels=tuple("abcd"),
        pictures=tuple(tmp_path / str(place) for place in range(3000)),
        agreement=rng.multinomial(count, truth) / count,
        raters=np.full(3000, float(count)),
        groups=np.arange(3000),
        terms="",
        citation="",
    )
    kept = pictures.keep_agreement(0.6)
    assert len(kept) < 0.9 * len(pictures)
    rated, raters = kept.agreement, kept.raters
    found = reference_levels(rated, rated, raters, seed=0, votes=kept.votes)["raters"]
    scored = measure(truth[[int(path.name) for path in kept.pictures]], rated, common=common_labels(rated))
    for name in ("accuracy", "kl", "negative_log_likelihood", "brier", "intersection", "clark"):
        assert found[name] == pytest.approx(scored[name], rel=0.04), name
    assert found["accuracy"] == pytest.approx(scored["accuracy"], abs=0.01)
    known_least = reference_levels(rated, rated, raters, seed=0)["raters"]
    assert known_least["kl"] < found["kl"], "without the votes of the others the level is too good"


def test_the_concentration_is_that_of_the_distribution_the_votes_came_from() -> None:
    rng = np.random.default_rng(6)
    votes = rng.multinomial(20, rng.dirichlet([0.3, 2.0, 0.7], 3000)).astype(float)
    assert concentration(votes) == pytest.approx([0.3, 2.0, 0.7], rel=0.1)
    never = np.tile([3.0, 2.0, 0.0], (50, 1))
    assert 0 < concentration(never)[2] < 0.01


def test_the_raters_level_rises_with_their_number() -> None:
    _, rated = random_pictures(200)
    few, many, endless = (
        reference_levels(rated, rated, np.full(200, count), seed=0)["raters"] for count in (3.0, 30.0, 1e6)
    )
    assert few["kl"] > many["kl"] > endless["kl"]
    assert few["intersection"] < many["intersection"] < endless["intersection"]
    assert endless["intersection"] == pytest.approx(1, abs=0.01)
    assert endless["accuracy"] > 0.97


def test_one_vote_a_picture_tells_nothing_of_the_noise() -> None:
    _, rated = random_pictures(50)
    for count in (0.3, 1.0):  # shares of raters come from the filter for the most common classes
        assert reference_levels(rated, rated, np.full(50, count), seed=0).keys() == {
            "chance",
            "majority",
            "mean",
        }
    some = np.where(np.arange(50) < 25, 5.0, 0.3)
    part, one = (
        reference_levels(rated, rated, raters, seed=0)["raters"] for raters in (some, np.maximum(some, 1))
    )
    assert part == one
    assert "accuracy_when_clear_and_common" not in part, "there are too few pictures"
    assert part["kl"] > 0


def test_several_networks_have_the_mean_of_their_figures_and_share_the_resamples() -> None:
    first, rated = random_pictures(40)
    second, _ = random_pictures(40, seed=1)
    one, two, both = (
        measure_with_intervals(each, rated, seed=3, resamples=50)
        for each in (first, second, np.stack([first, second]))
    )
    assert both["kl"].value == pytest.approx((one["kl"].value + two["kl"].value) / 2)
    twice = measure_with_intervals(np.stack([first, first]), rated, seed=3, resamples=50)
    for name, score in one.items():
        assert twice[name].low == pytest.approx(score.low), "the same network twice says nothing new"
        assert twice[name].high == pytest.approx(score.high)


def test_near_duplicates_widen_the_interval() -> None:
    predicted, rated = (np.repeat(each, 4, axis=0) for each in random_pictures(40))
    alone = measure_with_intervals(predicted, rated, seed=1, resamples=400)["kl"]
    groups = np.repeat(np.arange(40), 4)
    together = measure_with_intervals(predicted, rated, seed=1, resamples=400, groups=groups)["kl"]
    assert together.value == alone.value
    # Four copies of a picture are one picture: the width is twice that of independent ones.
    assert 1.6 < (together.high - together.low) / (alone.high - alone.low) < 2.5


def test_the_way_to_the_raters_is_0_at_chance_and_1_at_their_level() -> None:
    references = {"chance": {"kl": 0.7, "cosine": 0.6, "same": 1.0}, "raters": {"kl": 0.1, "same": 1.0}}
    scores = {
        "kl": Score(value=0.4, low=0.34, high=0.46),
        "cosine": Score(value=0.8, low=0.7, high=0.9),
        "same": Score(value=1, low=1, high=1),
    }
    way = gap_closed(scores, references)
    assert way.keys() == {"kl"}, "the others have no level of the raters, or no way to go"
    assert (way["kl"].value, way["kl"].low, way["kl"].high) == pytest.approx((0.5, 0.4, 0.6))
    assert gap_closed(scores, {"chance": references["chance"]}) == {}
    _, rated = random_pictures(200)
    levels = reference_levels(rated, rated, np.full(200, 15.0), seed=0)
    at_floor = {name: Score(value=value, low=value, high=value) for name, value in levels["raters"].items()}
    at_floor["calibration_error"] = Score(value=0.1, low=0.1, high=0.1)  # chance has none of its own
    reached = gap_closed(at_floor, levels)
    without = {"classwise_calibration_error", "clark", "canberra"}  # in which chance may pass the truth
    assert reached.keys() == levels["chance"].keys() - without
    assert [each.value for each in reached.values()] == pytest.approx([1] * len(reached))
