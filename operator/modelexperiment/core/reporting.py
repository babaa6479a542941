"""Puts a decision into the words of the status: conditions and the columns of `kubectl get`."""

from __future__ import annotations

from datetime import timedelta

from modelexperiment.core import conditions, gate, promotion, readiness, shadow, starting
from modelexperiment.core.analysis import lacking
from modelexperiment.core.causes import Causes
from modelexperiment.core.conditions import ConditionType, condition
from modelexperiment.core.decision import percent
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.fields import format_duration
from modelexperiment.core.guardrails import broken
from modelexperiment.core.proof import route_id, unproven
from modelexperiment.core.rollout import format_split, same_split
from modelexperiment.core.routing import Routing
from modelexperiment.core.sample_ratio import WARNING, blind_spot, describe
from modelexperiment.core.snapshot import Counted, Problem, RouteSeen, Snapshot
from modelexperiment.core.spec import Goal, Guardrail, Role, Unit
from modelexperiment.core.status import (
    Condition,
    ConditionStatus,
    ExperimentStatus,
    GuardrailState,
    GuardrailStatus,
    MetricAnalysis,
    Phase,
    RoutedArm,
    ShadowState,
    Summary,
    Verdict,
)

UNPROVEN = (
    "unproven: a proxy does not follow under an istiod older than 1.28, nor outside the "
    "EnvoyFilter's namespace; it is seen where spec.assignment.probe says what to ask"
)
NOT_AS_PREDICTED = (
    "where this stays for more than a minute, look for an istiod older than 1.28, a proxy outside "
    "the EnvoyFilter's namespace (the operator's ENVOY_FILTER_NAMESPACE), or a probe that is not "
    "answered on the split route"
)


def report(draft: Draft) -> None:
    """Amend conditions, observed generation and columns."""
    found = [c for c in _conditions(draft) if c is not None]
    generation = draft.snapshot.generation
    asked = shadow.has_gate(draft.spec)
    known = [c for c in draft.status.conditions if asked or c.type != ConditionType.SHADOW_AGREES]
    merged = conditions.merge(known, found, generation)
    draft.update(conditions=merged, observed_generation=generation)
    _tell_problems(draft)
    draft.update(summary=_summary(draft))


def _conditions(draft: Draft) -> list[Condition | None]:
    makers = (_routes, _metrics, _guardrails, _ratio, _verdict, _complete, gate.agreement)
    return [make(draft) for make in makers]


def _routes(draft: Draft) -> Condition | None:
    type_, now, route = ConditionType.ROUTES_READY, draft.snapshot.now, draft.snapshot.route
    problem = _route_problem(draft)
    if problem:
        return condition(type_, False, problem.reason, problem.message, now)
    if draft.status.phase.started:
        # Said once the split is written: see `route_written`.
        return None
    assert isinstance(route, RouteSeen)
    message = "route and destinations exist; nothing is written yet"
    return condition(type_, True, "Found", message, now)


def _route_problem(draft: Draft) -> Problem | None:
    snapshot = draft.snapshot
    if snapshot.unsupported:
        return snapshot.unsupported
    if isinstance(snapshot.route, Problem):
        return snapshot.route
    route, started = snapshot.route, draft.status.phase.started
    if route.pending and (not started or route.pending.bad_input):
        return route.pending
    if started:
        return None
    if snapshot.holder or route.unsticky:
        return starting.blocker(draft.spec, snapshot)
    return readiness.blocker(draft.spec, snapshot.not_ready)


def _metrics(draft: Draft) -> Condition | None:
    type_, now, counted = ConditionType.METRICS_READY, draft.snapshot.now, draft.snapshot.counted
    if draft.status.phase.ended or counted is None:
        return None
    problem = starting.metrics_blocker(draft.spec, draft.snapshot)
    waits = draft.status.shadowing or not draft.status.phase.started
    if isinstance(counted, Problem) or (problem and waits):
        assert problem is not None
        return condition(type_, False, problem.reason, problem.message, now)
    assert isinstance(counted, Counted)
    if counted.history_lost:
        message = (
            "Prometheus has lost its history: what was served between the last poll and its "
            "restart is not counted; give it a persistent volume"
        )
        return condition(type_, False, "HistoryLost", message, now)
    if counted.silent:
        message = f"{counted.silent[0]} matches no series any more: check what is scraped"
        return condition(type_, False, "NoSeries", message, now)
    return condition(type_, True, "Counting", "every selector matches series", now)


def _guardrails(draft: Draft) -> Condition | None:
    type_, now = ConditionType.GUARDRAILS_HEALTHY, draft.snapshot.now
    spec, judged = draft.spec, draft.status.guardrails
    if not spec.guardrails:
        return condition(type_, True, "NoneDefined", "the spec has no guardrails", now)
    breaches = [g for g in judged if g.state is GuardrailState.BREACH]
    if breaches:
        worst = (broken(spec, judged) or breaches)[0]
        message = f"{worst.name} of {worst.model_version}: {worst.message}"
        message += _row_of(next(g for g in spec.guardrails if g.name == worst.name), worst)
        return condition(type_, False, "Breach", message, now)
    waiting = [g for g in judged if g.state is GuardrailState.INSUFFICIENT_DATA]
    if waiting:
        timeout = format_duration(spec.analysis.guardrail_timeout)
        message = f"{waiting[0].name} of {waiting[0].model_version} {waiting[0].message}"
        if (waiting[0].name, waiting[0].model_version) not in draft.fed:
            message += f"; after {timeout} of this: {spec.analysis.on_guardrail_timeout}"
        return condition(type_, None, "InsufficientData", message, now)
    if not judged:
        message = "no guardrail has been read yet; they are once traffic is split"
        return condition(type_, None, "NotReadYet", message, now)
    return condition(type_, True, "Pass", f"all {len(judged)} guardrail checks pass", now)


def _row_of(guardrail: Guardrail, breach: GuardrailStatus) -> str:
    """How far the breaches are from a rollback."""
    if guardrail.statistical:
        return ""
    window = guardrail.failure_window
    where = f"of the last {window} readings" if window else "in a row"
    return f"; breach {breach.breaches} of {guardrail.failure_limit} {where} that roll back"


def _ratio(draft: Draft) -> Condition | None:
    type_, now, ratio = (
        ConditionType.SAMPLE_RATIO_HEALTHY,
        draft.snapshot.now,
        draft.status.sample_ratio,
    )
    if ratio is None or not ratio.observed:
        blind = blind_spot(draft.spec) or lacking(draft.spec, draft.status.analysis)
        if blind:
            return condition(type_, None, *blind, now)
        message = "judged from the first poll on; send traffic"
        return condition(type_, None, "NoDataYet", message, now)
    if ratio.mismatch:
        looked = Causes(ratio.causes, ratio.checked)
        message = f"{describe(ratio)}: the verdict is frozen; {looked}"
        return condition(type_, False, "Mismatch", message, now)
    if draft.spec.unit is Unit.USER and ratio.p_value <= WARNING:
        message = (
            f"{describe(ratio)}: not enough to freeze the verdict, but by users' buckets a loss is "
            "hard to see; compare what the proxy sent with what the servers counted"
        )
        return condition(type_, True, "Suspicious", message, now)
    return condition(type_, True, "AsConfigured", "every arm gets the share that it should", now)


def _verdict(draft: Draft) -> Condition | None:
    type_, now, status = ConditionType.VERDICT_REACHED, draft.snapshot.now, draft.status
    if status.verdict is None and status.phase is Phase.CHAMPION_KEPT and status.decision:
        return condition(type_, False, "NeverLive", status.decision.reason, now)
    if status.verdict is None or status.decision is None:
        begins = "once the challengers serve" if status.shadowing else "at every poll"
        message = f"no verdict yet; it is judged {begins}"
        return condition(type_, False, "NoVerdictYet", message, now)
    reached = status.verdict is not Verdict.INCONCLUSIVE
    lack = lacking(draft.spec, status.analysis)
    if lack and not reached and not status.phase.ended:
        return condition(type_, False, *lack, now)
    message = status.decision.reason
    if not reached and not status.phase.ended:
        message += "; " + "; ".join(status.decision.next_steps)
    return condition(type_, reached, status.verdict, message, now)


def _complete(draft: Draft) -> Condition | None:
    type_, now, phase = ConditionType.COMPLETE, draft.snapshot.now, draft.status.phase
    note = promotion.note(draft.experiment, draft.status)
    if phase.ended and starting.wants_restart(draft.spec, draft.status):
        found = starting.blocker(draft.spec, draft.snapshot)
        waits = found.message if found else "with the next poll"
        message = f"the spec asks for something else, so that it starts again: {waits}"
        return condition(type_, False, "StartsAgain", message, now)
    if phase.ended:
        decision = draft.status.decision
        why = decision.reason if decision else "spec.stop is set"
        return condition(type_, True, phase, f"{why}; {note}" if note else why, now)
    if phase is Phase.PENDING:
        found = starting.blocker(draft.spec, draft.snapshot)
        waits = found.message if found else "starts with the next poll"
        return condition(type_, False, phase, f"not started: {waits}", now)
    if phase is Phase.SHADOWING:
        return condition(type_, False, phase, f"not live yet: {_held_back(draft)}", now)
    message = f"the experiment is on; {note or 'wait'}, or set spec.stop to end it"
    return condition(type_, False, phase, message, now)


def _held_back(draft: Draft) -> str:
    """What keeps the challengers from getting traffic."""
    found, note = draft.status.shadow, promotion.note(draft.experiment, draft.status)
    waits = starting.blocker(draft.spec, draft.snapshot)
    if found is None or found.state is ShadowState.PASS:
        why = waits.message if waits else "the split comes with the next poll"
    else:
        why = f"{found.model_version} {shadow.answer(found)}; set spec.stop to end it"
    return f"{why}; {note}" if note else why


def _tell_problems(draft: Draft) -> None:
    """Tell bad input once, when it is found or becomes another."""
    before = {c.type: c for c in draft.before.conditions}
    for c in draft.status.conditions:
        old = before.get(c.type)
        same = old and old.reason == c.reason and old.status is c.status
        watched = c.type in (ConditionType.ROUTES_READY, ConditionType.METRICS_READY)
        if watched and c.status is ConditionStatus.FALSE and not same:
            waits = c.reason == readiness.NOT_READY
            reason = Reason.ARM_NOT_READY if waits else Reason.CONFIG_INVALID
            draft.tell(reason, f"{c.type}: {c.message}")


def routed_condition(
    status: ExperimentStatus, routing: Routing | None, snapshot: Snapshot
) -> Condition:
    """What the route does once it says what it should: per request, or by user and how surely."""
    type_, now, seen = ConditionType.ROUTES_READY, snapshot.now, snapshot.route
    split = f"routed: {format_split(routing.split if routing else {})}"
    if routing and routing.mirror:
        mirror = routing.mirror
        of = f"{mirror.percent:g} % of the requests"
        if routing.copies_users and routing.table:
            of = f"the requests of {mirror.percent:g} % of {routing.table.champion}'s users"
        split += f"; {mirror.model_version} gets copies of {of}"
    users = status.assignment
    if routing is None or routing.table is None or users is None:
        return condition(type_, True, "PerRequest", split, now)
    if isinstance(seen, RouteSeen) and seen.unsticky:
        return condition(type_, False, seen.unsticky.reason, seen.unsticky.message, now)
    kept = f"{split}; users are kept by {users.drawn_by}"
    segments, found = routing.table.segments, snapshot.proof
    if not unproven(users, segments, status.memory.proven):
        return condition(type_, True, "Sticky", kept, now)
    said = status.condition(type_)
    judged = said is not None and said.reason in ("StickyUnproven", "NotAsPredicted")
    if judged and snapshot.counted is None and same_split(status.routed_split, routing.split):
        # Nothing was asked: only a poll does.
        assert said is not None
        return said
    if isinstance(found, Problem):
        return condition(type_, True, "StickyUnproven", f"{kept}; unproven: {found.message}", now)
    if found is None or found.of != route_id(users.drawn_by, segments):
        return condition(type_, True, "StickyUnproven", f"{kept}; {UNPROVEN}", now)
    message = (
        f"{len(found.wrong)} of {found.asked} users did not get the version predicted "
        f"({found.wrong[0]}): {NOT_AS_PREDICTED}"
    )
    return condition(type_, None, "NotAsPredicted", message, now)


def with_readiness(found: Condition, unready: Problem | None, snapshot: Snapshot) -> Condition:
    """RoutesReady of a route that says what it should, while not every version is ready."""
    if unready:
        routed = f"{unready.message} ({found.message})"
        return condition(ConditionType.ROUTES_READY, False, unready.reason, routed, snapshot.now)
    unknown = f"{found.message}; which versions are ready can't be read: {snapshot.readiness_error}"
    return found.model_copy(update={"message": unknown})


def route_written(
    status: ExperimentStatus, arms: list[RoutedArm], found: Condition
) -> ExperimentStatus:
    """The status once the route has the split that it should."""
    split = format_split({arm.model_version: arm.percent for arm in arms})
    return status.model_copy(
        update={
            "routed": arms,
            "conditions": conditions.merge(status.conditions, [found], status.observed_generation),
            "summary": status.summary.model_copy(update={"split": split}),
        }
    )


def route_failed(
    status: ExperimentStatus, problem: Problem, snapshot: Snapshot
) -> ExperimentStatus:
    """The status while the route can't be written: it is tried again without end."""
    found = condition(
        ConditionType.ROUTES_READY, False, problem.reason, problem.message, snapshot.now
    )
    merged = conditions.merge(status.conditions, [found], status.observed_generation)
    return status.model_copy(update={"conditions": merged})


def _summary(draft: Draft) -> Summary:
    status = draft.status
    lead = next((e for e in _by_gain(draft) if e.role is Role.PRIMARY), None)
    effect = (lead.relative or lead.absolute) if lead else None
    relative = lead is not None and lead.relative is not None
    return Summary(
        split=format_split(status.routed_split),
        lift=_size(effect.effect, relative) if effect else "",
        interval=(
            f"[{_size(effect.lower, relative)}, {_size(effect.upper, relative)}]" if effect else ""
        ),
        p_value=f"{lead.p_value:.2g}" if lead and lead.p_value is not None else "",
        samples=f"{lead.champion.samples:.0f} / {lead.challenger.samples:.0f}" if lead else "",
        guardrails=_guardrail_column(status),
        eta=_eta_column(status),
        reason=_reason_column(draft),
    )


def _size(value: float, relative: bool) -> str:
    return percent(value).replace(" ", "") if relative else f"{value:+.3g}"


def _by_gain(draft: Draft) -> list[MetricAnalysis]:
    sign = 1 if draft.spec.primary.goal is Goal.INCREASE else -1
    return sorted(
        draft.status.analysis,
        key=lambda e: -sign * e.absolute.effect if e.absolute else float("inf"),
    )


def _guardrail_column(status: ExperimentStatus) -> str:
    words = [
        f"{number} {state}"
        for state in GuardrailState
        if (number := sum(g.state is state for g in status.guardrails))
    ]
    return ", ".join(words)


def _eta_column(status: ExperimentStatus) -> str:
    if status.phase.ended:
        return "done"
    if status.plan is None or status.plan.eta is None or status.counted_until is None:
        return ""
    # From the last count on: as time goes by without one, nothing new can be said.
    left = status.plan.eta - status.counted_until
    minutes = max(1, round(left.total_seconds() / 60))
    return f"~{format_duration(timedelta(minutes=minutes))}"


def _reason_column(draft: Draft) -> str:
    status = draft.status
    for c in status.conditions:
        bad = c.status is ConditionStatus.FALSE
        if bad and c.type in (ConditionType.ROUTES_READY, ConditionType.METRICS_READY):
            return c.reason
    if status.sample_ratio and status.sample_ratio.mismatch:
        return "SampleRatioMismatch"
    if status.decision is None:
        return str(status.phase)
    if promotion.waits_for_word(draft.spec, status):
        return "WaitsForPromote"
    # What ended it is worth a sentence; while it runs, the action says it.
    return status.decision.reason if status.phase.ended else str(status.decision.action)
