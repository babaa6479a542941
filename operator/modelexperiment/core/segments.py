"""Metrics broken down by segment: reported beside the verdict, never decided from."""

from __future__ import annotations

from modelexperiment.core import stats
from modelexperiment.core.analysis import Comparisons, findings, interval, rounded
from modelexperiment.core.entries import (
    Heterogeneity,
    MetricAnalysis,
    SegmentAnalysis,
    SegmentValue,
)
from modelexperiment.core.spec import ExperimentSpec, Segment


def with_segments(
    spec: ExperimentSpec, comparisons: Comparisons, entries: list[MetricAnalysis]
) -> list[MetricAnalysis]:
    """The entries, each with its segments."""
    if not spec.segments:
        return entries
    return [
        entry.model_copy(
            update={"segments": [_report(spec, comparisons, entry, s) for s in spec.segments]}
        )
        for entry in entries
    ]


def _report(
    spec: ExperimentSpec, comparisons: Comparisons, entry: MetricAnalysis, segment: Segment
) -> SegmentAnalysis:
    own = {
        value: comparisons[entry.metric, entry.model_version, segment.label, value]
        for value in segment.values
    }
    report = stats.report_segments(own, alpha=spec.analysis.alpha / len(spec.challengers))
    return SegmentAnalysis(
        name=segment.name,
        values=[
            SegmentValue(value=value, **findings(spec, result, report.corrected.get(value)))
            for value, result in report.results.items()
        ],
        overall=interval(report.overall),
        heterogeneity=_heterogeneity(report.heterogeneity),
    )


def _heterogeneity(found: stats.Heterogeneity | None) -> Heterogeneity | None:
    if found is None:
        return None
    return Heterogeneity(
        statistic=rounded(found.statistic, 4),
        degrees=found.degrees,
        p_value=rounded(found.p_value, 3),
    )
