"""Scrapes that are stored late: the count waits for them, and loses none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelexperiment.core.counting import DEFAULT_GAP, Series, growth, watermark

SETTLE, LATENESS = 2.0, 30.0


def one(*times: float) -> Series:
    return Series((("pod", "a"),), [(time, 0.0) for time in times])


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param([], 100, id="nothing to wait for"),
        pytest.param([one(80, 90, 100, 110)], 100, id="a later sample says that none is missing"),
        pytest.param([one(80, 90, 100)], 100, id="a sample at the end"),
        pytest.param([one(80, 90)], 90, id="the next sample may be on its way"),
        pytest.param([one(50, 60)], 60, id="overdue by as much as it may be"),
        pytest.param([one(49, 59)], 100, id="overdue by more: the target is gone"),
        pytest.param([one(80, 90), one(75, 85), one(100, 110)], 85, id="the one furthest behind"),
        pytest.param([one(20, 30)], 100, id="gone before the span began"),
        pytest.param([one(39, 49)], 100, id="gone while the span went on"),
        pytest.param([one(60)], 60, id="a single sample: the default gap"),
        pytest.param([one(100 - DEFAULT_GAP - LATENESS - 1)], 100, id="a single one, and gone"),
        pytest.param([Series((), [])], 100, id="no sample at all"),
        pytest.param([one(10, 40, 70)], 70, id="its own gap is long: 60 s overdue at most"),
        pytest.param([one(66, 67, 68, 69.3, 69.5)], 69.5, id="one short gap is not the usual one"),
    ],
)
def test_the_count_goes_up_to_where_no_sample_can_be_missing(
    series: list[Series], expected: float
) -> None:
    assert watermark(series, 30, 100, LATENESS) == expected


def test_the_count_never_goes_back() -> None:
    assert watermark([one(80, 90)], 95, 100, LATENESS) == 95


@dataclass(frozen=True)
class Scrape:
    """What a scrape saw: it is stored under `begun`, and to be seen from `stored` on."""

    begun: float
    stored: float
    value: float


@st.composite
def schedules(draw: st.DrawFn) -> list[list[Scrape]]:
    """Targets that are scraped every few seconds, one scrape after the other, some of them late."""
    targets = []
    for _ in range(draw(st.integers(1, 3))):
        gap, offset = draw(st.sampled_from([1.0, 5.0, 15.0])), draw(st.floats(0, 1))
        scrapes, value, tick, free = [Scrape(0.0, 0.0, 0.0)], 0.0, 0, 0.0
        for _ in range(draw(st.integers(3, 20))):
            tick += 1
            begun = (tick + offset) * gap
            if begun < free:
                # Prometheus leaves a tick out while the last scrape still runs.
                continue
            value += draw(st.integers(0, 9))
            # Of two late ones in a row, the first delays the second: together as late as may be.
            late = draw(st.one_of(st.just(0.1), st.floats(0.0, LATENESS / 2)))
            free = begun + late
            scrapes.append(Scrape(begun, free, value))
        targets.append(scrapes)
    return targets


def visible(targets: list[list[Scrape]], at: float) -> list[Series]:
    return [
        Series((("pod", str(pod)),), [(s.begun, s.value) for s in scrapes if s.stored <= at])
        for pod, scrapes in enumerate(targets)
    ]


def counted(targets: list[list[Scrape]], polls: Sequence[float], lateness: float | None) -> float:
    """Poll again and again; `lateness` None counts all that has settled, and waits for nothing."""
    since, total = 0.0, 0.0
    for at in polls:
        series, until = visible(targets, at), max(since, at - SETTLE)
        if lateness is not None:
            until = watermark(series, since, until, lateness)
        total += sum(growth(series, since, until, [], {}).by_group.values())
        since = until
    return total


def polls_of(pauses: Sequence[float]) -> list[float]:
    """Polls at these pauses, and one after everything has been stored."""
    return [*itertools.accumulate(pauses), 1e4]


PAUSES = st.lists(st.floats(0.5, 20), min_size=5, max_size=60)


@settings(max_examples=400)
@given(schedules(), PAUSES)
def test_however_late_scrapes_are_stored_the_total_is_exact(
    targets: list[list[Scrape]], pauses: list[float]
) -> None:
    served = sum(scrapes[-1].value for scrapes in targets)

    assert counted(targets, polls_of(pauses), LATENESS) == served


LATE = [[Scrape(0, 0, 0), Scrape(10, 10, 4), Scrape(20, 29, 9), Scrape(30, 30, 12)]]
POLLS = [12.0, 25.0, 32.0, 1e4]


def test_without_the_watermark_what_a_late_scrape_grew_by_is_lost() -> None:
    assert counted(LATE, POLLS, None) == 7
    assert counted(LATE, POLLS, LATENESS) == 12


def test_a_scrape_that_is_later_than_it_may_be_is_lost() -> None:
    late = [[Scrape(0, 0, 0), Scrape(10, 10, 4), Scrape(20, 60, 9), Scrape(70, 70, 12)]]

    assert counted(late, [12.0, 51.0, 1e4], LATENESS) == 12
    assert counted(late, [12.0, 55.0, 1e4], LATENESS) == 7


def test_a_target_that_is_gone_holds_the_others_for_as_long_as_a_sample_may_be_late() -> None:
    gone, alive = one(10, 20), one(10, 20, 30, 40, 50, 60, 70)

    held = [watermark([gone, alive], 20, at, LATENESS) for at in (25.0, 60.0, 60.1)]

    assert held == [20, 20, 60.1]
