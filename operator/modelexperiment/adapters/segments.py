"""A table of users as the destinations of an http route, and back.

Each destination stamps its version and its hash bucket on request and response, over whatever the
caller sent; so the application learns both without hashing anything. Where a shadow gets copies of
users' requests, the destinations of those users name Envoy's cluster for the copies in one more
header of the request, and all others remove that header.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from modelexperiment.core.allocation import Segment, SegmentTable

VERSION, BUCKET = "x-model-version", "x-experiment-bucket"
MIRROR_TO = "x-mirror-to"

Destination = dict[str, Any]


class Copies(NamedTuple):
    """Whose requests are copied, and where to."""

    percent: float
    """Of the champion's users."""
    cluster: str
    """Envoy's name of the shadow's servers."""


NOBODY = Copies(0.0, "")
"""No copies, and no caller can ask for them either."""


def marked(destinations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some destination says whether its users' requests are copied."""
    return any(_copied(destination) is not None for destination in destinations)


def destinations_of(
    table: SegmentTable,
    versions: Sequence[str],
    bare: Callable[[str], Destination],
    copies: Copies | None = None,
) -> list[Destination]:
    """The destinations of a table; `bare` makes that of a version, without weight and stamps.

    Versions without slots stay listed with weight 0. That keeps what their owner wrote beside the
    weight, and it keeps two destinations in the list: istiod writes weighted clusters only then,
    and an EnvoyFilter that merges into them breaks the route otherwise.
    """
    segments = table.mirrored(copies.percent) if copies else table.segments
    cluster = copies.cluster if copies else None
    used = {segment.model_version for segment in segments}
    entries = [
        {
            **_stamped(bare(segment.model_version), segment, bool(table.buckets), cluster),
            "weight": segment.slots,
        }
        for segment in segments
    ]
    unused = [Segment(0, version, 0) for version in versions if version not in used]
    entries += [{**_stamped(bare(s.model_version), s, False), "weight": 0} for s in unused]
    return entries


def segments_of(
    destinations: Sequence[Mapping[str, Any]],
    buckets: int,
    serves: Callable[[Mapping[str, Any]], str | None],
    cluster: str | None = None,
) -> tuple[Segment, ...] | None:
    """The segments that destinations stand for; None where one is not stamped as it should be.

    `cluster` is where copies are to go, if they are.
    """
    found = []
    for destination in destinations:
        if not destination.get("weight"):
            continue
        version = serves(destination)
        stamps = _stamps(destination)
        bucket = stamps.pop(BUCKET, "0")
        if version is None or stamps != {VERSION: version} or not bucket.isdecimal():
            return None
        copied = _copied(destination)
        segment = Segment(int(bucket), version, int(destination["weight"]), copied)
        if destination != _stamped(dict(destination), segment, bool(buckets), cluster):
            return None
        found.append(segment)
    return tuple(found)


def without_stamps(destination: Mapping[str, Any]) -> Destination:
    """The destination as its owner wrote it."""
    bare = copy.deepcopy(dict(destination))
    headers = bare.get("headers", {})
    for side in ("request", "response"):
        operations = headers.get(side, {})
        for operation in ("set", "remove"):
            names = operations.get(operation, {})
            kept = _others(names)
            if len(kept) < len(names):
                operations[operation] = kept
                if not kept:
                    del operations[operation]
                if not operations:
                    del headers[side]
    if "headers" in bare and not headers:
        del bare["headers"]
    return bare


def _others(names: Any) -> Any:
    """The names of headers, in a list or with values, without those of the stamps."""
    own = (VERSION, BUCKET, MIRROR_TO)
    if isinstance(names, dict):
        return {name: value for name, value in names.items() if name not in own}
    return [name for name in names if name not in own]


def _request(destination: Mapping[str, Any], operation: str) -> Any:
    return destination.get("headers", {}).get("request", {}).get(operation) or {}


def _stamps(destination: Mapping[str, Any]) -> dict[str, str]:
    stamps = _request(destination, "set")
    return {name: str(stamps[name]) for name in (VERSION, BUCKET) if name in stamps}


def _copied(destination: Mapping[str, Any]) -> bool | None:
    if MIRROR_TO in _request(destination, "set"):
        return True
    return False if MIRROR_TO in _request(destination, "remove") else None


def _stamped(
    destination: Destination, segment: Segment, bucket: bool, cluster: str | None = None
) -> Destination:
    stamps = {VERSION: segment.model_version}
    if bucket:
        stamps[BUCKET] = str(segment.bucket)
    stamped = without_stamps(destination)
    headers = stamped.setdefault("headers", {})
    for side in ("request", "response"):
        headers.setdefault(side, {}).setdefault("set", {}).update(stamps)
    if segment.copied and cluster:
        headers["request"]["set"][MIRROR_TO] = cluster
    elif segment.copied is False:
        headers["request"].setdefault("remove", []).append(MIRROR_TO)
    return stamped
