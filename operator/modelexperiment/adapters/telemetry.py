"""The operator's own metrics, for Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from modelexperiment.core.status import ExperimentStatus, Phase

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """Counts what the operator does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phases: dict[object, Phase] = {}
        self._experiments = Gauge(
            "modelexperiment_experiments",
            "Experiments by phase.",
            ["phase"],
            registry=self.registry,
        )
        self._reconciles = Histogram(
            "modelexperiment_reconcile_seconds",
            "Time to work on one experiment once.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._polls = Histogram(
            "modelexperiment_poll_seconds",
            "Time to read route, metrics and guardrails of one experiment.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._errors = Counter(
            "modelexperiment_errors",
            "Reconciles that failed and are tried again.",
            ["reason"],
            registry=self.registry,
        )
        self._rollbacks = Counter(
            "modelexperiment_rollbacks",
            "Experiments that went back to the champion.",
            registry=self.registry,
        )
        self._alerts = Counter(
            "modelexperiment_alert_deliveries",
            "Attempts to deliver alerts, by kind of receiver.",
            ["receiver", "result"],
            registry=self.registry,
        )

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

    def error(self, reason: str) -> None:
        """Count a failure."""
        self._errors.labels(reason).inc()

    def alert(self, kind: str, delivered: bool) -> None:
        """Count an attempt to deliver alerts to a kind of receiver."""
        self._alerts.labels(kind, "delivered" if delivered else "failed").inc()

    def observe(self, key: object, status: ExperimentStatus) -> None:
        """Take an experiment's phase in."""
        before = self._phases.get(key)
        self._phases[key] = status.phase
        if status.phase is Phase.ROLLED_BACK and before not in (None, Phase.ROLLED_BACK):
            self._rollbacks.inc()
        self._publish()

    def forget(self, key: object) -> None:
        """Drop an experiment that is gone."""
        self._phases.pop(key, None)
        self._publish()

    def _publish(self) -> None:
        tally = Tally(self._phases.values())
        for phase in Phase:
            self._experiments.labels(phase.value).set(tally[phase])
