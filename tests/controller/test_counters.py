"""From raw samples to increments: washout, lost history, series that come and go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from modelexperiment.controller.counters import CounterReader
from modelexperiment.core.manifest import Experiment, parse_spec
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import ArmEstimate, ExperimentStatus, MetricAnalysis
from modelexperiment.settings import Settings
from tests.controller.fakes import URL, FakeProduction
from tests.core.builders import LEAST

SETTLED = Settings(prometheus_settle=timedelta(0))


class Reader:
    """Reads again and again, and goes on where it ended."""

    def __init__(self, settings: Settings = SETTLED, **analysis: Any) -> None:
        self.production = FakeProduction()
        self.experiment = Experiment("ns", "e", parse_spec({**LEAST, "analysis": analysis}))
        self.settings = settings
        now = datetime.fromtimestamp(self.production.time, UTC)
        self.status = ExperimentStatus(phase="Running", start_time=now, counted_until=now)

    def read(self) -> Counted | Problem:
        reader = CounterReader(self.production, self.settings)
        return asyncio.run(reader.read(self.experiment, self.status, URL, self.production.time))

    def count(self) -> Counted:
        """Read, and take it as counted."""
        found = self.read()
        assert isinstance(found, Counted), found
        assert found.since == self.status.counted_until
        seen = MetricAnalysis(
            metric="accuracy",
            role="Primary",
            model_version="v2",
            champion=ArmEstimate(samples=1),
            challenger=ArmEstimate(samples=1),
            significant=False,
            method="exact",
        )
        self.status = self.status.model_copy(
            update={"counted_until": found.until, "analysis": [seen]}
        )
        return found


def trials(found: Counted) -> tuple[float, float]:
    return (found.increments["accuracy", "v1"].n, found.increments["accuracy", "v2"].n)


def test_trials_and_successes_are_read_together() -> None:
    reader = Reader()
    reader.production.serve(10, 8)

    found = reader.count()

    assert found.increments == {
        ("accuracy", "v1"): Increment(10, 5),
        ("accuracy", "v2"): Increment(8, 4),
    }
    assert found.samples
    assert reader.production.asked == [
        '{__name__=~"correct_total|labelled_total", model_version=~"v1|v2"}[305000ms]'
    ]


def test_nothing_new_is_no_samples() -> None:
    reader = Reader()
    reader.production.serve(0, 0)

    assert not reader.count().samples


def test_a_restart_is_counted_from_zero_and_reported() -> None:
    reader = Reader()
    reader.production.serve(10, 10)
    reader.count()
    reader.production.restart("v2")
    reader.production.serve(1, 4)

    found = reader.count()

    assert trials(found) == (1, 4)
    assert {reset.series for reset in found.resets} == {
        'labelled_total{model_version="v2"}',
        'correct_total{model_version="v2"}',
    }


def test_the_washout_is_passed_over_to_the_second() -> None:
    reader = Reader(washout="10s")
    counts = []
    for _ in range(4):
        reader.production.serve(1, 1)
        found = reader.count()
        counts.append(found.increments.get(("accuracy", "v1"), Increment(0, 0)).n)

    assert counts == [0, 0, 1, 1]


def test_one_poll_over_the_end_of_the_washout_counts_what_came_after_it() -> None:
    reader = Reader(washout="10s")
    for _ in range(4):
        reader.production.serve(1, 1)

    assert trials(reader.count()) == (2, 2)


def test_a_series_that_fell_silent_for_longer_than_the_lookback_goes_on() -> None:
    reader = Reader(Settings(prometheus_settle=timedelta(0), prometheus_lookback=timedelta(0)))
    reader.production.serve(10, 10)
    reader.count()
    reader.production.serve(3, 2)

    assert trials(reader.count()) == (3, 2)


def test_after_prometheus_lost_its_history_nothing_is_invented() -> None:
    reader = Reader()
    reader.production.serve(1_000, 1_000)
    reader.count()
    reader.production._samples.clear()
    reader.production.serve(5, 5)
    reader.production.serve(3, 2)

    found = reader.count()

    assert found.history_lost
    assert found.samples
    assert trials(found) == (3, 2)


def test_all_counters_wait_for_a_scrape_that_is_stored_late() -> None:
    reader = Reader()
    reader.production.serve(10, 8)
    reader.count()
    reader.production.serve(10, 8)
    late = {
        labels: samples.pop()
        for labels, samples in reader.production._samples.items()
        if dict(labels)["model_version"] == "v2"
    }

    waiting = reader.count()
    for labels, sample in late.items():
        reader.production._samples[labels].append(sample)
    found = reader.count()

    assert (waiting.until, trials(waiting)) == (waiting.since, (0, 0))
    assert trials(found) == (10, 8)


def test_before_the_start_it_only_looks_whether_there_are_counters() -> None:
    reader = Reader()
    reader.status = ExperimentStatus()
    reader.production.serve(5, 5)

    found = reader.read()

    assert isinstance(found, Counted)
    assert (found.silent, found.resets) == ((), ())
    assert found.until == datetime.fromtimestamp(reader.production.time, UTC)


def test_before_the_start_a_gauge_is_refused() -> None:
    reader = Reader()
    reader.status = ExperimentStatus()
    for _ in range(4):
        reader.production.serve(5, 5)
        reader.production.serve(1, 1)
        reader.production.restart("v1")

    found = reader.read()

    assert isinstance(found, Problem)
    assert found.reason == "NotACounter"
    assert "fell 3 times" in found.message
