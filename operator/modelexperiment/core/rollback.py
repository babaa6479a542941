"""A rollback that survives the operator: the route is written first, and bears the reason.

Between the write of the route and that of the status the operator may be killed. The reason then
stands in the route's object, written together with the weights, and whoever comes next finishes
the rollback with it. To decide anew would send users back to a challenger that, without traffic,
breaks no guardrail any more.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from modelexperiment.core import ramp
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.fields import format_time
from modelexperiment.core.snapshot import RouteSeen
from modelexperiment.core.status import Decision, GuardrailStatus, Phase


def marker(draft: Draft) -> str | None:
    """What the route is to bear where this decision rolls the experiment back."""
    status = draft.status
    if status.phase is not Phase.ROLLED_BACK or status.decision is None:
        return None
    kept: dict[str, Any] = {
        "run": _run(draft),
        "purpose": status.memory.purpose,
        "decision": status.decision.dump(),
        "guardrails": [g.dump() for g in status.guardrails if g.breach is not None],
    }
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)


def _run(draft: Draft) -> str:
    """Which run of which experiment: another experiment, or the next run, is none of its."""
    started = draft.status.start_time
    experiment = draft.experiment
    began = format_time(started) if started else ""
    return f"{experiment.namespace}/{experiment.name}/{began}"


def finish(draft: Draft) -> None:
    """End an experiment whose route tells of a rollback that its status does not."""
    route = draft.snapshot.route
    if draft.status.phase.ended or not isinstance(route, RouteSeen) or not route.marker:
        return
    try:
        kept = json.loads(route.marker)
        if kept["run"] != _run(draft):
            return
        decided = Decision.model_validate(kept["decision"])
        # Of the spec that broke the guardrail, which the status may not have seen yet.
        purpose = str(kept.get("purpose", draft.status.memory.purpose))
        broken = [GuardrailStatus.model_validate(g) for g in kept["guardrails"]]
    except (ValueError, KeyError, TypeError, ValidationError):
        # Somebody wrote what no operator did.
        return
    ramp.end(draft, Phase.ROLLED_BACK)
    draft.remember(purpose=purpose)
    known = {(g.name, g.model_version): g for g in [*draft.status.guardrails, *broken]}
    draft.update(decision=decided, guardrails=list(known.values()))
    champion = draft.spec.champion_version
    draft.tell(Reason.ROLLED_BACK, f"{champion} gets everything: {decided.reason}")
