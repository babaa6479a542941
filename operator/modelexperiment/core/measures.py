"""What has to be counted for each metric: its parts, their selectors, and the increments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelexperiment.core.manifest import FieldError
from modelexperiment.core.promql import Selector, any_of, fill, parse_selector
from modelexperiment.core.spec import ExperimentSpec, Metric
from modelexperiment.core.stats import Increment

# The letters are the statistics library's: count, sum, sum of squares.
_PARTS = {
    "proportion": {"trials": "n", "successes": "s"},
    "mean": {"count": "n", "sum": "s", "sum_squares": "q"},
}


@dataclass(frozen=True)
class Part:
    """One counter of a metric: which metric, which letter, and where its samples are."""

    metric: str
    letter: str
    selector: Selector
    version_label: str
    field: str
    """Where the manifest names it."""

    def query(self, versions: list[str], window_seconds: float) -> str:
        """PromQL for the raw samples of these versions' series over a window."""
        matcher = f"{self.version_label}=~{any_of(versions)}"
        return self.selector.select([matcher], f"{max(1, round(window_seconds * 1000))}ms")


def kind_of(metric: Metric) -> str:
    """Which of the kinds the metric is: proportion, mean, rate or quantile."""
    kinds = ("proportion", "mean", "rate", "quantile")
    return next(kind for kind in kinds if getattr(metric, kind) is not None)


def parts_of(spec: ExperimentSpec) -> list[Part]:
    """Give every counter that the spec's metrics name; ValueError where one is no selector."""
    return [part for metric in spec.metrics for part in _metric_parts(metric)]


def _metric_parts(metric: Metric) -> Iterator[Part]:
    kind = kind_of(metric)
    for field, letter in _PARTS.get(kind, {}).items():
        text = getattr(getattr(metric, kind), field)
        if text is None:
            continue
        where = f"spec.metrics[{metric.name}].{kind}.{field}"
        try:
            selector = parse_selector(text)
        except ValueError as why:
            raise ValueError(str(FieldError(where, str(why), text))) from None
        yield Part(metric.name, letter, selector, metric.version_label, where)


def increments(grown: Mapping[tuple[str, str, str], float]) -> dict[tuple[str, str], Increment]:
    """Put the growth by (metric, letter, modelVersion) together to increments."""
    letters: dict[tuple[str, str], dict[str, float]] = {}
    for (metric, letter, version), value in grown.items():
        letters.setdefault((metric, version), {})[letter] = value
    return {
        key: Increment(found.get("n", 0.0), found.get("s", 0.0), found.get("q"))
        for key, found in letters.items()
    }


def guardrail_query(query: str, version: str, namespace: str) -> str:
    """A guardrail's PromQL for one version; ValueError where a placeholder is not known."""
    return fill(query, {"version": version, "namespace": namespace})
