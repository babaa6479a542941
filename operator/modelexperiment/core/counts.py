"""Takes a poll's counts into the status: comparisons, sample ratio, plan.

Totals and `countedUntil` are amended together here and written together by the controller, in one
write that fails if anybody else wrote in between. So no observation is lost or counted twice.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from modelexperiment.core import analysis, history, novelty, planning, sample_ratio
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.exceedance import count_exceedances
from modelexperiment.core.exposure import with_exposure
from modelexperiment.core.segments import with_segments
from modelexperiment.core.snapshot import Counted, Problem

# Without any sample the time is moved on this seldom: it keeps the next query's window short,
# and a status that says nothing new is not written.
IDLE = timedelta(minutes=10)


def count(draft: Draft) -> None:
    """Add the poll to every comparison, and say what they say now."""
    counted = draft.snapshot.counted
    if not isinstance(counted, Counted) or counted.since != draft.status.counted_until:
        return
    if not (counted.samples or counted.resets) and counted.until - counted.since < IDLE:
        return
    before = draft.status
    try:
        _take_in(draft, counted)
    except ValueError as why:
        draft.status = before
        # Safety goes on: a rollback must not wait for counters that are none.
        text = f"a counter gave what its metric can't have: {why}"
        draft.snapshot = replace(draft.snapshot, counted=Problem("ImpossibleCount", text))
        return
    if counted.history_lost not in (None, draft.before.memory.history_lost):
        draft.remember(history_lost=counted.history_lost)
        draft.tell(Reason.HISTORY_LOST, history_lost(before.counted_until))
    tell_resets(draft, counted)


def tell_resets(draft: Draft, counted: Counted) -> None:
    """Say that counters fell, where some did."""
    if counted.resets:
        # A process that restarts takes all of its series with it, hundreds where there are buckets.
        first, others = counted.resets[0], len(counted.resets) - 1
        text = f"{first.series} fell from {first.before:g} to {first.after:g}"
        more = f", and {others} more series fell" if others else ""
        draft.tell(Reason.COUNTER_RESET, f"{text}{more}: counted as a restart from zero")


def history_lost(counted_until: datetime | None) -> str:
    """What is missing since Prometheus came back without its database."""
    since = f" after {counted_until:%Y-%m-%dT%H:%M:%SZ}" if counted_until else ""
    return (
        f"Prometheus has lost its history: what was served{since} and before each target's first "
        "scrape since is not counted; give it a persistent volume"
    )


def _take_in(draft: Draft, counted: Counted) -> None:
    spec, memory = draft.spec, draft.status.memory
    counted = with_exposure(spec, draft.status, counted)
    counted, edges = count_exceedances(spec, memory.edges, counted)
    comparisons = analysis.restore(spec, memory.comparisons, memory.fingerprints)
    new_phase = bool(memory.split_since and memory.split_since > counted.since)
    if new_phase:
        comparisons = analysis.new_phase(comparisons)
    comparisons = analysis.observe(spec, comparisons, counted)
    blocks = novelty.observe(spec, draft.status, counted, new_phase=new_phase)
    entries = with_segments(spec, comparisons, analysis.analyse(spec, comparisons, edges))
    draft.remember(
        comparisons=analysis.by_name(comparisons),
        edges=edges or None,
        novelty=blocks,
    )
    draft.update(counted_until=counted.until, analysis=novelty.with_novelty(spec, blocks, entries))
    if not any(guardrail.statistical for guardrail in spec.guardrails):
        # One that an edit adds counts from then on, and reads no history of days.
        draft.remember(guarded_until=None)
    sample_ratio.check(draft, counted)
    draft.update(plan=planning.sample_plan(spec, draft.status, counted.until))
    draft.update(history=history.record(spec, draft.status))
