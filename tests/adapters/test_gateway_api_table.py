"""A table of users as backendRefs, and back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelexperiment.adapters.gateway_api import table_refs, table_segments
from modelexperiment.adapters.gateway_api_table import refs_of, segments_of, without_stamps
from modelexperiment.core.allocation import Segment, SegmentTable
from tests.core.builders import spec

SPEC = spec(route={"gatewayAPI": {"httpRoute": "fraud"}})
VERSIONS = {"v1": "v1", "v2": "v2", "v3": "v3"}
REQUEST, RESPONSE = "RequestHeaderModifier", "ResponseHeaderModifier"


def ref(name: str, *filters: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80}
    return {**found, "filters": list(filters)} if filters else found


def request(*headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    return modifier(REQUEST, "requestHeaderModifier", *headers, **more)


def response(*headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    return modifier(RESPONSE, "responseHeaderModifier", *headers, **more)


def modifier(type_: str, side: str, *headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    found = [{"name": name, "value": value} for name, value in headers]
    return {"type": type_, side: {**more, **({"set": found} if found else {})}}


def table(**percents: float) -> SegmentTable:
    return SegmentTable.initial(percents, "v1", 0)


BARE = {version: ref(version) for version in VERSIONS}


def test_each_segment_is_a_backend_with_its_versions_stamp() -> None:
    written = refs_of(table(v1=90, v2=10, v3=0), BARE)

    stamp = ("x-model-version", "v2")
    assert [(r["name"], r["weight"]) for r in written] == [("v2", 1000), ("v1", 9000), ("v3", 0)]
    assert written[0]["filters"] == [request(stamp), response(stamp)]


def test_what_was_written_is_read_as_the_same_segments() -> None:
    carved = table(v1=80, v2=10, v3=10).moved_to({"v1": 40, "v2": 30, "v3": 30})

    assert segments_of(refs_of(carved, BARE), VERSIONS) == tuple(carved.segments)


def test_a_version_that_has_everything_stands_twice_and_is_read_as_once() -> None:
    written = refs_of(table(v1=90, v2=10, v3=0).everything_to("v1"), BARE)

    assert [(r["name"], r["weight"]) for r in written] == [
        ("v1", 5000),
        ("v1", 5000),
        ("v2", 0),
        ("v3", 0),
    ]
    assert segments_of(written, VERSIONS) == (Segment(0, "v1", 10_000),)


@pytest.mark.parametrize(
    "filters",
    [
        (),
        (request(("x-a", "b")),),
        (request(remove=["x-a"]), {"type": "URLRewrite"}),
        (response(("x-a", "b"), add=[{"name": "c", "value": "d"}]), request(("X-C", "d"))),
    ],
)
def test_the_owners_filters_stay_and_are_what_is_left(filters: tuple[dict[str, Any], ...]) -> None:
    owned = ref("v1", *filters)
    before = copy.deepcopy(owned)

    written = refs_of(table(v1=50, v2=50), {**BARE, "v1": owned})

    stamped = next(r for r in written if r["name"] == "v1")
    assert segments_of(written, VERSIONS) is not None
    kinds = [entry["type"] for entry in stamped["filters"]]
    assert len(kinds) == len(set(kinds))
    assert without_stamps(stamped) == {**before, "weight": 5000}
    assert owned == before


def test_a_stamp_of_another_version_or_none_is_no_table() -> None:
    written = refs_of(table(v1=50, v2=50), BARE)

    assert segments_of([{**written[0], "name": "v1"}, written[1]], VERSIONS) is None
    assert segments_of([{**ref("v1"), "weight": 1}], VERSIONS) is None
    assert segments_of([{**ref("elsewhere"), "weight": 1}], VERSIONS) is None


def test_a_table_of_a_spec_goes_by_its_backends() -> None:
    asked = spec(
        route={"gatewayAPI": {"httpRoute": "fraud"}},
        traffic=[
            {"modelVersion": "v1", "percent": 50, "service": "fraud-v1"},
            {"modelVersion": "v2", "percent": 50},
        ],
    )
    laid = table(v1=50, v2=50)

    written = table_refs(laid, [ref("fraud-v1")], asked)

    assert [r["name"] for r in written] == ["v2", "fraud-v1"]
    assert table_segments(written, asked) == tuple(laid.segments)
    assert table_refs(laid, [without_stamps(r) for r in written], asked) == written
