"""What the comparer exposes: comparisons of each pair of versions, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from threading import Lock

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import Metric

from modelexperiment.comparer.agreement import Rule, difference
from modelexperiment.comparer.pairing import REASONS, Pair, Unpaired
from modelexperiment.comparer.versions import Version, Versions

# The first one counts those that are equal.
_DIFFERENCES = (0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 100, 1000)
REJECTIONS = ("malformed", "too_large", "versions", "unavailable")
"""Why a post was refused: it can't be read, is too large, names too many versions; no Redis."""


class _Registry(CollectorRegistry):
    """One that is read at an instant: no scrape sees half of what a comparison counts."""

    def __init__(self) -> None:
        super().__init__()
        self.counting = Lock()

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        with self.counting:
            found = list(super().collect())
        return iter(found)


class Series:
    """The counters. A pair of known versions has its counters before it first counts."""

    def __init__(self, rule: Rule) -> None:
        self.registry = _Registry()
        self._rule = rule
        self._versions = Versions()
        pair, one = ("model", "version", "against"), ("model", "version")
        self._comparisons = self._counter(
            "comparisons", "Requests that both versions predicted for.", *pair
        )
        self._disagreements = self._counter(
            "disagreements", "Comparisons in which the versions disagree.", *pair
        )
        self._difference = Histogram(
            "model_shadow_difference",
            "Absolute difference of predictions that are numbers.",
            pair,
            buckets=_DIFFERENCES,
            registry=self.registry,
        )
        self._predictions = self._counter("predictions", "Predictions taken in.", *one)
        self._unpaired = self._counter(
            "unpaired", "Predictions that are in no comparison.", *one, "reason"
        )
        self._rejected = self._counter("rejected", "Posts that were refused.", "reason")
        self.remembered = Gauge(
            "model_shadow_remembered",
            "Requests that are remembered, waiting or compared.",
            registry=self.registry,
        )
        for reason in REJECTIONS:
            self._rejected.labels(reason)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"model_shadow_{name}", text, labels, registry=self.registry)

    def admit(self, versions: Iterable[Version], now: float) -> None:
        """Let the series of these versions be there.

        Raises:
            TooManyVersionsError: where there is no room for one; then nothing has changed.
        """
        added, retired = self._versions.admit(versions, now)
        for gone in retired:
            self._forget(gone)
        for model, version in added:
            self._predictions.labels(model, version)
            for reason in REASONS:
                self._unpaired.labels(model, version, reason)
        for model in {new.model for new in added}:
            for version, against in permutations(self._versions.of(model), 2):
                self._comparisons.labels(model, version, against)
                self._disagreements.labels(model, version, against)

    def _forget(self, gone: Version) -> None:
        for family in (
            self._comparisons,
            self._disagreements,
            self._difference,
            self._predictions,
            self._unpaired,
        ):
            family.remove_by_labels({"model": gone.model, "version": gone.version})
        for family in (self._comparisons, self._disagreements, self._difference):
            family.remove_by_labels({"model": gone.model, "against": gone.version})

    def taken(self, version: Version) -> None:
        """Count a prediction."""
        self._predictions.labels(*version).inc()

    def count(self, decided: Pair | Unpaired) -> None:
        """Count a comparison, or a prediction that is in none."""
        if isinstance(decided, Unpaired):
            self._unpaired.labels(decided.model, decided.given.version, decided.reason).inc()
            return
        model, one, other = decided
        apart = difference(one.answer, other.answer)
        disagree = self._rule.disagree(one.answer, other.answer)
        with self.registry.counting:
            for pair in ((one.version, other.version), (other.version, one.version)):
                self._comparisons.labels(model, *pair).inc()
                if disagree:
                    self._disagreements.labels(model, *pair).inc()
                if apart is not None:
                    self._difference.labels(model, *pair).observe(apart)

    def rejected(self, reason: str) -> None:
        """Count a post that was refused: one of REJECTIONS."""
        self._rejected.labels(reason).inc()
