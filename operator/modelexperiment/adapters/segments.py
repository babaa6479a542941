"""A table of users as the destinations of an http route, and back.

Each destination stamps its version and its hash bucket on request and response, over whatever the
caller sent; so the application learns both without hashing anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelexperiment.core.allocation import Segment, SegmentTable

VERSION, BUCKET = "x-model-version", "x-experiment-bucket"

Destination = dict[str, Any]


def destinations_of(
    table: SegmentTable, versions: Sequence[str], bare: Callable[[str], Destination]
) -> list[Destination]:
    """The destinations of a table; `bare` makes that of a version, without weight and stamps.

    Versions without slots stay listed with weight 0. That keeps what their owner wrote beside the
    weight, and it keeps two destinations in the list: istiod writes weighted clusters only then,
    and an EnvoyFilter that merges into them breaks the route otherwise.
    """
    used = {segment.model_version for segment in table.segments}
    entries = [
        {
            **_stamped(bare(model_version), model_version, bucket if table.buckets else None),
            "weight": slots,
        }
        for bucket, model_version, slots in table.segments
    ]
    entries += [{**_stamped(bare(v), v, None), "weight": 0} for v in versions if v not in used]
    return entries


def segments_of(
    destinations: Sequence[Mapping[str, Any]],
    buckets: int,
    serves: Callable[[Mapping[str, Any]], str | None],
) -> tuple[Segment, ...] | None:
    """The segments that destinations stand for; None where one is not stamped as it should be."""
    found = []
    for destination in destinations:
        if not destination.get("weight"):
            continue
        version = serves(destination)
        stamps = _stamps(destination)
        bucket = stamps.pop(BUCKET, "0")
        if version is None or stamps != {VERSION: version} or not bucket.isdecimal():
            return None
        if destination != _stamped(dict(destination), version, int(bucket) if buckets else None):
            return None
        found.append(Segment(int(bucket), version, int(destination["weight"])))
    return tuple(found)


def without_stamps(destination: Mapping[str, Any]) -> Destination:
    """The destination as its owner wrote it."""
    bare = copy.deepcopy(dict(destination))
    headers = bare.get("headers", {})
    for side in ("request", "response"):
        stamps = headers.get(side, {}).get("set", {})
        if VERSION in stamps or BUCKET in stamps:
            for name in (VERSION, BUCKET):
                stamps.pop(name, None)
            if not stamps:
                del headers[side]["set"]
            if not headers[side]:
                del headers[side]
    if "headers" in bare and not headers:
        del bare["headers"]
    return bare


def _stamps(destination: Mapping[str, Any]) -> dict[str, str]:
    stamps = destination.get("headers", {}).get("request", {}).get("set", {})
    return {name: str(stamps[name]) for name in (VERSION, BUCKET) if name in stamps}


def _stamped(destination: Destination, version: str, bucket: int | None) -> Destination:
    stamps = {VERSION: version}
    if bucket is not None:
        stamps[BUCKET] = str(bucket)
    stamped = without_stamps(destination)
    headers = stamped.setdefault("headers", {})
    for side in ("request", "response"):
        headers.setdefault(side, {}).setdefault("set", {}).update(stamps)
    return stamped
