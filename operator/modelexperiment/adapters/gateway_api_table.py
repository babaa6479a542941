"""A table of users as the backendRefs of an HTTPRoute's rule, and back.

A rule takes 16 backendRefs, so that no hash buckets can be stamped: the list is that of one bucket.
Each stamps its version on request and response, over whatever the caller sent.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from modelexperiment.adapters.segments import VERSION
from modelexperiment.core.allocation import Segment, SegmentTable

Ref = Mapping[str, Any]
_SIDES = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
}


def refs_of(table: SegmentTable, bare: Mapping[str, Ref]) -> list[Ref]:
    """The backendRefs of a table; `bare` are those of each version, without weight and stamps.

    Versions without slots stay listed with weight 0, for what their owner wrote beside the weight.
    istiod drops those, and what makes Envoy choose by the user needs two that are left: a version
    that has all slots therefore stands twice.
    """
    shares = [(version, slots) for version, slots in table.layout]
    if len(shares) == 1:
        ((version, slots),) = shares
        shares = [(version, slots // 2), (version, slots - slots // 2)]
    used = {version for version, _ in shares}
    shares += [(version, 0) for version in bare if version not in used]
    return [{**_stamped(bare[version], version), "weight": slots} for version, slots in shares]


def segments_of(refs: Sequence[Ref], versions: Mapping[str, str]) -> tuple[Segment, ...] | None:
    """The segments that backendRefs stand for, neighbours of one version merged.

    `versions` gives the version of a backend. None where one is not stamped as it should be.
    """
    found: list[Segment] = []
    for ref in refs:
        weight = int(ref.get("weight", 1))
        if not weight:
            continue
        version = versions.get(str(ref["name"]))
        if version is None or ref != _stamped(ref, version):
            return None
        if found and found[-1].model_version == version:
            weight += found.pop().slots
        found.append(Segment(0, version, weight))
    return tuple(found)


def without_stamps(ref: Ref) -> dict[str, Any]:
    """The backendRef as its owner wrote it."""
    bare = copy.deepcopy(dict(ref))
    filters = []
    for entry in bare.get("filters") or []:
        side = _SIDES.get(entry.get("type"))
        headers = entry.get(side) if side else None
        if not headers or not any(_is_stamp(h) for h in headers.get("set") or []):
            filters.append(entry)
            continue
        headers["set"] = [h for h in headers["set"] if not _is_stamp(h)]
        if not headers["set"]:
            del headers["set"]
        if headers:
            filters.append(entry)
    if filters:
        bare["filters"] = filters
    elif bare.get("filters"):
        del bare["filters"]
    return bare


def _stamped(ref: Ref, version: str) -> dict[str, Any]:
    """With the stamp beside the owner's headers, since a filter's kind may stand only once."""
    stamped = without_stamps(ref)
    filters = stamped.setdefault("filters", [])
    for type_, side in _SIDES.items():
        entry = next((f for f in filters if f.get("type") == type_), None)
        if entry is None:
            entry = {"type": type_, side: {}}
            filters.append(entry)
        entry[side].setdefault("set", []).append({"name": VERSION, "value": version})
    return stamped


def _is_stamp(header: Mapping[str, Any]) -> bool:
    return str(header.get("name", "")).lower() == VERSION
