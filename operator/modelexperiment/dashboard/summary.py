"""What the list shows of one experiment, from its object in the API server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelexperiment.core import promotion
from modelexperiment.core.effects import effect_of, leader, reach, size
from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.rollout import format_split
from modelexperiment.core.spec import ExperimentSpec, Goal
from modelexperiment.core.status import ExperimentStatus, Interval
from modelexperiment.dashboard.attention import Attention, Level, judge
from modelexperiment.dashboard.drawing import Effect

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """One experiment as the list shows it. All texts may hold a user's words."""

    namespace: str
    name: str
    phase: str
    attention: Attention
    changed: str
    """When something last turned, in RFC 3339; what turned last stands first."""
    created: str
    """When the object was made, in RFC 3339."""
    split: str = ""
    metric: str = ""
    version: str = ""
    """The challenger whose effect is shown."""
    effect: Effect | None = None
    lift: str = ""
    interval: str = ""
    verdict: str = ""
    action: str = ""
    eta: str = ""
    guardrails: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Its namespace and name."""
        return self.namespace, self.name

    @property
    def words(self) -> str:
        """What a search looks through."""
        parts = (self.namespace, self.name, self.phase, self.metric, self.split, self.verdict)
        return "\n".join((*parts, self.action, self.attention.why)).casefold()


def summarize(seen: Object) -> Summary:
    """What the list shows of an object; of one that this version can't read, that it can't."""
    metadata = seen["metadata"]
    found = seen.get("status") or {}
    try:
        status = ExperimentStatus.model_validate(found)
        experiment = parse_experiment(seen)
    except (ValidationError, ManifestError) as error:
        why = f"can't be read by this version: {_first_line(error)}"
        return Summary(
            *(metadata["namespace"], metadata["name"], str(found.get("phase") or "unknown")),
            attention=Attention(Level.WARNING, why),
            changed=metadata["creationTimestamp"],
            created=metadata["creationTimestamp"],
        )
    return _of(metadata, experiment, status)


def _first_line(error: ValidationError | ManifestError) -> str:
    if isinstance(error, ManifestError):
        return str(error.errors[0])
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in ('status', *first['loc']))}: {first['msg'].lower()}"


def _of(metadata: Object, experiment: Experiment, status: ExperimentStatus) -> Summary:
    spec = experiment.spec
    note = promotion.note(experiment, status)
    best = leader(spec, status)
    interval, relative = effect_of(best) if best else (None, False)
    effect = _effect(spec, best.significant, interval, relative) if best and interval else None
    return Summary(
        namespace=experiment.namespace,
        name=experiment.name,
        phase=str(status.phase),
        attention=judge(metadata, status, note),
        changed=_changed(metadata, status),
        created=metadata["creationTimestamp"],
        split=format_split(status.routed_split),
        metric=spec.primary.name,
        version=best.model_version if best else "",
        effect=effect,
        lift=size(interval.effect, relative) if interval else "",
        interval=reach(interval, relative) if interval else "",
        verdict=str(status.verdict or ""),
        action=str(status.decision.action) if status.decision else "",
        eta="" if status.phase.ended else status.summary.eta,
        guardrails=status.summary.guardrails,
    )


def _effect(spec: ExperimentSpec, significant: bool, found: Interval, relative: bool) -> Effect:
    sign = 1 if spec.primary.goal is Goal.INCREASE else -1
    smallest = spec.primary.minimum_effect
    wanted = (smallest.relative if relative else smallest.absolute) if smallest else None
    better = sign * found.effect > 0 if significant else None
    return Effect(found, wanted and sign * wanted, better)


def _changed(metadata: Object, status: ExperimentStatus) -> str:
    times: list[datetime] = [c.last_transition_time for c in status.conditions]
    times += [t for t in (status.start_time, status.end_time) if t]
    return max(times).strftime("%Y-%m-%dT%H:%M:%SZ") if times else metadata["creationTimestamp"]
