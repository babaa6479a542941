"""How a VirtualService's http route mirrors to one of the experiment's subsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelexperiment.adapters import mirrors
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import IstioRoute


def mirror_kind(
    subset_of: Callable[[mirrors.Entry], str | None], to: Callable[[str], dict[str, Any]]
) -> mirrors.Kind:
    """How an http route's `mirrors` are written; without a percentage it is all requests.

    `subset_of` is the subset that an entry leads to, None where it leads elsewhere; `to` gives the
    entry's destination.
    """

    def percent(entry: mirrors.Entry) -> float:
        return float((entry.get("percentage") or {"value": 100}).get("value", 0))

    def entry(subset: str, share: float) -> dict[str, Any]:
        return {**to(subset), "percentage": {"value": share}}

    return mirrors.Kind(subset_of, percent, entry)


def mirrors_blocked(http: Mapping[str, Any], route: IstioRoute) -> Problem | None:
    """Whether no mirror can be added, since Istio takes only one of the two fields."""
    if "mirror" not in http:
        return None
    return Problem(
        "MirrorConflict",
        f"spec.shadow: http route {http.get('name', 'unnamed')} of VirtualService "
        f"{route.virtual_service} has the older field mirror, which Istio does not take beside "
        "mirrors: write it as an entry of mirrors",
    )
