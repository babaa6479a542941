from __future__ import annotations

from typing import Any

import pytest

from localcluster.gateway import (
    destination_name,
    find_route,
    same_split,
    sum_segments,
    weighted_segments,
)


def weighted(*clusters: tuple[str, int]) -> dict[str, Any]:
    entries = [{"name": name, "weight": weight} for name, weight in clusters]
    return {"name": "predict", "route": {"weighted_clusters": {"clusters": entries}}}


def dump(*routes: dict[str, Any]) -> dict[str, Any]:
    entry = {"route_config": {"virtual_hosts": [{"routes": list(routes)}]}}
    return {"configs": [{"static": 1}, {"dynamic_route_configs": [entry]}]}


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        ("outbound|80|v1|fraud.fraud.svc.cluster.local", "v1"),
        ("outbound|80||v1.fraud.internal", "v1.fraud.internal"),
        ("istiod", "istiod"),
    ],
)
def test_a_cluster_goes_by_its_subset_else_its_host(cluster: str, name: str) -> None:
    assert destination_name(cluster) == name


def test_segments_keep_envoys_order_and_weights_sum_them() -> None:
    clusters = [("outbound|80|v2|h", 10), ("outbound|80|v1|h", 90), ("outbound|80|v2|h", 5)]
    segments = weighted_segments(weighted(*clusters))
    assert segments == [("v2", 10), ("v1", 90), ("v2", 5)]
    assert sum_segments(segments) == {"v2": 15, "v1": 90}


def test_a_single_destination_has_everything_and_a_redirect_nothing() -> None:
    assert weighted_segments({"route": {"cluster": "outbound|80|v1|h"}}) == [("v1", 100)]
    assert weighted_segments({"redirect": {"path_redirect": "/"}}) == []


def test_a_route_is_found_by_name_among_others() -> None:
    wanted, other = weighted(("a", 1)), {"name": "other"}
    assert find_route(dump(other, wanted), "predict") == wanted
    assert find_route(dump(other), "predict") is None
    assert find_route({"configs": []}, "predict") is None


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"a": 90, "b": 10}, {"a": 9000, "b": 1000}, True),
        ({"a": 100}, {"a": 1, "b": 0}, True),
        ({"a": 90, "b": 10}, {"a": 91, "b": 9}, False),
        ({}, {"a": 100}, False),
        ({"a": 100}, {"b": 100}, False),
        ({}, {}, True),
    ],
)
def test_splits_are_compared_by_share(
    left: dict[str, int], right: dict[str, int], same: bool
) -> None:
    assert same_split(left, right) is same
    assert same_split(right, left) is same
