"""Shadow versions: what a route must copy, to whom, and what it must no longer copy.

A mirror has no name in a route, so that the operator knows its own by where they lead. It remembers
every target before it mirrors to it for the first time: whatever it has ever written it can take
away again, also after the spec has come to name another shadow, or none.
"""

from __future__ import annotations

from modelexperiment.core.routing import Mirror
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus


def mirror_target(spec: ExperimentSpec) -> str | None:
    """The subset (Istio) or the backend (Gateway API) that serves the shadow, if there is one."""
    shadow = spec.shadow
    if shadow is None:
        return None
    # A challenger that is copied to is what would go live, where it would.
    arms = (arm for arm in spec.traffic if arm.model_version == shadow.model_version)
    served = next(arms, shadow)
    named = served.subset if spec.route.istio else served.service
    return named or shadow.model_version


def by_user(spec: ExperimentSpec) -> bool:
    """Whether a shadow gets copies of certain users' requests, rather than of any at random."""
    return spec.route.istio is not None and spec.assignment is not None


def wanted_mirror(spec: ExperimentSpec, status: ExperimentStatus) -> Mirror | None:
    """What is to be copied in this phase: a shadow ends with the experiment, or as it goes live."""
    shadow, target = spec.shadow, mirror_target(spec)
    if shadow is None or target is None or not status.phase.started or status.phase.ended:
        return None
    if shadow.model_version in spec.challengers and not status.shadowing:
        return None
    return Mirror(shadow.model_version, shadow.percent, target, by_user(spec))


def remembered(status: ExperimentStatus, mirror: Mirror | None) -> list[str]:
    """All targets that were ever mirrored to, this one included."""
    known = status.memory.mirrored
    return known if mirror is None or mirror.target in known else [*known, mirror.target]


def retired(status: ExperimentStatus, mirror: Mirror | None) -> tuple[str, ...]:
    """The remembered targets that the route must name no mirror to any more.

    Users are copied by the entries of their table, and by no mirror of the route.
    """
    wanted = mirror.target if mirror and not mirror.by_user else None
    return tuple(target for target in status.memory.mirrored if target != wanted)
