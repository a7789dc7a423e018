from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.affective_set import AffectiveSet, DataError, listing
from training.partition import cross_validation, split

if TYPE_CHECKING:
    from collections.abc import Sequence


def rated(
    votes: Sequence[Sequence[float]], *, groups: Sequence[int] | None = None, raters: float | None = None
) -> AffectiveSet:
    table = np.array(votes, np.float64)
    count, classes = table.shape
    return AffectiveSet(
        "test",
        tuple("abcdefgh"[:classes]),
        tuple(Path(f"{n}.jpg") for n in range(count)),
        agreement=table / table.sum(axis=1, keepdims=True),
        raters=None if raters is None else np.full(count, raters),
        groups=np.arange(count) if groups is None else np.array(groups),
        terms="free",
        citation="none",
    )


def one_hot(classes: Sequence[int], labels: int, groups: Sequence[int] | None = None) -> AffectiveSet:
    return rated(np.eye(labels)[list(classes)].tolist(), groups=groups)


votes = st.integers(2, 6).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 9), min_size=k, max_size=k).filter(any), min_size=1, max_size=30
    )
)


def test_dominant_is_the_label_with_most_votes_and_the_first_of_a_tie() -> None:
    pictures = rated([[1, 5, 2], [3, 1, 3], [0, 4, 4]])
    assert pictures.dominant.tolist() == [1, 0, 1]
    assert pictures.ties == 2
    assert pictures.frequencies() == {"a": 1, "b": 2, "c": 0}


def test_a_tie_survives_the_rounding_of_floating_point() -> None:
    tied = rated([[2, 2, 1]])
    nearly = replace(tied, agreement=np.array([[0.4, 0.4 + 1e-12, 0.2 - 1e-12]]))
    assert nearly.dominant.tolist() == [0]
    assert nearly.ties == 1


def test_filters_keep_the_votes_of_what_they_leave_out() -> None:
    pictures = rated([[9, 1, 0], [4, 3, 3], [0, 2, 8], [1, 8, 1]], raters=10)
    votes = np.array([[9, 1, 0], [4, 3, 3], [0, 2, 8], [1, 8, 1]])
    assert pictures.votes == pytest.approx(votes)
    part = pictures.subset(np.array([0, 1]))
    assert part.votes == pytest.approx(votes[:2]), "these were not chosen by their votes"
    agreed = pictures.keep_agreement(0.5)
    assert len(agreed) == 3
    assert agreed.votes == pytest.approx(votes)
    assert agreed.subset(np.array([0])).votes == pytest.approx(votes)
    narrow = agreed.only(["c", "a"])
    assert len(narrow) == 2
    assert narrow.votes == pytest.approx(votes[:, [2, 0]])
    assert rated([[9, 1], [4, 6]]).keep_agreement(0.7).votes is None, "nobody knows how many there were"


def test_subset_takes_indices_and_masks() -> None:
    pictures = rated([[1, 0], [0, 1], [1, 1]], groups=[4, 4, 9], raters=7)
    for chosen in (pictures.subset(np.array([2, 1])), pictures.subset(np.array([False, True, True]))):
        assert {path.name for path in chosen.pictures} == {"1.jpg", "2.jpg"}
    first = pictures.subset(np.array([2, 1]))
    assert [path.name for path in first.pictures] == ["2.jpg", "1.jpg"]
    assert first.groups.tolist() == [9, 4]
    assert first.agreement.tolist() == [[0.5, 0.5], [0, 1]]
    with pytest.raises(DataError, match="there is no picture"):
        pictures.subset(np.array([], np.int64))


def test_keep_agreement_keeps_the_threshold_itself_though_shares_were_rounded() -> None:
    pictures = rated([[0.599999, 0.400001], [0.59, 0.41], [0.9, 0.1]])
    assert [path.name for path in pictures.keep_agreement(0.6).pictures] == ["0.jpg", "2.jpg"]
    with pytest.raises(DataError, match=r"no picture of test has an agreement of at least 0\.95"):
        pictures.keep_agreement(0.95)


def test_top_classes_keeps_order_drops_pictures_and_shares_out_the_rest() -> None:
    pictures = rated([[6, 1, 3], [0, 1, 9], [2, 8, 0], [2, 0, 8]], raters=10)
    kept = pictures.top_classes(2)  # c dominates two pictures, a and b one each: a comes first
    assert kept.labels == ("a", "c")
    assert [path.name for path in kept.pictures] == ["0.jpg", "1.jpg", "3.jpg"]
    np.testing.assert_allclose(kept.agreement, [[6 / 9, 3 / 9], [0.0, 1.0], [0.2, 0.8]])
    assert kept.raters is not None
    np.testing.assert_allclose(kept.raters, [9, 9, 10])
    for k in (1, 4):
        with pytest.raises(DataError, match="has 3 labels"):
            pictures.top_classes(k)


def test_chosen_emotions_come_in_the_order_that_is_asked_for() -> None:
    pictures = rated([[6, 1, 3], [0, 1, 9], [2, 8, 0], [2, 0, 8]], raters=10)
    kept = pictures.only(["c", "a"])
    assert kept.labels == ("c", "a")
    assert kept.pictures == pictures.only(["a", "c"]).pictures
    assert np.array_equal(kept.agreement[:, ::-1], pictures.only(["a", "c"]).agreement)
    with pytest.raises(DataError, match="no ratings of awe"):
        pictures.only(["a", "awe"])


@given(votes, st.data())
def test_top_classes_never_changes_which_emotion_dominates(
    table: list[list[int]], data: st.DataObject
) -> None:
    pictures = rated(table)
    kept = pictures.top_classes(data.draw(st.integers(2, len(pictures.labels))))
    np.testing.assert_allclose(kept.agreement.sum(axis=1), 1)
    before = {path: pictures.labels[d] for path, d in zip(pictures.pictures, pictures.dominant, strict=True)}
    assert [kept.labels[d] for d in kept.dominant] == [before[path] for path in kept.pictures]
    counts = pictures.frequencies()
    assert len(kept) == sum(counts[label] for label in kept.labels)
    assert min(counts[label] for label in kept.labels) >= max(
        (counts[label] for label in pictures.labels if label not in kept.labels), default=0
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("agreement", np.array([[0.5, 0.5]]), r"shape \(1, 2\) instead of \(2, 2\)"),
        ("agreement", np.array([[0.5, 0.5], [0.5, 0.6]]), "sum to 1"),
        ("agreement", np.array([[0.5, 0.5], [-0.5, 1.5]]), "sum to 1"),
        ("agreement", np.array([[0.5, 0.5], [np.nan, 1.0]]), "sum to 1"),
        ("groups", np.array([1]), r"groups have shape \(1,\)"),
        ("raters", np.array([1.0]), r"raters have shape \(1,\)"),
        ("raters", np.array([1.0, 0.0]), "more than 0 raters"),
        ("raters", np.array([1.0, np.nan]), "more than 0 raters"),
        ("labels", ("a", "a"), "different labels"),
        ("labels", ("a", ""), "different labels"),
    ],
)
def test_contradicting_parts_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(rated([[1, 0], [0, 1]]), **{field: value})


def test_an_error_lists_twenty_problems_and_counts_the_others() -> None:
    error = DataError("bad", [f"problem {n}" for n in range(25)])
    assert "problem 19" in str(error)
    assert "problem 20" not in str(error)
    assert str(error).endswith("... and 5 more")
    assert len(error.problems) == 25
    assert "more" not in listing(["x"] * 20)
    assert str(DataError("bad")) == "bad"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=60, max_size=120),
    st.integers(0, 2**32 - 1),
)
def test_split_puts_each_picture_in_one_part_and_keeps_groups_together(
    pictures: list[tuple[int, int]], seed: int
) -> None:
    classes, groups = zip(*pictures, strict=True)
    affective_set = one_hot(classes, 4, groups)
    try:
        parts = split(affective_set, seed=seed)
    except DataError:  # a few large groups can make it impossible
        assert len(set(groups)) < 20 or max(np.bincount(classes)) < 8
        return
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(len(pictures)))
    owners = [
        set(affective_set.groups[part].tolist()) for part in (parts.train, parts.validation, parts.test)
    ]
    assert all(owners)
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]


def test_split_has_the_shares_and_the_mix_that_were_asked_for() -> None:
    affective_set = one_hot([0] * 120 + [1] * 40, 2)
    parts = split(affective_set, seed=0)
    for part, zeros, ones in ((parts.test, 24, 8), (parts.validation, 12, 4), (parts.train, 84, 28)):
        assert affective_set.subset(part).frequencies() == {"a": zeros, "b": ones}
        assert (np.diff(part) > 0).all()
    halves = split(affective_set, seed=0, test_share=0.5, validation_share=0.5)
    assert [len(part) for part in (halves.train, halves.validation, halves.test)] == [40, 40, 80]


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    affective_set = one_hot([0, 1] * 50, 2)
    first, again, other = (split(affective_set, seed=seed) for seed in (3, 3, 4))
    for part in ("train", "validation", "test"):
        assert getattr(first, part).tolist() == getattr(again, part).tolist()
    assert first.test.tolist() != other.test.tolist()


def test_split_takes_a_rare_emotion_without_a_warning() -> None:
    affective_set = one_hot([0] * 60 + [1] * 2, 2)
    parts = split(affective_set, seed=0)  # warnings are errors here
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 62


def test_a_part_that_is_far_from_its_share_is_told(caplog: pytest.LogCaptureFixture) -> None:
    classes = [0] * 100 + [1] * 100
    split(one_hot(classes, 2), seed=0)
    cross_validation(one_hot(classes, 2), folds=5, seed=0)
    assert caplog.text == ""
    one_giant = one_hot(classes, 2, groups=[0] * 80 + [*range(1, 121)])
    for seed in range(3):
        assert set(range(80)) <= set(split(one_giant, seed=seed).test), "whatever the seed"
    assert "of 200 pictures of test are one part, where 40 are its share" in caplog.text
    assert "its largest group, which is never cut, has 80" in caplog.text
    assert len(caplog.records) == 3
    cross_validation(one_giant, folds=5, seed=0, validation_share=0)
    assert len(caplog.records) == 4


def test_split_says_when_it_cannot() -> None:
    with pytest.raises(DataError, match="too few pictures"):
        split(one_hot([0, 1, 0], 2), seed=0)
    with pytest.raises(DataError, match="too few pictures"):
        split(one_hot([0, 1] * 50, 2, groups=[0, 1] * 50), seed=0)
    for share in (-0.1, 0.6, float("nan")):
        with pytest.raises(DataError, match=r"not between 0 and 0\.5"):
            split(one_hot([0, 1] * 50, 2), seed=0, test_share=share)
