"""Gateway API: what one rule of an HTTPRoute says, and what it is to say. Pure.

The HTTPRoute stays its owner's. Only the rule's `backendRefs` are the operator's, and among its
`filters` the one mirror that it adds. A version's backend is told by its name; one that the rule
does not list yet gets group, kind, namespace and port of the champion's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from modelexperiment.adapters import mirrors
from modelexperiment.adapters.gateway_api_table import refs_of, segments_of
from modelexperiment.core.allocation import Segment, SegmentTable
from modelexperiment.core.mirroring import mirror_target
from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec, GatewayApiRoute

GROUP, VERSION, PLURAL = "gateway.networking.k8s.io", "v1", "httproutes"
MOST_FILTERS = 16
"""What the HTTPRoute's CRD takes of one rule."""
_HUNDREDTHS = 10_000
_MIRROR = "RequestMirror"
_COPIED = ("group", "kind", "namespace", "port")
"""What a new backendRef has from the champion's."""

Ref = Mapping[str, Any]


def gateway_api_of(spec: ExperimentSpec) -> GatewayApiRoute:
    """The spec's HTTPRoute; it has one where this router is used."""
    assert spec.route.gateway_api is not None
    return spec.route.gateway_api


def find_rule(http_route: Mapping[str, Any], wanted: GatewayApiRoute) -> int | Problem:
    """The index of the rule that is meant."""
    name = wanted.http_route
    rules: Sequence[Mapping[str, Any]] = http_route.get("spec", {}).get("rules") or []
    if wanted.rule is None:
        if len(rules) == 1:
            return 0
        names = ", ".join(str(rule.get("name", "unnamed")) for rule in rules) or "none"
        return Problem(
            "RouteAmbiguous",
            f"HTTPRoute {name} has {len(rules)} rules ({names}): name one in "
            "spec.route.gatewayAPI.rule",
        )
    # Names of rules are unique: the CRD refuses a second one.
    for index, rule in enumerate(rules):
        if rule.get("name") == wanted.rule:
            return index
    names = ", ".join(str(rule["name"]) for rule in rules if rule.get("name")) or "no named ones"
    return Problem(
        "RouteNotFound",
        f"spec.route.gatewayAPI.rule: HTTPRoute {name} has no rule {wanted.rule}; it has {names}",
    )


def services(spec: ExperimentSpec) -> dict[str, str]:
    """The backend that serves each version."""
    return {arm.model_version: arm.service or arm.model_version for arm in spec.traffic}


def backends(spec: ExperimentSpec) -> dict[str, str]:
    """Every backend that the spec asks for, by the field that does."""
    found = {f"spec.traffic[{version}]": service for version, service in services(spec).items()}
    shadow = mirror_target(spec)
    return found if shadow is None else {**found, "spec.shadow": shadow}


def split_of(refs: Sequence[Ref], spec: ExperimentSpec) -> Split | None:
    """The split that a rule's backendRefs give; None where traffic goes elsewhere as well."""
    by_service = {service: version for version, service in services(spec).items()}
    weights = [int(ref.get("weight", 1)) for ref in refs]
    total = sum(weights)
    if total == 0:
        return None
    split = dict.fromkeys(spec.versions, 0.0)
    for ref, weight in zip(refs, weights, strict=True):
        version = by_service.get(str(ref["name"]))
        if version is not None:
            split[version] += 100 * weight / total
        elif weight > 0:
            return None
    return split


def table_refs(table: SegmentTable, refs: Sequence[Ref], spec: ExperimentSpec) -> list[Ref]:
    """The backendRefs of a users' table, keeping whatever else the existing ones say."""
    bare = refs_for(dict.fromkeys(spec.versions, 0.0), refs, spec)
    return refs_of(table, dict(zip(spec.versions, bare, strict=True)))


def table_segments(refs: Sequence[Ref], spec: ExperimentSpec) -> tuple[Segment, ...] | None:
    """The users' table that a rule's backendRefs stand for; None where they are none."""
    return segments_of(refs, {service: version for version, service in services(spec).items()})


def ref_to(backend: str, refs: Sequence[Ref], spec: ExperimentSpec) -> dict[str, Any]:
    """A reference to a backend: what the rule says of it, or else of the champion's."""
    named = {str(ref["name"]): ref for ref in refs}
    champion = services(spec)[spec.champion_version]
    like = named.get(backend) or named.get(champion) or (refs[0] if refs else {})
    return {"name": backend, **{field: like[field] for field in _COPIED if field in like}}


def refs_for(split: Split, refs: Sequence[Ref], spec: ExperimentSpec) -> list[Ref]:
    """The backendRefs of a split, keeping whatever else the existing ones say.

    All versions stay listed, with weight 0 where they get nothing. Weights are percents, or
    hundredths of them where one has decimals.
    """
    scale = 1 if all(float(percent).is_integer() for percent in split.values()) else 100
    named = {str(ref["name"]): ref for ref in refs}
    result: list[Ref] = []
    for version, percent in split.items():
        service = services(spec)[version]
        known = named.get(service)
        ref = copy.deepcopy(dict(known)) if known else ref_to(service, refs, spec)
        ref["weight"] = round(percent * scale)
        result.append(ref)
    return result


def mirror_kind(refs: Sequence[Ref], spec: ExperimentSpec) -> mirrors.Kind:
    """How the rule's filters write a mirror."""

    def target(entry: mirrors.Entry) -> str | None:
        mirror = entry.get("requestMirror") if entry.get("type") == _MIRROR else None
        return str(mirror["backendRef"]["name"]) if mirror else None

    def percent(entry: mirrors.Entry) -> float:
        mirror = entry["requestMirror"]
        fraction = mirror.get("fraction")
        if fraction:
            return 100 * float(fraction["numerator"]) / float(fraction.get("denominator", 100))
        return float(mirror.get("percent", 100))

    def entry(backend: str, share: float) -> dict[str, Any]:
        mirror: dict[str, Any] = {"backendRef": ref_to(backend, refs, spec)}
        if float(share).is_integer():
            mirror["percent"] = int(share)
        else:
            numerator = round(share / 100 * _HUNDREDTHS)
            mirror["fraction"] = {"numerator": numerator, "denominator": _HUNDREDTHS}
        return {"type": _MIRROR, "requestMirror": mirror}

    return mirrors.Kind(target, percent, entry)


def not_in_force(http_route: Mapping[str, Any]) -> Problem | None:
    """Why no Gateway serves the HTTPRoute as it stands, if that is so.

    Every parent must have accepted this very generation, and have found all its backends.
    """
    name = http_route["metadata"]["name"]
    parents = http_route["spec"].get("parentRefs") or []
    if not parents:
        return Problem("NotAccepted", f"HTTPRoute {name} has no parentRefs: no Gateway serves it")
    for parent in parents:
        problem = _of_parent(http_route, parent)
        if problem:
            return problem
    return None


def _of_parent(http_route: Mapping[str, Any], parent: Mapping[str, Any]) -> Problem | None:
    metadata = http_route["metadata"]
    wanted = identity(parent, metadata["namespace"])
    said = (http_route.get("status") or {}).get("parents") or []
    entries = [e for e in said if identity(e["parentRef"], metadata["namespace"]) == wanted]
    where = f"HTTPRoute {metadata['name']}: {parent.get('kind', 'Gateway')} {parent['name']}"
    if not entries:
        return Problem(
            "NotAccepted",
            f"{where} says nothing of it: check that it exists and has a controller",
        )
    # A controller that is gone leaves its entry behind: one that accepts is enough.
    problems = [_of_entry(where, entry, int(metadata["generation"])) for entry in entries]
    return None if None in problems else problems[0]


def _of_entry(where: str, entry: Mapping[str, Any], generation: int) -> Problem | None:
    conditions = {c["type"]: c for c in entry.get("conditions") or []}
    for type_, reason in (("Accepted", "NotAccepted"), ("ResolvedRefs", "RefsNotResolved")):
        found = conditions.get(type_, {})
        seen = found.get("observedGeneration")
        if seen != generation:
            return Problem(
                "NotYetObserved",
                f"{where} has not answered generation {generation} yet ({type_} is of "
                f"{'none' if seen is None else seen}); it is looked at again",
                bad_input=False,
            )
        if found.get("status") != "True":
            return Problem(
                reason,
                f"{where} says {type_} {found.get('status')}, {found.get('reason')}: "
                f"{found.get('message')}",
            )
    return None


def identity(parent: Mapping[str, Any], namespace: str) -> tuple[object, ...]:
    """A parentRef with what may be left out, so that two can be compared."""
    return (
        parent.get("group", GROUP),
        parent.get("kind", "Gateway"),
        parent.get("namespace", namespace),
        parent["name"],
        parent.get("sectionName"),
        parent.get("port"),
    )
