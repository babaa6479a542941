"""What has to be counted for each metric: its parts, their selectors, and the increments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from modelexperiment.core.manifest import FieldError
from modelexperiment.core.promql import Selector, any_of, fill, joined, parse_selector, quote
from modelexperiment.core.spec import ExperimentSpec, Guardrail, Method, Metric, Unit
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Cell, Cells, SegmentValue

# The letters are the statistics library's: count, sum, sum of squares. A histogram is kept whole
# until it is known which of its edges is compared.
HISTOGRAM = "h"
_PARTS = {
    "proportion": {"trials": "n", "successes": "s"},
    "mean": {"count": "n", "sum": "s", "sum_squares": "q"},
    "rate": {"events": "s"},
    "quantile": {"histogram": HISTOGRAM},
}
_EDGE = "le"
# What is counted of a shadow has no name in the manifest.
SHADOW, PREDICTIONS = "shadow", "predictions"


@dataclass(frozen=True)
class Part:
    """One counter of a metric: which metric, which letter, and where its samples are."""

    metric: str
    letter: str
    selector: Selector
    version_label: str
    field: str
    """Where the manifest names it."""

    labels: tuple[str, ...] = ()
    """The labels whose values tell whose its growth is, the version's first."""

    def query(self, versions: list[str], window_seconds: float) -> str:
        """PromQL for the raw samples of these versions' series over a window."""
        matcher = f"{self.version_label}=~{any_of(versions)}"
        return self.selector.select([matcher], f"{max(1, round(window_seconds * 1000))}ms")

    def joined(self, parts: Iterable[Part]) -> Part:
        """What asks for this part's series along with those of others: one query for all of them.

        It selects the union of what they select, sample for sample.
        """
        others = [p.selector for p in parts if p.version_label == self.version_label]
        return replace(self, selector=joined(self.selector, others))

    def selects(self, name: str) -> bool:
        """Whether series of this metric's name are the part's, among those of a joined query."""
        return self.selector.name in ("", name)


def kind_of(metric: Metric | Guardrail) -> str:
    """Which of the kinds it is: proportion, mean, rate or quantile."""
    kinds = ("proportion", "mean", "rate", "quantile")
    return next(kind for kind in kinds if getattr(metric, kind) is not None)


def tested_exactly(spec: ExperimentSpec, metric: Metric) -> bool:
    """Whether its p-value is that of the exact e-process, and not the one of its interval."""
    by_request = spec.analysis.method is Method.SEQUENTIAL and spec.unit is Unit.REQUEST
    return by_request and kind_of(metric) != "mean"


def parts_of(spec: ExperimentSpec) -> list[Part]:
    """Give every counter that the spec's metrics name; ValueError where one is no selector."""
    whose = whose_labels(spec)
    return [part for m in spec.metrics for part in _parts(m, "spec.metrics", whose)]


def guardrail_parts(spec: ExperimentSpec) -> list[Part]:
    """The same of its statistical guardrails, which no segment breaks down."""
    bucket = bucket_label(spec)
    whose = (bucket,) if bucket else ()
    rails = (guardrail for guardrail in spec.guardrails if guardrail.statistical)
    return [part for g in rails for part in _parts(g, "spec.guardrails", whose)]


def shadow_parts(spec: ExperimentSpec) -> list[Part]:
    """The same of its shadow: what was compared, and the histogram of predictions."""
    shadow, bucket = spec.shadow, bucket_label(spec)
    if shadow is None:
        return []
    counters = {
        "comparisons": (SHADOW, "n", shadow.comparisons),
        "disagreements": (SHADOW, "s", shadow.disagreements),
        "predictions": (PREDICTIONS, HISTOGRAM, shadow.predictions),
    }
    whose = (bucket,) if bucket else ()
    return [
        _part(name, letter, text, f"spec.shadow.{field}", (shadow.version_label, *whose))
        for field, (name, letter, text) in counters.items()
        if text is not None
    ]


def bucket_label(spec: ExperimentSpec) -> str | None:
    """The counters' label with the users' hash bucket, where there is one."""
    assignment = spec.assignment
    return assignment.bucket_label if assignment and assignment.buckets else None


def whose_labels(spec: ExperimentSpec) -> tuple[str, ...]:
    """The labels, beside the version's, that break the counters down."""
    bucket = bucket_label(spec)
    segments = dict.fromkeys(segment.label for segment in spec.segments)
    return (*([bucket] if bucket else []), *segments)


def _parts(metric: Metric | Guardrail, where: str, whose: tuple[str, ...]) -> Iterator[Part]:
    kind, listed = kind_of(metric), where
    for field, letter in _PARTS.get(kind, {}).items():
        text = getattr(getattr(metric, kind), field)
        if text is None:
            continue
        where = f"{listed}[{metric.name}].{kind}.{field}"
        yield _part(metric.name, letter, text, where, (metric.version_label, *whose))


def _part(name: str, letter: str, text: str, where: str, labels: tuple[str, ...]) -> Part:
    try:
        selector = parse_selector(text)
    except ValueError as why:
        raise ValueError(str(FieldError(where, str(why), text))) from None
    edges = (_EDGE,) if letter == HISTOGRAM else ()
    return Part(name, letter, selector, labels[0], where, (*labels, *edges))


Grown = Mapping[tuple[str, ...], float]
"""What a part's series grew by, by the values of its labels."""


def cells(
    spec: ExperimentSpec, grown: Iterable[tuple[Part, Grown]]
) -> tuple[Cells, dict[Cell, dict[float, float]]]:
    """Put the growth of all parts together to increments, and to histograms by their edges.

    A rate's increments have no exposure yet.

    Raises:
        ValueError: a histogram's series has an edge that is no number.
    """
    letters: dict[Cell, dict[str, float]] = {}
    histograms: dict[Cell, dict[float, float]] = {}
    for part, by_labels in grown:
        for values, value in by_labels.items():
            cell = _cell(spec, part, values)
            if part.letter == HISTOGRAM:
                edges = histograms.setdefault(cell, {})
                edge = _edge(part, values[-1])
                edges[edge] = edges.get(edge, 0.0) + value
            else:
                sums = letters.setdefault(cell, {})
                sums[part.letter] = sums.get(part.letter, 0.0) + value
    found = [
        (cell, Increment(sums.get("n", 0.0), sums.get("s", 0.0), sums.get("q")))
        for cell, sums in letters.items()
    ]
    return found, histograms


def _cell(spec: ExperimentSpec, part: Part, values: tuple[str, ...]) -> Cell:
    named = dict(zip(part.labels[1:], values[1:], strict=True))
    label = bucket_label(spec)
    return Cell(
        part.metric,
        values[0],
        bucket_number(spec, named[label]) if label else None,
        segment_values(spec, named),
    )


def bucket_number(spec: ExperimentSpec, text: str) -> int | None:
    """The hash bucket that a label's value names; None where it names none."""
    buckets = spec.assignment.buckets if spec.assignment else 0
    plain = text.isascii() and text.isdecimal() and len(text) < 5
    return int(text) if plain and int(text) < buckets else None


def segment_values(spec: ExperimentSpec, named: Mapping[str, str]) -> tuple[SegmentValue, ...]:
    """Those of the labels' values that the spec's segments report."""
    found = {
        (segment.label, named[segment.label])
        for segment in spec.segments
        if named.get(segment.label) in segment.values
    }
    return tuple(sorted(found))


def _edge(part: Part, text: str) -> float:
    try:
        edge = float(text)
    except ValueError:
        edge = math.nan
    if math.isnan(edge):
        raise ValueError(f"{part.field}: a series has the label {_EDGE}={text!r}, which is no edge")
    return edge


def shown_query(guardrail: Guardrail, version: str, namespace: str) -> str:
    """PromQL that shows a guardrail's value of one version; of a statistical one the recent one."""
    if guardrail.query is not None:
        return guardrail_query(guardrail.query, version, namespace)
    by_letter = {}
    for part in _parts(guardrail, "spec.guardrails", ()):
        grown = part.selector.select([f"{part.version_label}={quote(version)}"], "1m")
        by_letter[part.letter] = f"rate({grown})"
    if guardrail.quantile is not None:
        buckets = f"sum by (le) ({by_letter[HISTOGRAM]})"
        return f"histogram_quantile({guardrail.quantile.quantile:g}, {buckets})"
    if guardrail.rate is not None:
        return f"sum({by_letter['s']})"
    return f"sum({by_letter['s']}) / sum({by_letter['n']})"


def guardrail_query(query: str, version: str, namespace: str) -> str:
    """A guardrail's PromQL for one version; ValueError where a placeholder is not known."""
    return fill(query, {"version": version, "namespace": namespace})
