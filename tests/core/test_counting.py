"""What counters grew by, to the last observation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelexperiment.core.counting import (
    CountingError,
    Labels,
    Reset,
    Series,
    growth,
    next_sample,
    without_base,
)

Samples = Sequence[tuple[float, float]]


def labels(version: str, pod: str = "a") -> Labels:
    return (("__name__", "hits_total"), ("pod", pod), ("version", version))


def total(*series: Series, since: float, until: float, lost: bool = False) -> float:
    found = growth(series, since, until, ["version"], {}, known_until=until if lost else -math.inf)
    return sum(found.by_group.values())


def one(*samples: tuple[float, float]) -> Series:
    return Series(labels("v1"), samples)


def test_growth_is_the_last_value_less_the_one_before_the_span() -> None:
    assert total(one((0, 7), (15, 12), (30, 40)), since=0, until=30) == 33


def test_versions_are_counted_apart_and_pods_together() -> None:
    series = [
        Series(labels("v1", "a"), [(0, 0), (10, 3)]),
        Series(labels("v1", "b"), [(0, 5), (10, 9)]),
        Series(labels("v2", "a"), [(0, 1), (10, 2)]),
    ]

    found = growth(series, 0, 10, ["version"], {})

    assert found.by_group == {("v1",): 7, ("v2",): 1}


def test_series_without_the_label_are_a_group_of_their_own() -> None:
    found = growth([Series((("pod", "a"),), [(0, 0), (10, 3)])], 0, 10, ["version"], {})

    assert found.by_group == {("",): 3}


def test_a_restart_counts_from_zero() -> None:
    assert total(one((0, 100), (10, 120), (20, 8)), since=0, until=20) == 20 + 8


def test_one_pods_restart_is_not_hidden_by_another_pods_growth() -> None:
    # Their sum rises from 200 to 208, as if 8 had been counted; in truth 58 were.
    restarted = Series(labels("v1", "a"), [(0, 100), (10, 8)])
    growing = Series(labels("v1", "b"), [(0, 100), (10, 150)])

    assert total(restarted, growing, since=0, until=10) == 8 + 50


def test_a_restart_is_reported_with_its_series() -> None:
    found = growth([one((0, 100), (10, 8))], 0, 10, ["version"], {})

    assert found.resets == (Reset('hits_total{pod="a", version="v1"}', 100, 8),)


def test_a_series_that_was_not_there_before_counts_its_first_value() -> None:
    assert total(one((12, 5), (20, 9)), since=10, until=20) == 9


def test_a_series_that_was_silent_goes_on_from_its_earlier_value() -> None:
    found = growth([one((20, 9))], 10, 20, ["version"], {labels("v1"): 4.0})

    assert found.by_group == {("v1",): 5}


def test_a_sample_in_the_window_is_nearer_than_an_earlier_value() -> None:
    found = growth([one((9, 6), (20, 9))], 10, 20, ["version"], {labels("v1"): 4.0})

    assert found.by_group == {("v1",): 3}


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        pytest.param(10, 20, 2, id="the sample at `since` is the base, that at `until` counts"),
        pytest.param(9.999, 20, 3, id="a sample just after `since` counts"),
        pytest.param(10, 19.999, 0, id="a sample just after `until` does not"),
        pytest.param(20, 20, 0, id="an empty span counts nothing"),
    ],
)
def test_the_span_is_open_at_its_start_and_closed_at_its_end(
    since: float, until: float, expected: float
) -> None:
    assert total(one((5, 3), (10, 4), (20, 6)), since=since, until=until) == expected


def test_after_lost_history_a_first_value_is_only_a_base() -> None:
    assert total(one((12, 5_000), (20, 5_004)), since=10, until=20, lost=True) == 4


def test_with_an_earlier_sample_lost_history_changes_nothing() -> None:
    assert total(one((9, 5_000), (20, 5_004)), since=10, until=20, lost=True) == 4


def test_a_series_without_samples_in_the_span_is_seen_and_has_grown_by_nothing() -> None:
    found = growth([one((5, 3))], 10, 20, ["version"], {})

    assert (found.by_group, found.series, found.known) == ({("v1",): 0}, 1, 1)


def test_known_tells_how_many_series_were_there_before() -> None:
    old, new = Series(labels("v1", "a"), [(5, 3)]), Series(labels("v1", "b"), [(15, 3)])

    found = growth([old, new], 10, 20, ["version"], {})

    assert (found.series, found.known) == (2, 1)


def test_without_base_gives_the_series_whose_last_earlier_value_must_be_asked_for() -> None:
    old, new = Series(labels("v1", "a"), [(10, 3)]), Series(labels("v1", "b"), [(15, 3)])
    silent = Series(labels("v1", "c"), [])

    assert without_base([old, new, silent], 10) == [new]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("time", [5.0, 15.0], ids=["before the span", "in the span"])
def test_what_no_counter_can_say_is_refused_naming_the_series(time: float, value: float) -> None:
    series = one((time, value), (18, 3))

    with pytest.raises(CountingError, match=f"hits_total.*v1.* has the value {value:g}, which no"):
        growth([series], 10, 20, ["version"], {})


def test_an_impossible_value_before_a_good_one_is_history() -> None:
    assert total(one((5, math.nan), (8, 3), (20, 4)), since=10, until=20) == 1


GAUGE = one((0, 9), (5, 8), (10, 7), (15, 6))


def test_before_an_experiment_starts_a_gauge_is_told_by_its_third_fall() -> None:
    with pytest.raises(CountingError, match=r"fell 3 times \(last from 7 to 6\): it is not a c"):
        growth([GAUGE], 0, 20, ["version"], {}, strict=True)


def test_two_restarts_are_still_a_counters() -> None:
    found = growth([GAUGE], 0, 10, ["version"], {}, strict=True)

    assert found.by_group == {("v1",): 8 + 7}


def test_once_it_is_on_every_fall_counts_as_a_restart() -> None:
    found = growth([GAUGE], 0, 20, ["version"], {})

    assert (found.by_group, len(found.resets)) == ({("v1",): 8 + 7 + 6}, 3)


# Increments of a pod between scrapes; None is a restart before the next scrape.
LIVES = st.lists(st.one_of(st.integers(0, 1_000), st.none()), min_size=1, max_size=30)


def counter(life: Sequence[int | None], start: int = 0) -> Samples:
    samples, value = [(0.0, float(start))], start
    for scrape, added in enumerate(life, 1):
        value = 0 if added is None else value + added
        samples.append((float(scrape), float(value)))
    return samples


@given(LIVES, st.integers(0, 100))
def test_a_counters_whole_life_is_what_it_has_counted(
    life: Sequence[int | None], start: int
) -> None:
    served = sum(added or 0 for added in life)

    assert total(one(*counter(life, start)), since=0, until=len(life)) == served


@given(LIVES, st.integers(0, 100), st.integers(0, 30))
def test_a_span_split_anywhere_gives_the_same_total(
    life: Sequence[int | None], start: int, cut: int
) -> None:
    series, end = one(*counter(life, start)), len(life)
    cut = min(cut, end)

    halves = total(series, since=0, until=cut) + total(series, since=cut, until=end)

    assert halves == total(series, since=0, until=end)


@given(st.lists(LIVES, min_size=2, max_size=5), st.data())
def test_the_order_of_the_series_does_not_matter(
    lives: list[list[int | None]], data: st.DataObject
) -> None:
    series = [
        Series(labels(f"v{pod % 2}", str(pod)), counter(life)) for pod, life in enumerate(lives)
    ]
    shuffled = data.draw(st.permutations(series))

    totals = [growth(order, 0, 50, ["version"], {}).by_group for order in (series, shuffled)]

    assert totals[0] == totals[1]


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=6))
def test_nothing_ever_counts_negative(values: list[float]) -> None:
    series = one(*((float(i), value) for i, value in enumerate(values)))

    assert total(series, since=0, until=len(values)) >= 0


@pytest.mark.parametrize(
    ("at", "due"),
    [(10.0, 5.0), (12.0, 3.0), (15.0, 0.0), (16.0, -1.0), (17.5, -2.5), (18.0, 2.0), (33.0, 2.0)],
)
def test_the_next_sample_is_expected_at_the_pace_of_the_last_two(at: float, due: float) -> None:
    older = one((1.0, 1.0), (4.0, 1.0))
    assert next_sample([older, one((5.0, 1.0), (10.0, 2.0))], at) == (due, 5.0)


def test_without_two_samples_nothing_is_expected() -> None:
    assert next_sample([one((5.0, 1.0))], 6.0) is None
