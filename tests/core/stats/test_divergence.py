"""How far two histograms are apart, held against scipy and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial import distance

from modelexperiment.core.stats import bins_of, jensen_shannon, stability_index

PAIRS = st.integers(2, 12).flatmap(
    lambda k: st.tuples(*(st.lists(st.integers(0, 1_000), min_size=k, max_size=k),) * 2)
)


@given(PAIRS)
def test_the_jensen_shannon_divergence_is_the_square_of_scipys_distance(
    pair: tuple[list[int], list[int]],
) -> None:
    one, other = (np.array(counts, dtype=np.float64) for counts in pair)
    assume(one.any() and other.any())

    found = jensen_shannon(one, other)

    assert found == pytest.approx(distance.jensenshannon(one, other, base=2) ** 2, abs=1e-9)
    assert found == pytest.approx(jensen_shannon(other, one), abs=1e-12)
    assert 0 <= found <= 1


def test_the_same_shares_are_not_apart_and_disjoint_ones_are_wholly() -> None:
    one, ten_times, disjoint = np.array([1.0, 3, 0]), np.array([10.0, 30, 0]), np.array([0.0, 0, 5])

    assert jensen_shannon(one, ten_times) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(one, disjoint) == 1


def test_the_stability_index_by_hand() -> None:
    # Half added to every count: 10 and 30 of 40, 20 and 20 of 40.
    # (.5 - .25) ln(.5 / .25) + (.5 - .75) ln(.5 / .75)
    by_hand = 0.25 * math.log(2) - 0.25 * math.log(2 / 3)

    assert stability_index(np.array([9.5, 29.5]), np.array([19.5, 19.5])) == pytest.approx(by_hand)


def test_an_empty_bin_gives_a_finite_index() -> None:
    # 100.5 and .5 of 101, and the other way round: (100 / 101) ln(201) twice.
    found = stability_index(np.array([100.0, 0]), np.array([0.0, 100]))

    assert found == pytest.approx(2 * (100 / 101) * math.log(201))


@given(PAIRS)
def test_the_stability_index_is_zero_only_for_the_same_and_symmetric(
    pair: tuple[list[int], list[int]],
) -> None:
    one, other = (np.array(counts, dtype=np.float64) for counts in pair)

    assert stability_index(one, one) == 0
    assert stability_index(one, other) >= 0
    assert stability_index(one, other) == pytest.approx(stability_index(other, one))


def test_bins_come_from_counts_up_to_each_edge() -> None:
    assert bins_of({math.inf: 9.0, 0.1: 2.0, 0.5: 7.0}) == {0.1: 2.0, 0.5: 5.0, math.inf: 2.0}


def test_counts_that_fall_from_edge_to_edge_are_no_histogram() -> None:
    with pytest.raises(ValueError, match=r"count is 1\.0, not the 2 of the edge before 0\.5"):
        bins_of({0.1: 2.0, 0.5: 1.0})
