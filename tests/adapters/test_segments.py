"""A users' table as destinations: in order, stamped, and read back as the same table."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from modelexperiment.adapters.segments import (
    Copies,
    destinations_of,
    segments_of,
    without_stamps,
)
from modelexperiment.core.allocation import SegmentTable

VERSIONS = ["v1", "v2"]
OWNED = {"request": {"set": {"x-team": "risk"}, "remove": ["x-debug"]}}


def bare(version: str) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": {"host": "fraud", "subset": version}}
    return {**found, "headers": copy.deepcopy(OWNED)} if version == "v1" else found


def serves(destination: Mapping[str, Any]) -> str | None:
    subset: str = destination["destination"]["subset"]
    return subset if subset in VERSIONS else None


@pytest.mark.parametrize("buckets", [0, 32])
@pytest.mark.parametrize("split", [{"v1": 90.0, "v2": 10.0}, {"v1": 0.0, "v2": 100.0}])
def test_what_is_written_is_read_as_the_same_table(buckets: int, split: dict[str, float]) -> None:
    table = SegmentTable.initial(split, "v1", buckets)

    found = destinations_of(table, VERSIONS, bare)

    assert segments_of(found, buckets, serves) == tuple(table.segments)
    assert sum(d["weight"] for d in found) == table.total
    # Never a single destination, and nobody is dropped with what its owner wrote.
    assert {d["destination"]["subset"] for d in found} == {"v1", "v2"}
    assert destinations_of(table, VERSIONS, lambda v: found[0] if v == "v1" else bare(v)) != []


def test_both_sides_are_stamped_and_the_owners_headers_stay() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 32)

    champion = destinations_of(table, VERSIONS, bare)[-1]

    stamps = {"x-model-version": "v1", "x-experiment-bucket": "31"}
    assert champion["headers"] == {
        "request": {"set": {"x-team": "risk", **stamps}, "remove": ["x-debug"]},
        "response": {"set": stamps},
    }
    assert without_stamps(champion) == {**bare("v1"), "weight": 9000}


def test_without_buckets_only_the_version_is_stamped() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 0)

    first, _ = destinations_of(table, VERSIONS, bare)

    assert first["headers"]["response"] == {"set": {"x-model-version": "v2"}}
    assert without_stamps(first) == {**bare("v2"), "weight": 1000}


def spoil(destination: dict[str, Any], side: str, name: str, value: str | None) -> None:
    stamps = destination["headers"][side]["set"]
    if value is None:
        del stamps[name]
    else:
        stamps[name] = value


@pytest.mark.parametrize("side", ["request", "response"])
@pytest.mark.parametrize("name", ["x-model-version", "x-experiment-bucket"])
@pytest.mark.parametrize("value", [None, "7", "other"])
def test_a_stamp_that_is_not_right_on_both_sides_is_seen(
    side: str, name: str, value: str | None
) -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 32)
    found = destinations_of(table, VERSIONS, bare)
    spoil(found[0], side, name, value)

    assert segments_of(found, 32, serves) is None


def test_another_destination_is_no_segment() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 0)
    found = destinations_of(table, VERSIONS, bare)
    found[0]["destination"]["subset"] = "v9"
    assert segments_of(found, 0, serves) is None
    found[0]["weight"] = 0
    assert segments_of(found, 0, serves) is not None


def test_stamps_are_gone_only_where_there_are_any() -> None:
    plain = {"destination": {}, "headers": {"request": {"set": {"a": "b"}}}}

    assert without_stamps(plain) == plain
    assert without_stamps({"destination": {}}) == {"destination": {}}


CLUSTER = "outbound|80|v3|fraud.fraud.svc.cluster.local"


@pytest.mark.parametrize("buckets", [0, 32])
def test_whom_a_shadow_gets_copies_of_is_written_and_read(buckets: int) -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", buckets)

    found = destinations_of(table, VERSIONS, bare, Copies(30.0, CLUSTER))

    assert segments_of(found, buckets, serves, CLUSTER) == tuple(table.mirrored(30.0))
    challenger, rest, copied = (d["headers"]["request"] for d in found[:3])
    assert challenger["remove"] == ["x-mirror-to"]
    assert rest["remove"] == ["x-debug", "x-mirror-to"]
    assert copied["set"]["x-mirror-to"] == CLUSTER
    assert copied["remove"] == ["x-debug"]
    assert [without_stamps(d) for d in found[:3]] == [
        {**bare("v2"), "weight": 1000},
        {**bare("v1"), "weight": 6300},
        {**bare("v1"), "weight": 2700},
    ]
    again = destinations_of(table, VERSIONS, lambda v: found[2] if v == "v1" else found[0])
    assert segments_of(again, buckets, serves, CLUSTER) == tuple(table.segments)


def test_copies_that_go_elsewhere_are_seen() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 0)
    found = destinations_of(table, VERSIONS, bare, Copies(30.0, CLUSTER))

    assert segments_of(found, 0, serves, CLUSTER.replace("v3", "v4")) is None
    assert segments_of(found, 0, serves) is None
