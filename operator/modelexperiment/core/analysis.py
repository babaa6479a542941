"""Carries the comparisons of all metrics and challengers from poll to poll.

The state of each comparison is small, lives in the status, and comes back from it bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from modelexperiment.core import stats
from modelexperiment.core.measures import kind_of
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
from modelexperiment.core.status import ArmEstimate, Interval, MetricAnalysis

Comparisons = dict[tuple[str, str], stats.Comparison]
"""By (metric, challenger)."""

METHODS = {
    Method.SEQUENTIAL: stats.Method.SEQUENTIAL,
    Method.GROUP_SEQUENTIAL: stats.Method.GROUP_SEQUENTIAL,
    Method.FIXED_HORIZON: stats.Method.FIXED_HORIZON,
}
_NAMES = {
    "proportion": "exact e-process, anytime-valid interval",
    "mean": "asymptotic confidence sequence",
}


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
    counted = metric.dump()
    counted.pop("role")
    counted.pop("minimumEffect", None)
    text = json.dumps([counted, spec.champion_version, spec.analysis.method], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def restore(spec: ExperimentSpec, state: Any, prints: Mapping[str, str]) -> Comparisons:
    """Take the comparisons up again; a metric that has changed or is new starts anew."""
    known: Mapping[str, Any] = state or {}
    comparisons: Comparisons = {}
    for metric in spec.metrics:
        same = prints.get(metric.name) == fingerprint(spec, metric)
        for challenger in spec.challengers:
            settings = settings_for(spec, metric, challenger)
            saved = known.get(f"{metric.name}/{challenger}") if same else None
            comparisons[metric.name, challenger] = (
                stats.Comparison.from_state(settings, saved)
                if saved is not None
                else stats.Comparison.start(settings)
            )
    return comparisons


def save(comparisons: Comparisons) -> dict[str, Any]:
    """The comparisons' state as JSON, by "<metric>/<challenger>"."""
    return {f"{metric}/{version}": c.to_state() for (metric, version), c in comparisons.items()}


def observe(spec: ExperimentSpec, comparisons: Comparisons, counted: Counted) -> Comparisons:
    """Add one poll to every comparison."""
    nothing = stats.Increment.zero()

    def arm(metric: str, version: str) -> stats.Increment:
        return counted.increments.get((metric, version), nothing)

    champion = spec.champion_version
    return {
        (metric, challenger): comparison.observe(
            stats.Poll(
                arm(metric, champion),
                arm(metric, challenger),
                *_buckets(counted, metric, champion, challenger),
            )
        )
        for (metric, challenger), comparison in comparisons.items()
    }


Buckets = Mapping[int, stats.Increment]


def _buckets(
    counted: Counted, metric: str, champion: str, challenger: str
) -> tuple[Buckets | None, Buckets | None]:
    """Both arms' increments by bucket; an arm without any in this poll has none of them."""
    found = [counted.buckets.get((metric, version)) for version in (champion, challenger)]
    if found == [None, None]:
        return None, None
    return found[0] or {}, found[1] or {}


def merge_increments(one: stats.Increment | None, other: stats.Increment) -> stats.Increment:
    """Add two increments of the same arm."""
    return other if one is None else one + other


def new_phase(comparisons: Comparisons) -> Comparisons:
    """Count what waits for more samples under the split that it was seen under."""
    return {key: comparison.new_phase() for key, comparison in comparisons.items()}


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")


def _interval(interval: stats.Interval | None) -> Interval | None:
    if interval is None:
        return None
    return Interval(
        effect=_rounded(interval.effect),
        lower=_rounded(interval.lower),
        upper=_rounded(interval.upper),
    )


def _arm(estimate: stats.Estimate) -> ArmEstimate:
    value = estimate.estimate
    return ArmEstimate(
        samples=estimate.samples, estimate=None if value is None else _rounded(value)
    )


def _correct(
    correction: Correction, p_values: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    if correction is Correction.NONE:
        return dict(p_values)
    correct = stats.holm if correction is Correction.HOLM else stats.bonferroni
    return correct(p_values)


def analyse(spec: ExperimentSpec, comparisons: Comparisons) -> list[MetricAnalysis]:
    """Say what every comparison says now, primary metric first.

    Primary and secondary metrics are corrected each among themselves: a secondary metric informs
    and must not cost the primary one its power.
    """
    share = spec.analysis.alpha / len(spec.challengers)
    results = {key: c.result(alpha=share) for key, c in comparisons.items()}
    roles = {metric.name: metric.role for metric in spec.metrics}
    corrected: dict[tuple[str, str], float] = {}
    for role in Role:
        p_values = {
            key: result.p_value
            for key, result in results.items()
            if roles[key[0]] is role and result.p_value is not None
        }
        corrected |= _correct(spec.analysis.correction, p_values)
    entries = [
        _entry(spec, key, roles[key[0]], results[key], corrected.get(key)) for key in results
    ]
    return sorted(entries, key=lambda entry: entry.role is not Role.PRIMARY)


def _entry(
    spec: ExperimentSpec,
    key: tuple[str, str],
    role: Role,
    result: stats.Result,
    corrected: float | None,
) -> MetricAnalysis:
    metric = next(m for m in spec.metrics if m.name == key[0])
    significant = (
        corrected is not None and corrected <= spec.analysis.alpha and result.withheld is None
    )
    return MetricAnalysis(
        metric=key[0],
        role=role,
        model_version=key[1],
        champion=_arm(result.champion),
        challenger=_arm(result.challenger),
        absolute=_interval(result.absolute),
        relative=_interval(result.relative),
        p_value=None if result.p_value is None else _rounded(result.p_value, 3),
        corrected_p_value=None if corrected is None else _rounded(corrected, 3),
        significant=significant,
        method=_NAMES[kind_of(metric)],
        withheld=result.withheld,
    )
