"""Quantiles: which edge of the histogram is compared, and what is counted of it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.exceedance import ENOUGH, count_exceedances, edge_of, nearest_edge
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Cell
from tests.core.builders import ACCURACY, POLL, START, Life, spec

P90: dict[str, Any] = {
    "name": "p90",
    "goal": "Decrease",
    "quantile": {"histogram": "seconds_bucket", "quantile": 0.9},
}
ASKED = spec(metrics=[ACCURACY, P90])
INF = math.inf
V1, V2 = Cell("p90", "v1"), Cell("p90", "v2")
HISTOGRAM = {0.1: 600.0, 0.5: 900.0, 1.0: 990.0, INF: 1_000.0}


def counted(**fields: Any) -> Counted:
    return Counted(START, START + POLL, {("accuracy", "v1"): Increment(10, 5)}, **fields)


@pytest.mark.parametrize(
    ("histogram", "quantile", "edge"),
    [
        (HISTOGRAM, 0.9, 0.5),
        (HISTOGRAM, 0.97, 1.0),
        (HISTOGRAM, 0.5, 0.1),
        # Above the last edge it is the last one that is taken, never +Inf.
        (HISTOGRAM, 0.999, 1.0),
        ({0.1: 10, 0.5: 30, INF: 100}, 0.95, 0.5),
        # Of two as near, the lower one.
        ({0.1: 40, 0.5: 60, INF: 100}, 0.5, 0.1),
        # An edge with nothing above it says little, where there is another one.
        ({0.1: 85, 0.5: 100, INF: 100}, 0.95, 0.1),
        ({0.1: 0, 0.5: 100, INF: 100}, 0.95, 0.5),
        ({INF: 100}, 0.95, None),
        ({0.1: 0, INF: 0}, 0.95, None),
        ({}, 0.95, None),
    ],
)
def test_the_edge_is_the_one_nearest_to_the_quantile(
    histogram: dict[float, float], quantile: float, edge: float | None
) -> None:
    assert nearest_edge(histogram, quantile) == edge


def test_the_poll_that_names_the_edge_is_not_compared() -> None:
    poll = counted(histograms={V1: HISTOGRAM, V2: HISTOGRAM})

    first, edges = count_exceedances(ASKED, None, poll)
    second, same = count_exceedances(ASKED, edges, poll)

    assert edges == same == {"p90": {"edge": 0.5}}
    assert first.increments == poll.increments
    assert second.increments == {
        ("accuracy", "v1"): Increment(10, 5),
        ("p90", "v1"): Increment(1_000, 100),
        ("p90", "v2"): Increment(1_000, 100),
    }


def test_an_edge_needs_enough_of_the_champions_observations() -> None:
    few = {edge: n / 10 for edge, n in HISTOGRAM.items()}
    poll = counted(histograms={V1: few, V2: HISTOGRAM})
    edges: Any = None
    for seen in (100.0, 200.0):
        assert edge_of(edges, ASKED.metrics[1]) is None
        _, edges = count_exceedances(ASKED, edges, poll)
        if seen < ENOUGH:
            assert edges == {"p90": {"seen": {"0.1": 60, "0.5": 90, "1.0": 99, "inf": 100}}}

    assert edges == {"p90": {"edge": 0.5}}


def test_only_an_edge_that_all_versions_have_can_be_named() -> None:
    other = {0.1: 600.0, 1.0: 990.0, INF: 1_000.0}

    _, edges = count_exceedances(ASKED, None, counted(histograms={V1: HISTOGRAM, V2: other}))

    assert edges == {"p90": {"edge": 1.0}}


@pytest.mark.parametrize(("lacks", "named"), [(0.5, "le=0.5"), (INF, r"le=\+Inf")])
def test_a_version_that_lacks_the_edge_is_named(lacks: float, named: str) -> None:
    other = {edge: n for edge, n in HISTOGRAM.items() if edge != lacks}
    poll = counted(histograms={V1: HISTOGRAM, V2: other})

    with pytest.raises(
        ValueError, match=rf"^spec\.metrics\[p90\]\.quantile\.histogram: v2 .*{named}"
    ):
        count_exceedances(ASKED, {"p90": {"edge": 0.5}}, poll)


def test_users_and_segments_are_counted_at_the_same_edge() -> None:
    ios = (("device", "ios"),)
    cells = {
        Cell("p90", "v1", 3, ios): HISTOGRAM,
        Cell("p90", "v1", 4): {edge: n / 10 for edge, n in HISTOGRAM.items()},
        Cell("p90", "v1"): HISTOGRAM,
    }

    found, _ = count_exceedances(ASKED, {"p90": {"edge": 1.0}}, counted(histograms=cells))

    arm = ("p90", "v1")
    assert found.increments[arm] == Increment(2_100, 21)
    assert found.buckets[arm] == {3: Increment(1_000, 10), 4: Increment(100, 1)}
    assert found.segments[ios[0]].increments == {arm: Increment(1_000, 10)}


def test_exceedances_that_are_counted_already_stay_as_they_are() -> None:
    poll = Counted(START, START + POLL, {("p90", "v1"): Increment(100, 9)})

    assert count_exceedances(ASKED, None, poll) == (poll, {})


def test_a_metric_that_changes_looks_for_its_edge_anew() -> None:
    life = Life(metrics=[ACCURACY, P90])
    life.start()
    histograms = {V1: HISTOGRAM, V2: HISTOGRAM}
    for _ in range(2):
        life.now += timedelta(seconds=15)
        since = life.status.counted_until
        assert since is not None
        seen = Counted(since, life.now, {}, histograms=histograms)
        life.decide(life.snapshot(counted=seen))
    (_, entry) = life.status.analysis
    assert entry.method.endswith("share of observations above 0.5, an edge of the histogram")
    assert (entry.champion.samples, entry.champion.estimate) == (1_000, 0.1)

    life.edit(metrics=[ACCURACY, {**P90, "quantile": {**P90["quantile"], "quantile": 0.5}}])
    life.poll()
    assert life.status.memory.edges is None
