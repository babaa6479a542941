"""The operator's own metrics, for Prometheus: what the process does, and what experiments say."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from modelexperiment.adapters.experiment_series import ExperimentCollector, points
from modelexperiment.core.status import ExperimentStatus, Phase
from modelexperiment.ports import QueryError, UnavailableError

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROLLBACK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
_LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

ERRORS = ("conflict", "unavailable", "unreadable", "unexpected")
"""Why a reconcile failed: somebody wrote in between; API server or status; the spec; a defect."""
API_ERRORS = ("conflict", "forbidden", "timeout", "throttled", "server", "unreachable", "other")
"""How a request to the API server failed. That an object is not there is an answer, no error."""
QUERY_ERRORS = ("bad_query", "unavailable")
"""How a query failed: it is wrong, or Prometheus does not answer as it should."""


class Telemetry:
    """An Observer. All series of a follower say only that it follows, and what its process did."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phases: dict[tuple[str, str], Phase] = {}
        self._series = ExperimentCollector()
        self.registry.register(self._series)
        self._experiments = self._gauge("experiments", "Experiments by phase.", "phase")
        self._leader = self._gauge("leader", "1 while this process holds the Lease and works.")
        self._build = self._gauge("build_info", "1 for the version that runs.", "version")
        self._reconciles = self._histogram(
            "reconcile_seconds", "Time to work on one experiment once."
        )
        self._polls = self._histogram(
            "poll_seconds", "Time to read route, metrics and guardrails of one experiment."
        )
        self._lags = self._histogram(
            "poll_lag_seconds",
            "From when a poll was due until it was done; polls after a failure are not in it.",
            _LAG_BUCKETS,
        )
        self._errors = self._counter("errors", "Reconciles that are tried again.", "reason")
        self._rollbacks = self._counter("rollbacks", "Experiments that went back to the champion.")
        self._rollback_times = self._histogram(
            "rollback_seconds",
            "From the start of the poll that saw the breach until the route was written.",
            _ROLLBACK_BUCKETS,
        )
        self._status_writes = self._counter("status_writes", "Statuses written.")
        self._route_writes = self._counter("route_writes", "Writes of a split.", "result")
        self._api_errors = self._counter(
            "api_errors", "Requests to the API server that failed.", "kind"
        )
        self._alerts = self._counter(
            "alert_deliveries",
            "Attempts to deliver alerts, by kind of receiver.",
            "receiver",
            "result",
        )
        self._queries = self._histogram(
            "prometheus_query_seconds", "Time of one query to a Prometheus."
        )
        self._query_errors = self._counter(
            "prometheus_errors", "Queries to a Prometheus that failed.", "kind"
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._from_zero()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"modelexperiment_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modelexperiment_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _BUCKETS) -> Histogram:
        return Histogram(f"modelexperiment_{name}", text, buckets=buckets, registry=self.registry)

    def _from_zero(self) -> None:
        """Let every counter be there before it first counts: rate() misses a series' first step."""
        self._leader.set(0)
        self._build.labels(version("modelexperiment")).set(1)
        for counter, kinds in (
            (self._errors, ERRORS),
            (self._route_writes, ("written", "failed")),
            (self._api_errors, API_ERRORS),
            (self._query_errors, QUERY_ERRORS),
        ):
            for kind in kinds:
                counter.labels(kind)

    def lead(self) -> None:
        """From now on this process works."""
        self._leader.set(1)
        self._publish()

    def follow(self) -> None:
        """This process works no longer: what it knew of experiments is no longer so."""
        self._leader.set(0)
        self._series.clear()
        self._phases = {}
        self._experiments.clear()

    @contextmanager
    def reconcile(self) -> Iterator[None]:
        """Time a reconcile."""
        with self._reconciles.time():
            yield

    @contextmanager
    def poll(self, due: bool) -> Iterator[None]:
        """Time a poll, if one is due."""
        if not due:
            yield
            return
        with self._polls.time():
            yield

    def lag(self, seconds: float) -> None:
        """Note how long after it was due a poll was done."""
        self._lags.observe(seconds)

    @contextmanager
    def query(self) -> Iterator[None]:
        """Time a query to a Prometheus, and count its failure."""
        try:
            with self._queries.time():
                yield
        except QueryError:
            self._query_errors.labels("bad_query").inc()
            raise
        except UnavailableError:
            self._query_errors.labels("unavailable").inc()
            raise

    def error(self, reason: str) -> None:
        """Count a failed reconcile: one of ERRORS."""
        self._errors.labels(reason).inc()

    def alert(self, kind: str, delivered: bool) -> None:
        """Count an attempt to deliver alerts to a kind of receiver."""
        self._alerts.labels(kind, "delivered" if delivered else "failed").inc()

    def api_error(self, kind: str) -> None:
        """Count a failed request to the API server: one of API_ERRORS."""
        self._api_errors.labels(kind).inc()

    def status_written(self) -> None:
        """Count a write of a status."""
        self._status_writes.inc()

    def route_written(self, succeeded: bool) -> None:
        """Count a write of a route."""
        self._route_writes.labels("written" if succeeded else "failed").inc()

    def rolled_back(self, seconds: float) -> None:
        """Note how long after the start of the poll that saw the breach the route was written."""
        self._rollback_times.observe(seconds)

    def knows(self, key: tuple[str, str]) -> bool:
        """Whether an experiment, (namespace, name), was observed before."""
        return key in self._series

    def observe(self, key: tuple[str, str], status: ExperimentStatus, champion: str) -> None:
        """Take an experiment's state in."""
        before = self._phases.get(key)
        self._phases[key] = status.phase
        if status.phase is Phase.ROLLED_BACK and before not in (None, Phase.ROLLED_BACK):
            self._rollbacks.inc()
        self._series.put(key, points(status, champion))
        if before is not status.phase:
            self._publish()

    def forget(self, key: tuple[str, str]) -> None:
        """Drop an experiment that is gone."""
        self._phases.pop(key, None)
        self._series.drop(key)
        self._publish()

    def _publish(self) -> None:
        tally = Tally(self._phases.values())
        for phase in Phase:
            self._experiments.labels(phase.value).set(tally[phase])
