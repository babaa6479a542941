"""The ports in memory: an API server with resource versions, a route, a Prometheus.

Each fake yields to the loop where the real one would wait, so that two workers interleave. All of
them write what they did into one journal.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from modelexperiment.controller import reconcile
from modelexperiment.controller.alerting import Courier
from modelexperiment.controller.gather import Gatherer
from modelexperiment.controller.queue import Key
from modelexperiment.controller.reconcile import Reconciler
from modelexperiment.core.alerting import Receiver
from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.counting import Labels, Series
from modelexperiment.core.events import Event
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.notices import Notice
from modelexperiment.core.rollout import Split
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.ports import ConflictError, Object, UnavailableError
from modelexperiment.settings import Settings
from tests.core.builders import ERRORS, LEAST

URL = "http://prometheus:9090"
ALLOWED = ("http://alertmanager:9093", "https://hooks.example.com")
KEY = Key("fraud", "fraud-v2")
ORIGINAL = {"route": [{"destination": {"host": "fraud", "subset": "v1"}}]}
SCRAPE = 5.0


class Crash(BaseException):
    """The process dies here."""


class Journal(list[str]):
    """What was written, in order; `before` may raise in the place of a write."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str], None] = lambda _: None

    async def write(self, what: str) -> None:
        """Yield to the others, then note the write, or fail it."""
        await asyncio.sleep(0)
        self.before(what)
        self.append(what)


class FakeStore:
    """An ExperimentStore with resource versions."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[Event] = []
        self.stalled: dict[Key, dict[str, Any]] | None = None
        self.reads: list[str] = []
        self._versions = itertools.count(1)

    def create(self, key: Key, spec: Mapping[str, Any]) -> None:
        """What `kubectl apply` does."""
        self.objects[key] = {
            "apiVersion": "experiments.mlops.dev/v1alpha1",
            "kind": "ModelExperiment",
            "metadata": {
                "namespace": key.namespace,
                "name": key.name,
                "uid": f"uid-of-{key.name}",
                "generation": 1,
                "creationTimestamp": f"2026-03-01T12:00:0{len(self.objects)}Z",
                "resourceVersion": str(next(self._versions)),
            },
            "spec": copy.deepcopy(dict(spec)),
        }

    def edit(self, key: Key, **fields: Any) -> None:
        """What an edit by somebody else does."""
        found = self.objects[key]
        found["spec"].update(fields)
        found["metadata"]["generation"] += 1
        self._touch(found)

    def delete(self, key: Key) -> None:
        """What `kubectl delete` does to an object with finalizers."""
        self.objects[key]["metadata"]["deletionTimestamp"] = "2026-03-02T12:00:00Z"
        self._touch(self.objects[key])
        self._collect(key)

    def stall(self) -> None:
        """Let the watch tell nothing more."""
        self.stalled = copy.deepcopy(self.objects)

    def _touch(self, found: dict[str, Any]) -> None:
        found["metadata"]["resourceVersion"] = str(next(self._versions))

    def _collect(self, key: Key) -> None:
        metadata = self.objects[key]["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self.objects[key]

    def status(self, key: Key = KEY) -> ExperimentStatus:
        """The status as it is stored."""
        return ExperimentStatus.model_validate(self.objects[key].get("status", {}))

    async def get(self, namespace: str, name: str) -> Object | None:
        await asyncio.sleep(0)
        self.reads.append("as it is")
        return copy.deepcopy(self.objects.get(Key(namespace, name)))

    async def known(self, namespace: str, name: str) -> Object | None:
        await asyncio.sleep(0)
        self.reads.append("as it is known")
        objects = self.objects if self.stalled is None else self.stalled
        return copy.deepcopy(objects.get(Key(namespace, name)))

    async def list(self, namespace: str) -> Sequence[Object]:
        await asyncio.sleep(0)
        return [copy.deepcopy(o) for key, o in self.objects.items() if key.namespace == namespace]

    def _current(self, seen: Object) -> dict[str, Any]:
        metadata = seen["metadata"]
        found = self.objects.get(Key(metadata["namespace"], metadata["name"]))
        if found is None or (found["metadata"]["resourceVersion"] != metadata["resourceVersion"]):
            raise ConflictError("somebody else wrote in between")
        return found

    async def write_status(self, seen: Object, status: Mapping[str, Any]) -> None:
        await self.journal.write("status")
        found = self._current(seen)
        found["status"] = copy.deepcopy(dict(status))
        self._touch(found)

    async def add_finalizer(self, seen: Object) -> Object:
        await self.journal.write("finalizer")
        found = self._current(seen)
        found["metadata"].setdefault("finalizers", ["operator"])
        self._touch(found)
        return copy.deepcopy(found)

    async def remove_finalizer(self, seen: Object) -> None:
        await self.journal.write("release")
        found = self._current(seen)
        found["metadata"].pop("finalizers", None)
        self._touch(found)
        self._collect(Key(found["metadata"]["namespace"], found["metadata"]["name"]))

    async def tell(self, seen: Object, events: Sequence[Event]) -> None:
        await asyncio.sleep(0)
        self.events += events

    def told(self) -> list[str]:
        """The reasons of all events so far."""
        return [str(event.reason) for event in self.events]


class FakeRouter:
    """A TrafficRouter for one route."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.split: Split | None = {"v1": 100.0, "v2": 0.0}
        self.destinations: Any = ORIGINAL
        self.table: SegmentTable | None = None
        self.problem: Problem | None = None
        self.marker: str | None = None
        self.pending: Problem | None = None
        self.wrong: Problem | None = None
        self.mirrors: dict[str, float] = {}

    async def read(self, experiment: Experiment) -> RouteSeen | Problem:
        await asyncio.sleep(0)
        if self.wrong:
            return self.wrong
        segments = tuple(self.table.segments) if self.table else None
        return RouteSeen(
            self.split,
            self.destinations,
            segments,
            self.table is not None,
            mirrors=dict(self.mirrors),
            pending=self.pending,
            marker=self.marker,
        )

    async def apply(self, experiment: Experiment, routing: Routing) -> Problem | None:
        await self.journal.write("route")
        if self.problem is None:
            self.split, self.destinations = routing.split, {"route": list(routing.split)}
            self.marker = routing.marker
            self.table = routing.table
            for target in routing.retired:
                self.mirrors.pop(target, None)
            if routing.mirror:
                self.mirrors[routing.mirror.target] = routing.mirror.percent
        return self.problem

    async def restore(
        self, experiment: Experiment, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        await self.journal.write("restore")
        if self.problem is None:
            self.split, self.destinations = {"v1": 100.0, "v2": 0.0}, original
            self.marker = None
            self.table = None
            self.mirrors = {t: p for t, p in self.mirrors.items() if t not in mirrored}
        return self.problem


class FakeProduction:
    """Two versions with counters that a Prometheus scrapes; a MetricSource."""

    _RANGE = re.compile(r"^(?:last_over_time\()?(\w*)\{.*\}\[(\d+)ms\]\)?$")

    def __init__(self) -> None:
        self.time = round(time.time(), 3)
        self.served = {"v1": 0, "v2": 0}
        self.errors: dict[str, float | str] = {"v1": 0.0, "v2": 0.0}
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self._samples: dict[Labels, list[tuple[float, float]]] = {}
        self._counters: dict[Labels, float] = {}
        for version in self.served:
            for name in ("labelled_total", "correct_total"):
                self._counters[_labels(name, version)] = 0.0
        self.scrape()

    def serve(self, v1: int, v2: int) -> None:
        """Serve requests, half of them right, and let time pass until they are scraped."""
        for version, requests in (("v1", v1), ("v2", v2)):
            self.served[version] += requests
            self._counters[_labels("labelled_total", version)] += requests
            self._counters[_labels("correct_total", version)] += requests // 2
        self.time += SCRAPE
        self.scrape()

    def restart(self, version: str) -> None:
        """The model server of a version starts anew."""
        for name in ("labelled_total", "correct_total"):
            self._counters[_labels(name, version)] = 0.0

    def scrape(self) -> None:
        """Store every counter's value under the present time."""
        for labels, value in self._counters.items():
            self._samples.setdefault(labels, []).append((self.time, value))

    def settle(self) -> None:
        """Let time pass until what was scraped may be counted."""
        for _ in range(3):
            self.serve(0, 0)

    async def _ask(self, query: str) -> None:
        await asyncio.sleep(0)
        self.asked.append(query)
        if self.failure is not None:
            raise self.failure

    async def now(self, url: str) -> float:
        await self._ask("time()")
        assert url == URL
        return self.time

    async def samples(self, url: str, query: str, at: float) -> list[Series]:
        await self._ask(query)
        found = self._RANGE.match(query)
        assert found, query
        window, names = int(found[2]) / 1000, names_in(query)
        return [
            Series(labels, seen)
            for labels, samples in self._samples.items()
            if dict(labels)["__name__"] in names
            and (seen := [(t, v) for t, v in samples if at - window < t <= at])
        ]

    async def last_values(self, url: str, query: str, at: float) -> dict[Labels, float]:
        series = await self.samples(url, query, at)
        return {one.labels: one.samples[-1][1] for one in series}

    async def number(self, url: str, query: str, at: float) -> float | str:
        await self._ask(query)
        return next(value for version, value in self.errors.items() if version in query)


def names_in(query: str) -> list[str]:
    """The names of the counters whose samples a range selector asks for."""
    name, _, rest = query.removeprefix("last_over_time(").partition("{")
    return [name] if name else rest.removeprefix('__name__=~"').partition('"')[0].split("|")


def _labels(name: str, version: str) -> Labels:
    return (("__name__", name), ("model_version", version))


class FakeObserver:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.polls: list[bool] = []
        self.lags: list[float] = []
        self.failures: list[str] = []
        self.deliveries: list[tuple[str, bool]] = []
        self.rollbacks: list[float] = []
        self.writes: list[str] = []
        self.history: list[str] = []
        self.seen: dict[object, str] = {}

    @contextmanager
    def reconcile(self) -> Iterator[None]:
        yield

    @contextmanager
    def poll(self, due: bool) -> Iterator[None]:
        self.polls.append(due)
        yield

    def lag(self, seconds: float) -> None:
        self.lags.append(seconds)

    def error(self, reason: str) -> None:
        self.failures.append(reason)

    def alert(self, kind: str, delivered: bool) -> None:
        self.deliveries.append((kind, delivered))

    def status_written(self) -> None:
        self.writes.append("status")

    def route_written(self, succeeded: bool) -> None:
        self.writes.append("route" if succeeded else "no route")

    def rolled_back(self, seconds: float) -> None:
        self.rollbacks.append(seconds)

    def knows(self, key: tuple[str, str]) -> bool:
        return key in self.seen

    def observe(self, key: tuple[str, str], status: ExperimentStatus, champion: str) -> None:
        self.seen[key] = str(status.phase)
        self.history.append(str(status.phase))

    def forget(self, key: tuple[str, str]) -> None:
        self.seen.pop(key, None)


class FakeAlerter:
    """An Alerter that remembers what it was given, and fails as long as it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Notice]] = []
        self.problem = ""

    async def send(self, receiver: Receiver, namespace: str, notices: Sequence[Notice]) -> None:
        await asyncio.sleep(0)
        if self.problem:
            raise UnavailableError(self.problem)
        self.sent += [(receiver.kind, notice) for notice in notices]

    def told(self) -> list[tuple[str, str, str]]:
        """(kind of receiver, alert, state), in order."""
        return [(kind, str(n.record.name), str(n.record.state)) for kind, n in self.sent]


class Cluster:
    """An experiment in a cluster, and an operator that can be killed at any write."""

    def __init__(self, monkeypatch: Any, **fields: Any) -> None:
        self.journal = Journal()
        self.store = FakeStore(self.journal)
        self.router = FakeRouter(self.journal)
        self.production = FakeProduction()
        self.observer = FakeObserver()
        self.alerter = FakeAlerter()
        self.settings = Settings(prometheus_url=URL, alerts_allowed_urls=ALLOWED)
        self.store.create(KEY, {**LEAST, "guardrails": [ERRORS], **fields})
        clock = SimpleNamespace(monotonic=lambda: self.production.time)
        monkeypatch.setattr(reconcile, "time", clock)
        self.operator = self.new_operator()

    def new_operator(self) -> Reconciler:
        """An operator that has just started and remembers nothing."""
        gatherer = Gatherer(self.store, self.router, self.production, self.settings)
        self.courier = Courier(self.alerter, self.observer, lambda _: None)
        return Reconciler(self.store, self.router, gatherer, self.observer, self.courier)

    def reconcile(self, operator: Reconciler | None = None) -> float | None:
        """Work on the experiment once; gives when to do so again."""
        return asyncio.run((operator or self.operator)(KEY))

    def start(self) -> None:
        """Reconcile until the traffic is split."""
        self.reconcile()
        self.reconcile()
        assert self.router.split == {"v1": 50.0, "v2": 50.0}
        self.journal.clear()
        self.store.events.clear()

    def poll(self) -> float | None:
        """Let time pass until a poll is due, and reconcile."""
        self.production.settle()
        return self.reconcile()

    def counted(self) -> dict[str, float]:
        """The samples that the status says were seen."""
        (entry,) = self.store.status().analysis
        return {"v1": entry.champion.samples, "v2": entry.challenger.samples}
