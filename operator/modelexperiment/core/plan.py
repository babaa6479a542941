"""The decision: from spec, status and snapshot to what should be. Pure, and in one order.

Safety comes first: a broken guardrail ends the experiment before anything is counted or compared.
Each step below takes the draft of the new status and amends it; none reads anything but the
snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelexperiment.core import (
    counts,
    gate,
    guardrails,
    lifecycle,
    mirroring,
    placement,
    readiness,
    reporting,
    rollback,
    safety,
    shadow,
    starting,
)
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Event, Reason
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.rollout import Split, format_split, same_split, wanted_split
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen, Snapshot
from modelexperiment.core.status import ExperimentStatus, Phase, RoutedArm


@dataclass(frozen=True)
class Plan:
    """What should be, after looking at a snapshot."""

    status: ExperimentStatus
    routing: Routing | None
    """What the route must say; None: hands off the route."""
    events: tuple[Event, ...] = ()
    unready: Problem | None = None
    """Versions that have a share and no ready endpoints."""

    @property
    def split(self) -> Split | None:
        """The split that the route must have; None: hands off the route."""
        return self.routing.split if self.routing else None


def decide(experiment: Experiment, before: ExperimentStatus, snapshot: Snapshot) -> Plan:
    """Decide what should be."""
    draft = Draft(experiment, before, snapshot, before)
    if not before.phase.started:
        starting.start(draft)
    else:
        rollback.finish(draft)
        lifecycle.take_edits(draft)
        _step(draft)
    placement.take_proof(draft)
    reporting.report(draft)
    split = wanted_split(experiment.spec, draft.status)
    unready = readiness.take_changes(draft, split)
    routing = placement.place(draft, split)
    routing = readiness.only_ready(experiment.spec, routing, snapshot.not_ready)
    _tell_correction(draft, routing.split if routing else None)
    if routing is not None:
        routing = replace(_mirrored(draft, routing), marker=rollback.marker(draft))
    return Plan(draft.status, routing, tuple(draft.events), unready)


def _mirrored(draft: Draft, routing: Routing) -> Routing:
    """With the mirror, once its target stands in the status that was read."""
    wanted = mirroring.wanted_mirror(draft.spec, draft.status)
    draft.remember(mirrored=mirroring.remembered(draft.status, wanted))
    known = wanted and wanted.target in draft.before.memory.mirrored
    mirror = wanted if known else None
    return replace(routing, mirror=mirror, retired=mirroring.retired(draft.status, wanted))


def _step(draft: Draft) -> None:
    """One step of a started experiment."""
    if draft.status.phase.ended:
        return
    if not draft.status.shadowing:
        # Without traffic no challenger can break one.
        _judge_guardrails(draft)
    counts.count(draft)
    if draft.status.phase.ended:
        return
    shadow.count(draft)
    lifecycle.stop_or_pause(draft)
    if draft.status.phase is Phase.SHADOWING:
        gate.conclude(draft)
    elif draft.status.phase in (Phase.RUNNING, Phase.ROLLING_OUT):
        lifecycle.conclude(draft)


def _judge_guardrails(draft: Draft) -> None:
    spec, snapshot = draft.spec, draft.snapshot
    split = wanted_split(spec, draft.status) or {}
    split = readiness.routable(spec, split, snapshot.not_ready) if split else split
    judged = guardrails.judge_all(spec, snapshot, draft.status.guardrails, split)
    tested, draft.fed = safety.judge(draft, split)
    order = [guardrail.name for guardrail in spec.guardrails]
    judged = sorted([*judged, *tested], key=lambda g: order.index(g.name))
    draft.update(guardrails=judged)
    broken = guardrails.broken(spec, judged)
    if broken:
        lifecycle.roll_back(draft, broken[0])
        return
    since = draft.status.start_time or snapshot.now
    late = guardrails.overdue(spec.analysis, judged, since, snapshot.now, draft.fed)
    if late:
        lifecycle.give_up_on_guardrail(draft, late[0])


def _tell_correction(draft: Draft, split: Split | None) -> None:
    """Say that somebody else changed the weights, where this is what happened."""
    route, routed = draft.snapshot.route, draft.before.routed_split
    if split is None or not isinstance(route, RouteSeen) or not routed:
        return
    unchanged = same_split(routed, split)
    if unchanged and (route.split is None or not same_split(dict(route.split), split)):
        found = "other destinations" if route.split is None else format_split(dict(route.split))
        message = f"the route said {found} and was put back to {format_split(split)}"
        draft.tell(Reason.ROUTE_CORRECTED, message)
        draft.remember(corrected=draft.snapshot.now)


def finish_rollback(before: ExperimentStatus, decided: Plan) -> Plan:
    """A rollback that was decided earlier, over a status that somebody has written since."""
    said = ("phase", "end_time", "decision", "guardrails", "rollout", "conditions", "summary")
    status = before.model_copy(update={name: getattr(decided.status, name) for name in said})
    # It answers the spec that it saw, or it would start again at once.
    asked = {"purpose": decided.status.memory.purpose}
    status = status.model_copy(update={"memory": status.memory.model_copy(update=asked)})
    return replace(decided, status=status)


def routed(plan: Plan, snapshot: Snapshot) -> Plan:
    """The plan after its split was written to the route."""
    arms = [RoutedArm(model_version=v, percent=p) for v, p in (plan.split or {}).items()]
    found = reporting.routed_condition(plan.status, plan.routing, snapshot)
    if plan.unready or snapshot.readiness_error:
        found = reporting.with_readiness(found, plan.unready, snapshot)
    return replace(plan, status=reporting.route_written(plan.status, arms, found))


def not_routed(plan: Plan, problem: Problem, snapshot: Snapshot) -> Plan:
    """The plan after writing its split has failed: the next reconcile tries again."""
    return replace(plan, status=reporting.route_failed(plan.status, problem, snapshot))
