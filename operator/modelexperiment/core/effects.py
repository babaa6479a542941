"""The effect that an experiment is about, and how it is told: the leading challenger's."""

from __future__ import annotations

from modelexperiment.core.decision import percent
from modelexperiment.core.entries import Interval, MetricAnalysis
from modelexperiment.core.spec import ExperimentSpec, Goal, Role
from modelexperiment.core.status import ExperimentStatus


def primaries(status: ExperimentStatus) -> list[MetricAnalysis]:
    """The primary metric's entries, one per challenger."""
    return [entry for entry in status.analysis if entry.role is Role.PRIMARY]


def leader(spec: ExperimentSpec, status: ExperimentStatus) -> MetricAnalysis | None:
    """The challenger that is rolled out, else the one that does best on the primary metric."""
    sign = 1 if spec.primary.goal is Goal.INCREASE else -1
    seen = [entry for entry in primaries(status) if entry.absolute]
    if status.rollout:
        seen = [e for e in seen if e.model_version == status.rollout.model_version]
    return max(seen, key=lambda e: sign * e.absolute.effect if e.absolute else 0.0, default=None)


def effect_of(entry: MetricAnalysis) -> tuple[Interval | None, bool]:
    """The effect as it is told: in percent where it can be, and whether it is."""
    return entry.relative or entry.absolute, entry.relative is not None


def size(value: float | None, relative: bool) -> str:
    """An effect for people."""
    if value is None:
        return "–"
    return percent(value) if relative else f"{value:+.3g}"


def reach(found: Interval | None, relative: bool) -> str:
    """An interval for people."""
    return f"{size(found.lower, relative)} to {size(found.upper, relative)}" if found else "–"
