"""What statistical guardrails are read from: settled counts, and what came after them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelexperiment.controller.counters import CounterReader
from modelexperiment.controller.gather import Gatherer
from modelexperiment.core.manifest import Experiment, parse_experiment, parse_spec
from modelexperiment.core.snapshot import Counted, Guarded
from modelexperiment.core.status import ExperimentStatus, Memory
from modelexperiment.settings import Settings
from tests.controller.fakes import KEY, URL, FakeProduction, FakeRouter, FakeStore, Journal
from tests.core.builders import ERRORS, LEAST, PROPORTION

RAIL = {"name": "right", "proportion": PROPORTION, "min": 0.1}


class Reader:
    """Reads guardrails' counters, ten seconds of which are not settled."""

    def __init__(self, **fields: Any) -> None:
        self.production = FakeProduction()
        fields = {"guardrails": [RAIL], "analysis": {"interval": "5s"}, **fields}
        self.experiment = Experiment("ns", "e", parse_spec({**LEAST, **fields}))
        now = datetime.fromtimestamp(self.production.time, UTC)
        self.status = ExperimentStatus(
            phase="Running", start_time=now, counted_until=now, memory=Memory(guarded_until=now)
        )

    def read(self) -> Guarded:
        reader = CounterReader(self.production, Settings(prometheus_url=URL))
        at = self.production.time
        found = asyncio.run(reader.read_guarded(self.experiment, self.status, URL, at))
        assert isinstance(found, Guarded), found
        return found

    def settle(self, until: datetime) -> None:
        memory = self.status.memory.model_copy(update={"guarded_until": until})
        self.status = self.status.model_copy(update={"memory": memory})


def trials(counted: Counted) -> float:
    found = counted.increments.get(("right", "v2"))
    return found.n if found else 0.0


def test_what_is_not_settled_is_read_step_by_step_up_to_now() -> None:
    reader = Reader()
    for served in (10, 20, 30, 40):
        reader.production.serve(100, served)

    found = reader.read()

    assert trials(found.settled) == 10 + 20
    assert [trials(step) for step in found.unsettled] == [30, 40]
    assert found.settled.next_sample == (5.0, 5.0)


def test_each_sample_settles_once() -> None:
    reader, settled = Reader(), 0.0
    for served in range(1, 30):
        reader.production.serve(100, served)
        found = reader.read()
        settled += trials(found.settled)
        reader.settle(found.settled.until)
        assert settled + sum(map(trials, found.unsettled)) == reader.production.served["v2"]


def test_a_sample_that_is_stored_late_is_not_lost() -> None:
    reader = Reader()
    reader.production.serve(100, 10)
    late = {name: its.pop() for name, its in reader.production._samples.items()}
    first = reader.read()
    assert (trials(first.settled), sum(map(trials, first.unsettled))) == (0, 0)
    reader.settle(first.settled.until)
    for name, sample in late.items():
        reader.production._samples[name].append(sample)
    reader.production.settle()
    assert trials(reader.read().settled) + sum(map(trials, reader.read().unsettled)) == 10


def test_without_such_a_guardrail_nothing_is_read() -> None:
    reader = Reader(guardrails=[ERRORS])
    counters = CounterReader(reader.production, Settings(prometheus_url=URL))
    found = counters.read_guarded(reader.experiment, reader.status, URL, reader.production.time)

    assert asyncio.run(found) is None
    assert reader.production.asked == []


def test_an_outage_is_read_in_one_step_and_then_as_ever() -> None:
    reader = Reader()
    for _ in range(100):
        reader.production.serve(100, 10)

    found = reader.read()

    assert trials(found.settled) == 980
    assert found.settled.until - found.settled.since == timedelta(seconds=490)
    assert len(found.unsettled) == 2


def test_people_are_shown_the_prometheus_that_they_can_open() -> None:
    store = FakeStore(Journal())
    store.create(KEY, {**LEAST, "guardrails": [ERRORS]})
    seen = store.objects[KEY]
    settings = Settings(prometheus_url=URL)
    shown = []
    for external in ("", "https://prometheus.example.com"):
        own = replace(settings, prometheus_external_url=external)
        gatherer = Gatherer(store, FakeRouter(store.journal), FakeProduction(), own)
        snapshot = gatherer.snapshot(parse_experiment(seen), ExperimentStatus(), seen, poll=True)
        shown.append(asyncio.run(snapshot).prometheus)

    assert shown == [URL, "https://prometheus.example.com"]
