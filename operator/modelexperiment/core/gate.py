"""The gate: challengers get no traffic before the shadow among them agrees with the champion."""

from __future__ import annotations

from modelexperiment.core import decision, ramp, shadow, starting
from modelexperiment.core.conditions import ConditionType, condition
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.fields import format_duration
from modelexperiment.core.promql import quote
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import Condition, Phase, ShadowState, ShadowStatus


def conclude(draft: Draft) -> None:
    """Let the challengers go live, end the experiment, or go on copying."""
    spec, found = draft.spec, draft.status.shadow
    if not shadow.holds_back(spec) or found is None:
        # What held them back has been taken out of the spec.
        starting.go_live(draft)
    elif found.state is ShadowState.PASS:
        starting.go_live(draft)
    elif found.state is ShadowState.DIVERGES:
        _keep_champion(draft, f"{found.model_version} {shadow.answer(found)}")
    elif _out_of_time(draft):
        limit = format_duration(spec.analysis.max_duration)
        why = f"analysis.maxDuration of {limit} is over, and no answer of the shadow gate was found"
        _keep_champion(draft, f"{why}: {found.model_version} {shadow.answer(found)}")


def _out_of_time(draft: Draft) -> bool:
    """Whether maxDuration is over, by the counters' clock."""
    seen, found = draft.snapshot.shadowed, draft.status.shadow
    if found is None or not isinstance(seen, Counted):
        return False
    return bool(seen.until - found.since >= draft.spec.analysis.max_duration)


def _keep_champion(draft: Draft, why: str) -> None:
    ramp.end(draft, Phase.CHAMPION_KEPT)
    draft.update(decision=decision.not_let_live(draft.spec, why))
    champion = draft.spec.champion_version
    draft.tell(Reason.COMPLETED, f"{champion} keeps all traffic: {why}")


def agreement(draft: Draft) -> Condition | None:
    """The condition ShadowAgrees; None where nothing new is known, or there is no gate."""
    spec, found, now = draft.spec, draft.status.shadow, draft.snapshot.now
    type_ = ConditionType.SHADOW_AGREES
    if not shadow.has_gate(spec) or not draft.status.phase.started:
        return None
    assert spec.shadow is not None
    version = spec.shadow.model_version
    if found is None:
        text = f"{version} serves already, and what it answers is not compared any more"
        return condition(type_, None, "AlreadyLive", text, now)
    unseen = draft.snapshot.shadowed is None and draft.before.shadow == found
    if unseen and draft.status.condition(type_):
        return None
    decided = {ShadowState.PASS: (True, "Agrees"), ShadowState.DIVERGES: (False, "Diverges")}
    missing = _missing(spec, draft.snapshot.shadowed)
    if found.state in decided:
        status, reason = decided[found.state]
        todo = "" if status else "; look at where the two differ, or raise maxDivergence"
        return condition(type_, status, reason, f"{version} {shadow.answer(found)}{todo}", now)
    if missing:
        return condition(type_, None, *missing, now)
    return condition(type_, None, "InsufficientData", f"{version} {_progress(found)}", now)


def _progress(found: ShadowStatus) -> str:
    if not found.comparisons:
        return (
            "has not been compared yet: send traffic, and look whether the copies arrive and "
            "whatever compares the answers counts them"
        )
    if found.divergence is None:
        return f"can't be judged: {shadow.figures(found)}; both must count the same comparisons"
    return f"{shadow.answer(found)}; it needs more comparisons"


def _missing(spec: ExperimentSpec, seen: Counted | Problem | None) -> tuple[str, str] | None:
    """Why nothing is counted, as reason and message, if it is not."""
    if isinstance(seen, Problem):
        return seen.reason, f"nothing is counted of the shadow: {seen.message}"
    silent = () if seen is None else shadow.missing(seen)
    if not silent:
        return None
    assert spec.shadow is not None
    matcher = f"{spec.shadow.version_label}={quote(spec.shadow.model_version)}"
    return "NoSeries", (
        f"{', '.join(silent)} matches no series with {matcher}: look whether the copies "
        "arrive and whatever compares the answers is up and scraped, and at the selector and "
        "shadow.versionLabel; a counter that has not counted yet must be exposed as 0"
    )
