"""Counters broken down by their labels: users' buckets, segments, a histogram's edges."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from modelexperiment.controller.counters import CounterReader
from modelexperiment.core.counting import Labels, Series
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import ExperimentStatus, Phase
from modelexperiment.core.tally import Cell
from modelexperiment.settings import Settings
from tests.controller.fakes import names_in
from tests.core.builders import ACCURACY, experiment

START = 1_000_000.0
USERS = {"header": "x-user-id", "buckets": 32, "bucketLabel": "bucket"}
DEVICE = {"name": "device", "label": "device", "values": ["ios"]}
P90 = {"name": "p90", "quantile": {"histogram": "seconds_bucket", "quantile": 0.9}}


class Samples:
    """A MetricSource with one sample of each series before the span and one within."""

    def __init__(self, *series: tuple[dict[str, str], float]) -> None:
        self._series = [
            Series(tuple(sorted(labels.items())), [(START - 5, 0.0), (START + 5, value)])
            for labels, value in series
        ]

    async def now(self, url: str) -> float:
        return START + 10

    async def samples(self, url: str, query: str, at: float) -> list[Series]:
        return [s for s in self._series if s.label("__name__") in names_in(query)]

    async def last_values(self, url: str, query: str, at: float) -> dict[Labels, float]:
        return {}

    async def number(self, url: str, query: str, at: float) -> float | str:
        return "has no data"


def read(source: Samples, **fields: Any) -> Counted | Problem:
    reader = CounterReader(source, Settings(prometheus_settle=timedelta(0)))
    begun = datetime.fromtimestamp(START, UTC)
    status = ExperimentStatus(phase=Phase.RUNNING, start_time=begun, counted_until=begun)
    return asyncio.run(reader.read(experiment(**fields), status, "http://p", START + 10))


def trials(version: str, value: float, **labels: str) -> tuple[dict[str, str], float]:
    return {"__name__": "labelled_total", "model_version": version, **labels}, value


def below(version: str, edge: str, value: float) -> tuple[dict[str, str], float]:
    return {"__name__": "seconds_bucket", "model_version": version, "le": edge}, value


def test_users_and_segments_are_counted_from_the_same_samples() -> None:
    source = Samples(
        trials("v1", 7, bucket="3", device="ios", pod="a"),
        trials("v1", 2, bucket="3", device="ios", pod="b"),
        trials("v1", 5, bucket="4", device="web"),
        trials("v1", 1, bucket="none", device="ios"),
        trials("v1", 4),
    )

    found = read(source, assignment=USERS, segments=[DEVICE])

    assert isinstance(found, Counted)
    arm = ("accuracy", "v1")
    assert found.increments[arm] == Increment(19, 0)
    assert found.buckets[arm] == {3: Increment(9, 0), 4: Increment(5, 0)}
    ios = found.segments["device", "ios"]
    assert ios.increments[arm] == Increment(10, 0)
    assert ios.buckets[arm] == {3: Increment(9, 0)}
    assert found.samples


def test_a_histogram_is_counted_by_its_edges() -> None:
    source = Samples(below("v1", "0.5", 8), below("v1", "+Inf", 10), below("v1", "1.0", 9))

    found = read(source, metrics=[ACCURACY, P90])

    assert isinstance(found, Counted)
    assert found.histograms == {Cell("p90", "v1"): {0.5: 8, 1.0: 9, float("inf"): 10}}


def test_what_is_no_histogram_is_a_problem_that_names_the_field() -> None:
    found = read(Samples(below("v1", "", 8)), metrics=[ACCURACY, P90])

    assert isinstance(found, Problem)
    assert found.reason == "NotAHistogram"
    assert found.message.startswith("spec.metrics[p90].quantile.histogram: ")
