"""What is counted of a shadow, and whether its answers agree with the champion's.

Whoever compares the answers counts the comparisons and the disagreements; here they are added up
exactly as all counters are. The divergence, their share, has an interval that holds at every look
(`stats.proportion`), so that the answer may be given at any poll: the shadow passes once the upper
bound is at most the limit, and diverges once the lower bound is over it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from modelexperiment.core import stats
from modelexperiment.core.counts import history_lost, tell_resets
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.exceedance import merged
from modelexperiment.core.measures import PREDICTIONS, SHADOW
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import (
    DistributionStatus,
    ExperimentStatus,
    ShadowState,
    ShadowStatus,
)

# As for metrics: without any sample the time is moved on this seldom.
IDLE = timedelta(minutes=10)
_REPORTED_ONLY = "spec.shadow.predictions:"
_EVENTS = {
    ShadowState.PASS: Reason.SHADOW_PASSED,
    ShadowState.DIVERGES: Reason.SHADOW_DIVERGED,
}


def has_gate(spec: ExperimentSpec) -> bool:
    """Whether the spec says how to tell if the shadow agrees."""
    return spec.shadow is not None and spec.shadow.comparisons is not None


def holds_back(spec: ExperimentSpec) -> bool:
    """Whether the shadow is a challenger, so that nothing goes live before it agrees."""
    return spec.shadow is not None and spec.shadow.model_version in spec.challengers


def _counts(spec: ExperimentSpec) -> bool:
    return spec.shadow is not None and (has_gate(spec) or spec.shadow.predictions is not None)


def _is_on(spec: ExperimentSpec, status: ExperimentStatus) -> bool:
    """Whether the shadow gets copies in this phase, and they are counted."""
    phase = status.phase
    live = holds_back(spec) and not status.shadowing
    return _counts(spec) and phase.started and not phase.ended and not live


def fingerprint(spec: ExperimentSpec) -> str:
    """A short name for what is counted: where it changes, it is counted anew."""
    asked = spec.shadow.dump() if spec.shadow else {}
    for name in ("percent", "maxDivergence", "subset", "service"):
        asked.pop(name, None)
    text = json.dumps([asked, spec.champion_version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def asks_anew(spec: ExperimentSpec, status: ExperimentStatus) -> bool:
    """Whether an edit asks an experiment that the gate has ended something else.

    Without a gate any more it does not: an end must not become a start with live traffic.
    """
    found = status.shadow
    if not holds_back(spec) or found is None or status.start_time is not None:
        return False
    assert spec.shadow is not None
    same = status.memory.shadow_print == fingerprint(spec)
    return not same or found.limit != spec.shadow.max_divergence


def counted_until(spec: ExperimentSpec, status: ExperimentStatus) -> datetime | None:
    """From when on the shadow's counters are to be read; None where nothing is counted."""
    same = status.memory.shadow_print == fingerprint(spec)
    return status.memory.shadow_until if same and _is_on(spec, status) else None


def begin(draft: Draft, at: datetime) -> None:
    """Count from now on, with nothing counted yet; where there is nothing to count, forget."""
    spec = draft.spec
    if not _is_on(spec, draft.status):
        draft.update(shadow=None)
        draft.remember(shadow_print="", shadow_until=None, shadow_histograms=None)
        return
    assert spec.shadow is not None
    nothing = ShadowStatus(model_version=spec.shadow.model_version, since=at)
    if has_gate(spec):
        nothing = nothing.model_copy(update={"comparisons": 0.0, "disagreements": 0.0})
    draft.update(shadow=_judged(spec, nothing))
    draft.remember(shadow_print=fingerprint(spec), shadow_until=at, shadow_histograms=None)


def take_edit(draft: Draft) -> None:
    """Follow an edit of what is counted, or of the limit."""
    spec, status = draft.spec, draft.status
    if not _is_on(spec, status):
        if spec.shadow is None and status.shadow is not None:
            begin(draft, draft.snapshot.now)
        return
    if status.shadow is None or status.memory.shadow_print != fingerprint(spec):
        if status.shadow is not None:
            text = "what is counted of the shadow has changed: it is counted anew"
            draft.tell(Reason.METRIC_RESTARTED, text)
        begin(draft, draft.snapshot.now)
    elif has_gate(spec):
        _update(draft, status.shadow)


def count(draft: Draft) -> None:
    """Add the poll, and say what is known now."""
    spec, status, seen = draft.spec, draft.status, draft.snapshot.shadowed
    since = counted_until(spec, status)
    if status.shadow is None or not isinstance(seen, Counted) or seen.since != since:
        return
    if not (seen.samples or seen.resets) and seen.until - seen.since < IDLE:
        return
    draft.remember(shadow_until=seen.until)
    tell_resets(draft, seen)
    if seen.history_lost not in (None, status.memory.history_lost):
        draft.remember(history_lost=seen.history_lost)
        draft.tell(Reason.HISTORY_LOST, history_lost(since))
    if missing(seen):
        # Without a counter of disagreements everything would seem to agree.
        return
    found = status.shadow
    if has_gate(spec):
        grown = seen.increments.get((SHADOW, found.model_version), stats.Increment.zero())
        added = {
            "comparisons": (found.comparisons or 0.0) + grown.n,
            "disagreements": (found.disagreements or 0.0) + grown.s,
        }
        found = found.model_copy(update=added)
    histograms = _histograms(spec, status.memory.shadow_histograms, seen)
    draft.remember(shadow_histograms=histograms or None)
    _update(draft, found.model_copy(update={"distribution": _distribution(histograms)}))


def missing(seen: Counted) -> tuple[str, ...]:
    """The selectors of what the gate needs that match no series of the shadow."""
    return tuple(text for text in seen.silent if not text.startswith(_REPORTED_ONLY))


def _update(draft: Draft, found: ShadowStatus) -> None:
    """Take over what is known, and tell where the answer is another one."""
    judged = _judged(draft.spec, found)
    before = draft.status.shadow.state if draft.status.shadow else None
    draft.update(shadow=judged)
    if judged.state in _EVENTS and judged.state is not before:
        draft.tell(_EVENTS[judged.state], f"{judged.model_version} {answer(judged)}")


def _judged(spec: ExperimentSpec, found: ShadowStatus) -> ShadowStatus:
    """With divergence, bounds and state, by what was counted."""
    shadow, number, differing = spec.shadow, found.comparisons, found.disagreements
    if shadow is None or number is None or differing is None:
        return found
    limit, state = shadow.max_divergence, ShadowState.INSUFFICIENT_DATA
    if number == 0 or differing > number:
        # The two counters are not of the same comparisons yet.
        unknown = {"divergence": None, "lower": None, "upper": None}
        return found.model_copy(update={"limit": limit, "state": state, **unknown})
    lower, upper = stats.proportion_interval(number, differing, spec.analysis.alpha, limit)
    if upper <= limit:
        state = ShadowState.PASS
    elif lower > limit:
        state = ShadowState.DIVERGES
    return found.model_copy(
        update={
            "limit": limit,
            "state": state,
            "divergence": _rounded(differing / number),
            "lower": _rounded(lower),
            "upper": _rounded(upper),
        }
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _histograms(spec: ExperimentSpec, state: Any, seen: Counted) -> dict[str, dict[str, float]]:
    """Predictions up to each edge so far, by "champion" and "shadow"."""
    if spec.shadow is None or spec.shadow.predictions is None:
        return {}
    versions = {"champion": spec.champion_version, "shadow": spec.shadow.model_version}
    known: Mapping[str, Mapping[str, float]] = state or {}
    found = {}
    for role, version in versions.items():
        before = {float(edge): total for edge, total in known.get(role, {}).items()}
        new = (
            histogram
            for cell, histogram in seen.histograms.items()
            if (cell.metric, cell.version) == (PREDICTIONS, version)
        )
        total = merged([before, *new])
        found[role] = {repr(edge): total[edge] for edge in sorted(total)}
    return found


def _distribution(histograms: Mapping[str, Mapping[str, float]]) -> DistributionStatus | None:
    """How far the two are apart, by the edges that both have; None where that can't be told."""
    by_role = [
        {float(edge): total for edge, total in histograms.get(role, {}).items()}
        for role in ("champion", "shadow")
    ]
    common = [edge for edge in by_role[0] if edge in by_role[1]]
    if len(common) < 2 or math.inf not in common:
        return None
    try:
        bins = [stats.bins_of({edge: one[edge] for edge in common}) for one in by_role]
    except ValueError:
        # A histogram that falls from one edge to the next is none.
        return None
    champion, shadow = (np.array(list(one.values())) for one in bins)
    samples = min(champion.sum(), shadow.sum())
    if samples == 0:
        return None
    return DistributionStatus(
        jensen_shannon=_rounded(stats.jensen_shannon(champion, shadow)),
        psi=_rounded(stats.stability_index(champion, shadow)),
        samples=float(samples),
    )


def answer(found: ShadowStatus) -> str:
    """What is known of the divergence, as a clause about the shadow."""
    what = {
        ShadowState.PASS: "agrees with the champion",
        ShadowState.DIVERGES: "differs too often from the champion",
    }.get(found.state or ShadowState.INSUFFICIENT_DATA, "is still being compared")
    return f"{what}: {figures(found)}"


def figures(found: ShadowStatus) -> str:
    """The counts, the divergence with its bounds, and the limit."""
    number, differing = found.comparisons or 0.0, found.disagreements or 0.0
    limit = f"limit {_percent(found.limit)}"
    if found.divergence is None:
        odd = f", and {differing:,.0f} disagreements" if differing else ""
        return f"{number:,.0f} comparisons{odd}; {limit}"
    return (
        f"{differing:,.0f} of {number:,.0f} comparisons disagree, {_percent(found.divergence)} "
        f"(at every look {_percent(found.lower)} to {_percent(found.upper)}); {limit}"
    )


def apart(found: DistributionStatus) -> str:
    """How far the predictions are apart."""
    return (
        f"predictions: Jensen-Shannon divergence {found.jensen_shannon:.3g}, PSI {found.psi:.3g} "
        f"({found.samples:,.0f} predictions of the version with fewer)"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"
