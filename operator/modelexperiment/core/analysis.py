"""Carries the comparisons of all metrics and challengers from poll to poll.

The state of each comparison is small, lives in the status, and comes back from it bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from modelexperiment.core import states, stats
from modelexperiment.core.entries import ArmEstimate, Interval, MetricAnalysis
from modelexperiment.core.exceedance import edge_of
from modelexperiment.core.measures import bucket_label, kind_of, tested_exactly
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import (
    Correction,
    Effect,
    ExperimentSpec,
    Goal,
    Method,
    Metric,
    Role,
    Unit,
)
from modelexperiment.core.tally import Arms, SegmentValue

Key = tuple[str, str] | tuple[str, str, str, str]
"""(metric, challenger), or (metric, challenger, label, value) within a segment."""
Comparisons = dict[Key, stats.Comparison]

METHODS = {
    Method.SEQUENTIAL: stats.Method.SEQUENTIAL,
    Method.GROUP_SEQUENTIAL: stats.Method.GROUP_SEQUENTIAL,
    Method.FIXED_HORIZON: stats.Method.FIXED_HORIZON,
}
NO_BUCKETS = (
    "users are the unit, and without hash buckets no honest variance is known: set "
    "spec.assignment.buckets to 64, or take the claim that requests are independent on yourself "
    "by spec.analysis.unit: Request"
)
NO_BUCKET_LABEL = (
    "users are the unit, and the counters carry no bucket: copy the request header "
    "x-experiment-bucket into a label of the metric's counters and name that label in "
    "spec.assignment.bucketLabel, or take the claim that requests are independent on yourself by "
    "spec.analysis.unit: Request"
)
_REASONS = {NO_BUCKETS: "NoBuckets", NO_BUCKET_LABEL: "NoBucketLabel"}


def margin_of(effect: Effect | None) -> stats.Margin | None:
    """The manifest's effect as the statistics library's margin."""
    return stats.Margin(effect.absolute, effect.relative) if effect else None


def ratio_of(spec: ExperimentSpec, challenger: str) -> float:
    """The challenger's share over the champion's, 1 where one of them gets nothing."""
    champion, share = spec.split[spec.champion_version], spec.split[challenger]
    return share / champion if champion > 0 and share > 0 else 1.0


def _size_ratio(spec: ExperimentSpec, challenger: str) -> float:
    ratio = ratio_of(spec, challenger)
    return max(ratio, 1 / ratio)


def settings_for(spec: ExperimentSpec, metric: Metric, challenger: str) -> stats.Settings:
    """The statistics library's settings of one comparison."""
    analysis = spec.analysis
    return stats.Settings(
        kind=stats.Kind(kind_of(metric)),
        method=METHODS[analysis.method],
        alpha=analysis.alpha,
        power=analysis.power,
        goal=stats.Goal.INCREASE if metric.goal is Goal.INCREASE else stats.Goal.DECREASE,
        unit=stats.Unit.USER if spec.unit is Unit.USER else stats.Unit.REQUEST,
        buckets=spec.assignment.buckets if spec.unit is Unit.USER and spec.assignment else 0,
        sample_size=analysis.sample_size,
        ratio=_size_ratio(spec, challenger),
        minimum_effect=margin_of(metric.minimum_effect),
        baseline=analysis.baseline if metric.role is Role.PRIMARY else None,
    )


def fingerprint(spec: ExperimentSpec, metric: Metric) -> str:
    """A short name for what a metric counts: where it changes, the metric starts anew."""
    assignment = spec.assignment
    users: tuple[str | int | None, ...] = ()
    if assignment:
        # Another draw gives the versions other users, whatever is the unit.
        users = (assignment.header, assignment.cookie, assignment.salt)
        if spec.unit is Unit.USER:
            users += (bucket_label(spec), assignment.buckets)
    return _fingerprint(metric, spec.champion_version, spec.analysis.method, users)


@lru_cache(maxsize=1024)
def _fingerprint(
    metric: Metric, champion: str, method: Method, users: tuple[str | int | None, ...]
) -> str:
    counted = metric.dump()
    counted.pop("role")
    counted.pop("minimumEffect", None)
    text = json.dumps([counted, champion, method, users], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def keys(spec: ExperimentSpec, metric: str, challenger: str) -> Iterator[Key]:
    """The comparisons of one metric and challenger: the whole, and each value of each segment."""
    yield metric, challenger
    for label, value in segment_values(spec):
        yield metric, challenger, label, value


def segment_values(spec: ExperimentSpec) -> dict[SegmentValue, None]:
    """All (label, value) that segments report, each once."""
    return {(segment.label, v): None for segment in spec.segments for v in segment.values}


def restore(spec: ExperimentSpec, state: Any, prints: Mapping[str, str]) -> Comparisons:
    """Take the comparisons up again; a metric that has changed or is new starts anew.

    `state` is their JSON by "/".join(key), or what `observe` gave last, by the same names.
    """
    known: Mapping[str, Any] = state or {}
    comparisons: Comparisons = {}
    for metric in spec.metrics:
        same = prints.get(metric.name) == fingerprint(spec, metric)
        for challenger in spec.challengers:
            settings = settings_for(spec, metric, challenger)
            for key in keys(spec, metric.name, challenger):
                saved = known.get("/".join(key)) if same else None
                comparisons[key] = (
                    states.from_state(settings, saved)
                    if saved is not None
                    else stats.Comparison.start(settings)
                )
    return comparisons


def by_name(comparisons: Comparisons) -> dict[str, stats.Comparison]:
    """The comparisons by the names that they have in the status."""
    return {"/".join(key): comparison for key, comparison in comparisons.items()}


def save(comparisons: Comparisons) -> dict[str, Any]:
    """The comparisons' state as JSON, by the names that they have in the status."""
    return {name: states.to_state(its) for name, its in by_name(comparisons).items()}


def observe(spec: ExperimentSpec, comparisons: Comparisons, counted: Counted) -> Comparisons:
    """Add one poll to every comparison."""
    champion = spec.champion_version
    return {
        key: comparison.observe(
            polled(
                counted.segments.get(key[2:], Arms()) if len(key) == 4 else counted.arms,
                key[0],
                champion,
                key[1],
            )
        )
        for key, comparison in comparisons.items()
    }


_NOTHING = stats.Increment.zero()


def polled(arms: Arms, metric: str, champion: str, challenger: str) -> stats.Poll:
    """Both arms' increments; an arm without any by bucket has no users in this poll."""
    one, other = (metric, champion), (metric, challenger)
    buckets = arms.buckets.get(one), arms.buckets.get(other)
    if buckets != (None, None):
        buckets = buckets[0] or {}, buckets[1] or {}
    found = arms.increments.get(one, _NOTHING), arms.increments.get(other, _NOTHING)
    return stats.Poll(*found, *buckets)


def new_phase(comparisons: Comparisons) -> Comparisons:
    """Count what waits for more samples under the split that it was seen under."""
    return {key: comparison.new_phase() for key, comparison in comparisons.items()}


def rounded(value: float | None, digits: int = 5) -> float | None:
    """The value to so many significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


def interval(found: stats.Interval | None) -> Interval | None:
    """An interval for people."""
    if found is None:
        return None
    effect, lower, upper = (rounded(v) for v in (found.effect, found.lower, found.upper))
    return Interval(effect=effect, lower=lower, upper=upper)


def _arm(estimate: stats.Estimate) -> ArmEstimate:
    return ArmEstimate(samples=round(estimate.samples, 3), estimate=rounded(estimate.estimate))


def _correct(
    correction: Correction, p_values: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    if correction is Correction.NONE:
        return dict(p_values)
    correct = stats.holm if correction is Correction.HOLM else stats.bonferroni
    return correct(p_values)


def analyse(
    spec: ExperimentSpec, comparisons: Comparisons, edges: Any = None
) -> list[MetricAnalysis]:
    """Say what every comparison says now, primary metric first; segments are left out.

    Primary and secondary metrics are corrected each among themselves: a secondary metric informs
    and must not cost the primary one its power.
    """
    share = spec.analysis.alpha / len(spec.challengers)
    results = {
        (key[0], key[1]): c.result(alpha=share) for key, c in comparisons.items() if len(key) == 2
    }
    metrics = {metric.name: metric for metric in spec.metrics}
    corrected: dict[tuple[str, str], float] = {}
    for role in Role:
        p_values = {
            key: result.p_value
            for key, result in results.items()
            if metrics[key[0]].role is role and result.p_value is not None
        }
        corrected |= _correct(spec.analysis.correction, p_values)
    entries = [
        MetricAnalysis(
            metric=key[0],
            role=metrics[key[0]].role,
            model_version=key[1],
            method=method_name(spec, metrics[key[0]], edges),
            design_effect=_design_effect(comparisons[key]),
            **findings(spec, result, corrected.get(key), _lack(comparisons[key])),
        )
        for key, result in results.items()
    ]
    return sorted(entries, key=lambda entry: entry.role is not Role.PRIMARY)


def findings(
    spec: ExperimentSpec, result: stats.Result, corrected: float | None, lack: str | None = None
) -> dict[str, Any]:
    """What a result says, rounded to what it means, by the names of the status' fields."""
    withheld = lack or result.withheld
    return {
        "champion": _arm(result.champion),
        "challenger": _arm(result.challenger),
        "absolute": interval(result.absolute),
        "relative": interval(result.relative),
        "p_value": rounded(result.p_value, 3),
        "corrected_p_value": rounded(corrected, 3),
        "significant": (
            corrected is not None and corrected <= spec.analysis.alpha and withheld is None
        ),
        "withheld": withheld,
    }


def _design_effect(comparison: stats.Comparison) -> float | None:
    return rounded(comparison.design_effect, 3) if comparison.settings.buckets else None


def _lack(comparison: stats.Comparison) -> str | None:
    """What is missing for users to be the unit, if anything is."""
    settings = comparison.settings
    if settings.unit is not stats.Unit.USER or comparison.evidence.samples.any():
        return None
    if not settings.buckets:
        return NO_BUCKETS
    return NO_BUCKET_LABEL if comparison.unlabelled.any() else None


def lacking(spec: ExperimentSpec, entries: Iterable[MetricAnalysis]) -> tuple[str, str] | None:
    """Why the primary metric has no verdict for want of buckets, as reason and message."""
    primary = (e.withheld for e in entries if e.role is Role.PRIMARY)
    missing = next((text for text in primary if text in _REASONS), None)
    return (_REASONS[missing], f"{spec.primary.name}: {missing}") if missing else None


def method_name(spec: ExperimentSpec, metric: Metric, edges: Any = None) -> str:
    """How a metric's numbers are computed, for people."""
    kind = kind_of(metric)
    if spec.analysis.method is Method.SEQUENTIAL:
        name = "asymptotic confidence sequence"
        if tested_exactly(spec, metric):
            name = "exact e-process, anytime-valid interval"
    elif spec.analysis.method is Method.GROUP_SEQUENTIAL:
        name = "O'Brien-Fleming boundary up to sampleSize"
    else:
        name = "a single look at sampleSize"
    if spec.unit is Unit.USER:
        name += ", robust by hash bucket of users"
    if kind == "rate":
        name += "; events per second, by the version's share of the split"
    if kind == "quantile":
        name += f"; {_compared(edge_of(edges, metric))}"
    return name


def _compared(edge: float | None) -> str:
    if edge is None:
        return "share of observations above one edge of the histogram"
    return f"share of observations above {edge:g}, an edge of the histogram"
