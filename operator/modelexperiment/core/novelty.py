"""Whether the primary metric's effect changes as users get used to a challenger.

It is reported beside the verdict, and nothing is decided from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from modelexperiment.core import stats
from modelexperiment.core.analysis import polled, rounded, settings_for
from modelexperiment.core.entries import MetricAnalysis, NoveltyReport
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, Role
from modelexperiment.core.status import ExperimentStatus

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Experiments that may take this long are cut into days, others into hours.
LONG = timedelta(days=7)

Blocks = dict[str, stats.Novelty]
"""By "<metric>/<modelVersion>"."""


def observe(
    spec: ExperimentSpec, status: ExperimentStatus, counted: Counted, *, new_phase: bool
) -> Blocks:
    """Add one poll to the present block of every challenger, and end the block where it is over."""
    known: Mapping[str, Any] = status.memory.novelty or {}
    over = _block(spec, status, counted.until) > _block(spec, status, counted.since)
    found: Blocks = {}
    for challenger in spec.challengers:
        name = f"{spec.primary.name}/{challenger}"
        novelty = _restored(settings_for(spec, spec.primary, challenger), known.get(name))
        if new_phase:
            novelty = novelty.new_phase()
        arms = polled(counted.arms, spec.primary.name, spec.champion_version, challenger)
        novelty = novelty.observe(arms)
        found[name] = novelty.end_block() if over else novelty
    return found


def with_novelty(
    spec: ExperimentSpec, blocks: Blocks, entries: list[MetricAnalysis]
) -> list[MetricAnalysis]:
    """The entries, those of the primary metric with what their blocks have shown."""
    return [
        entry.model_copy(update={"novelty": _report(spec, blocks, entry)})
        if entry.role is Role.PRIMARY
        else entry
        for entry in entries
    ]


def block_name(spec: ExperimentSpec) -> str:
    """What the experiment is cut into: day or hour."""
    return "day" if _length(spec) is DAY else "hour"


def _report(spec: ExperimentSpec, blocks: Blocks, entry: MetricAnalysis) -> NoveltyReport | None:
    found = blocks[f"{entry.metric}/{entry.model_version}"]
    if found.blocks < 2:
        # One block can't differ from those before it.
        return None
    return NoveltyReport(
        block=block_name(spec),
        blocks=found.blocks,
        drift=str(found.drift),
        p_value=rounded(found.p_value, 3),
    )


def _restored(settings: stats.Settings, saved: Any) -> stats.Novelty:
    if saved is None:
        return stats.Novelty.start(settings)
    if isinstance(saved, stats.Novelty):
        return replace(saved, settings=settings)
    return stats.Novelty.from_state(settings, saved)


def _length(spec: ExperimentSpec) -> timedelta:
    return DAY if spec.analysis.max_duration >= LONG else HOUR


def _block(spec: ExperimentSpec, status: ExperimentStatus, time: datetime) -> int:
    """Which block a time lies in, counted from the start."""
    start = status.start_time or time
    return int((time - start) // _length(spec))
