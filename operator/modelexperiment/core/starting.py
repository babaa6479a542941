"""How an experiment starts: what keeps it from that, with copies only or live, and again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from modelexperiment.core import analysis, readiness, rollout, shadow
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.snapshot import Counted, Problem, RouteSeen, Snapshot
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus, Memory, Phase, RoutedArm


def blocker(spec: ExperimentSpec, snapshot: Snapshot) -> Problem | None:
    """What keeps an experiment from starting, if anything does."""
    if snapshot.unsupported:
        return snapshot.unsupported
    if isinstance(snapshot.route, Problem):
        return snapshot.route
    if snapshot.route.pending:
        return snapshot.route.pending
    if snapshot.route.unsticky and spec.assignment:
        return snapshot.route.unsticky
    if snapshot.holder:
        return Problem(
            "RouteHeld",
            f"the route is held by the experiment {snapshot.holder}: delete that one first",
        )
    return readiness.blocker(spec, snapshot.not_ready) or metrics_blocker(spec, snapshot)


def metrics_blocker(spec: ExperimentSpec, snapshot: Snapshot) -> Problem | None:
    """What keeps the metrics and guardrails from being read before the start."""
    counted = snapshot.counted
    if isinstance(counted, Problem):
        return counted
    if counted is not None and counted.silent:
        return Problem(
            "NoSeries",
            f"{counted.silent[0]} matches no series of {spec.champion_version}: check the "
            "selector and versionLabel; a counter that has not counted yet must be exposed as 0",
        )
    guarded = snapshot.guarded
    if isinstance(guarded, Problem):
        return guarded
    if guarded is not None and guarded.settled.silent:
        return Problem(
            "NoSeries",
            f"{guarded.settled.silent[0]} matches no series of {spec.champion_version}: check the "
            "selector and versionLabel; a counter that has not counted yet must be exposed as 0",
        )
    for guardrail in spec.guardrails:
        reading = snapshot.reading(guardrail.name, spec.champion_version)
        if reading and reading.error:
            return reading.error
        if reading and reading.value is None:
            return Problem(
                "NoData",
                f"spec.guardrails[{guardrail.name}].query {reading.missing} for "
                f"{spec.champion_version}: the experiment starts once it gives a number",
            )
    return None


def start(draft: Draft) -> None:
    """Start the experiment, or say what it waits for. Nothing is written to the route before."""
    spec, snapshot = draft.spec, draft.snapshot
    found = blocker(spec, snapshot)
    route, counted = snapshot.route, snapshot.counted
    if found or not isinstance(route, RouteSeen) or not isinstance(counted, Counted):
        draft.update(phase=Phase.PENDING)
        return
    draft.remember(original_route=route.destinations)
    if shadow.holds_back(spec):
        _begin_shadowing(draft, counted)
        return
    _begin(draft, counted)
    draft.tell(Reason.STARTED, f"traffic is split: {rollout.format_split(spec.split)}")


def go_live(draft: Draft) -> None:
    """Split the traffic after a time of shadowing, unless the metrics can't be read now."""
    counted, memory, found = draft.snapshot.counted, draft.status.memory, draft.status.shadow
    if not isinstance(counted, Counted) or blocker(draft.spec, draft.snapshot):
        return
    _begin(draft, counted)
    # What was found of a challenger stays; it is counted no more.
    draft.remember(promoted=memory.promoted)
    if shadow.holds_back(draft.spec):
        draft.update(shadow=found)
    split = rollout.format_split(draft.spec.split)
    draft.tell(Reason.STARTED, f"traffic is split: {split}")


def _begin_shadowing(draft: Draft, counted: Counted) -> None:
    """Begin to copy to the shadow, while the champion keeps all traffic."""
    spec, known = draft.spec, draft.status.memory
    assert spec.shadow is not None
    draft.status = ExperimentStatus(
        phase=Phase.SHADOWING,
        conditions=draft.status.conditions,
        routed=draft.status.routed,
        assignment=draft.status.assignment,
        memory=Memory(
            original_route=known.original_route,
            mirrored=known.mirrored,
            purpose=purpose(spec),
            layout=known.layout,
            shadowing=True,
        ),
    )
    shadow.begin(draft, counted.until)
    champion, version = spec.champion_version, spec.shadow.model_version
    draft.tell(
        Reason.SHADOWING,
        f"{version} gets copies, and {champion} keeps all traffic until the answers agree",
    )


def _begin(draft: Draft, counted: Counted) -> None:
    """Begin to count from now on, with nothing counted yet."""
    spec = draft.spec
    memory = Memory(
        original_route=draft.status.memory.original_route,
        mirrored=draft.status.memory.mirrored,
        fingerprints={m.name: analysis.fingerprint(spec, m) for m in spec.metrics},
        split=arms(spec.split),
        split_since=counted.until,
        guarded_until=counted.until,
        purpose=purpose(spec),
        layout=draft.status.memory.layout,
    )
    draft.status = ExperimentStatus(
        phase=Phase.RUNNING,
        conditions=draft.status.conditions,
        routed=draft.status.routed,
        assignment=draft.status.assignment,
        start_time=counted.until,
        counted_until=counted.until,
        memory=memory,
    )
    shadow.begin(draft, counted.until)


def arms(split: rollout.Split) -> list[RoutedArm]:
    """The split as the status keeps it."""
    return [RoutedArm(model_version=v, percent=p) for v, p in split.items()]


_ASKED: dict[str, Any] = {
    **dict.fromkeys(("traffic", "champion", "metrics", "guardrails", "analysis"), True),
    # Where the proof is looked for is no part of the question.
    "assignment": {"header", "cookie", "salt", "buckets", "bucket_label"},
}


def purpose(spec: ExperimentSpec) -> str:
    """A short name for what is asked: an ended experiment starts again where it changes.

    Without what is left at its default: a field that a later version adds asks nothing new.
    """
    asked = spec.model_dump(
        mode="json",
        include=_ASKED,
        exclude_defaults=True,
    )
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def wants_restart(spec: ExperimentSpec, status: ExperimentStatus) -> bool:
    """Whether an ended experiment is to start again: it is asked something else, or released."""
    asked_anew = status.memory.purpose != purpose(spec) or shadow.asks_anew(spec, status)
    released = status.phase is Phase.STOPPED
    return not spec.stop and (asked_anew or released)


def start_again(draft: Draft) -> None:
    """Start an ended experiment anew where it is asked something else, once it can be."""
    spec, snapshot = draft.spec, draft.snapshot
    if not wants_restart(spec, draft.status) or blocker(spec, snapshot):
        return
    if not isinstance(snapshot.counted, Counted):
        return
    if shadow.holds_back(spec):
        _begin_shadowing(draft, snapshot.counted)
    else:
        _begin(draft, snapshot.counted)
        draft.tell(Reason.STARTED, f"started again: {rollout.format_split(spec.split)}")
    # What was said of the last run, and may have been rolled back in it, is not said of this.
    draft.remember(promoted=spec.rollout.promote)
