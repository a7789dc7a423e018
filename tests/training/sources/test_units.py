from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training.sources.units import number_in, possible_units


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12", 12), ("0.25", 0.25), ("0,25", 0.25), (".5", 0.5), ("-1", -1), ("1e-3", 0.001), ("25 %", 25),
        ("25%", 25), ("", 0), ("NA", 0), ("n/a", 0), ("NaN", 0),
        ("many", None), ("1.000,5", None), ("1_0", None), ("inf", None), ("%", None), ("0,2,5", None),
    ],
)  # fmt: skip
def test_numbers_as_people_and_programs_write_them(cell: str, number: float | None) -> None:
    assert number_in(cell) == number


tables = st.integers(2, 6).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 15), min_size=k, max_size=k).filter(lambda row: sum(row) > 1),
        min_size=1,
        max_size=20,
    )
)


@given(tables)
def test_the_same_votes_are_recognised_in_each_unit(rows: list[list[int]]) -> None:
    counts = np.array(rows, np.float64)
    sums = counts.sum(axis=1, keepdims=True)
    assume((counts / sums % 1).any())  # a single emotion in every row reads as fractions
    assume((100 * counts / sums % 1).any())  # whole percents may be counts of 100 raters
    assume(not ((sums >= 95) & (sums <= 105)).any())
    assert possible_units(counts, None) == ("count",)
    assert possible_units(counts / sums, None) == ("fraction",)
    assert possible_units(np.round(100 * counts / sums, 2), None) in {("percent",), ("percent", "count")}
    assert possible_units(100 * counts / sums, None) == ("percent",)


def test_whole_percents_may_be_counts_unless_the_raters_are_known() -> None:
    votes = np.array([[60.0, 40.0], [33.0, 66.0]])
    assert possible_units(votes, None) == ("percent", "count")
    assert possible_units(votes, np.array([20.0, 20.0])) == ("percent",)
    assert possible_units(votes, np.array([100.0, 99.0])) == ("count",)


def test_whole_numbers_that_fewer_than_all_raters_chose_may_be_counts() -> None:
    votes = np.array([[60.0, 40.0], [50.0, 49.0], [40.0, 30.0]])
    assert possible_units(votes, np.full(3, 100.0)) == ("percent", "count")
    assert possible_units(votes, np.array([100.0, 99.0, 69.0])) == ("percent",), "more votes than raters"
    few = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert possible_units(few, np.full(3, 3.0)) == ("fraction", "count")


def test_single_ones_are_fractions() -> None:
    votes = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert possible_units(votes, None) == ("fraction",)
    assert possible_units(votes, np.ones(3)) == ("count",)
    assert possible_units(votes, np.full(3, 20.0)) == ("fraction",)


def test_some_rows_that_are_off_do_not_hide_the_unit() -> None:
    assert possible_units(np.array([[0.5, 0.5], [0.2, 0.8], [0.5, 0.1]]), None) == ("fraction",)
    assert possible_units(np.array([[60.0, 40.0], [30.0, 70.0], [60.0, 0.0]]), None) == ("percent", "count")


def test_numbers_of_no_unit() -> None:
    assert possible_units(np.array([[2.5, 3.5], [7.1, 1.0]]), None) == ()
