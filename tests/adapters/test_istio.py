"""What the Istio router reads in a VirtualService, and what it writes there."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelexperiment.adapters.istio import (
    destinations_for,
    find_route,
    istio_of,
    qualified,
    split_of,
)
from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec, IstioRoute
from tests.core.builders import spec

SPEC = spec()
FQDN = "fraud.ns.svc.cluster.local"


def virtual_service(*names: str | None) -> dict[str, Any]:
    routes = [{"name": name} if name else {"match": []} for name in names]
    return {"spec": {"http": routes}}


def wanted(http_route: str | None = "predict") -> IstioRoute:
    return IstioRoute(virtual_service="fraud", http_route=http_route, host="fraud")


def dest(
    subset: str | None, weight: int | None = None, host: str = "fraud", **target: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": {"host": host, **target}}
    if subset:
        found["destination"]["subset"] = subset
    return found if weight is None else {**found, "weight": weight}


@pytest.mark.parametrize(
    ("names", "route", "index"),
    [
        (("predict",), "predict", 0),
        (("explain", None, "predict"), "predict", 2),
        (("predict",), None, 0),
        ((None,), None, 0),
    ],
)
def test_the_route_is_found_by_name_or_as_the_only_one(
    names: tuple[str | None, ...], route: str | None, index: int
) -> None:
    assert find_route(virtual_service(*names), wanted(route)) == index


@pytest.mark.parametrize(
    ("names", "route", "reason", "says"),
    [
        (("a", None), None, "RouteAmbiguous", "has 2 http routes (a, unnamed): name one"),
        ((), None, "RouteAmbiguous", "has 0 http routes (none)"),
        (("a", "b"), "predict", "RouteNotFound", "has no http route predict; it has a, b"),
        ((None,), "predict", "RouteNotFound", "it has no named ones"),
        (("predict", "predict"), "predict", "RouteAmbiguous", "2 http routes named predict"),
    ],
)
def test_a_route_that_is_not_meant_for_sure_is_not_taken(
    names: tuple[str | None, ...], route: str | None, reason: str, says: str
) -> None:
    found = find_route(virtual_service(*names), wanted(route))

    assert isinstance(found, Problem)
    assert found.reason == reason
    assert says in found.message


def test_a_virtual_service_without_http_routes_is_said_to_have_none() -> None:
    assert isinstance(find_route({}, wanted()), Problem)


@pytest.mark.parametrize(
    ("host", "full"),
    [("fraud", FQDN), (FQDN, FQDN), ("fraud.example.com", "fraud.example.com")],
)
def test_a_short_host_is_a_service_of_the_namespace(host: str, full: str) -> None:
    assert qualified(host, "ns") == full


@pytest.mark.parametrize(
    ("destinations", "split"),
    [
        pytest.param([dest("v1", 90), dest("v2", 10)], {"v1": 90, "v2": 10}, id="weights"),
        pytest.param([dest("v1", 9), dest("v2", 1)], {"v1": 90, "v2": 10}, id="of any sum"),
        pytest.param([dest("v1", 9005), dest("v2", 995)], {"v1": 90.05, "v2": 9.95}, id="decimals"),
        pytest.param([dest("v1")], {"v1": 100, "v2": 0}, id="a single one without a weight"),
        pytest.param([dest("v1", 100), dest("v2")], {"v1": 100, "v2": 0}, id="none is nothing"),
        pytest.param([dest("v1", 50, FQDN), dest("v2", 50)], {"v1": 50, "v2": 50}, id="full host"),
        pytest.param([dest("v1", 40), dest("v1", 60)], {"v1": 100, "v2": 0}, id="twice the same"),
        pytest.param([dest("v1", 90), dest("v3", 10)], None, id="another subset"),
        pytest.param([dest("v1", 90), dest("v2", 10, "other")], None, id="another host"),
        pytest.param([dest("v1", 90), dest(None, 10)], None, id="no subset"),
        pytest.param(
            [dest("v1", 100), dest("v3", 0)], {"v1": 100, "v2": 0}, id="elsewhere nothing"
        ),
        pytest.param([dest("v1", 0), dest("v2", 0)], None, id="nothing at all"),
    ],
)
def test_the_split_is_read_from_the_weights(
    destinations: list[dict[str, Any]], split: Split | None
) -> None:
    assert split_of(destinations, SPEC, "ns") == split


def with_istio(**fields: Any) -> ExperimentSpec:
    return spec(route={"istio": {"virtualService": "fraud", "host": "fraud", **fields}})


def test_a_destination_on_another_port_is_another_one() -> None:
    asked = with_istio(port=8080)
    there, elsewhere = dest("v1", 100, port={"number": 8080}), dest("v1", 100, port={"number": 1})

    assert split_of([there], asked, "ns") == {"v1": 100, "v2": 0}
    assert split_of([elsewhere], asked, "ns") is None
    assert split_of([dest("v1", 100)], asked, "ns") is None


def test_a_version_may_be_served_by_a_subset_of_another_name() -> None:
    asked = spec(
        traffic=[
            {"modelVersion": "v1", "percent": 50, "subset": "stable"},
            {"modelVersion": "v2", "percent": 50},
        ]
    )

    assert split_of([dest("stable", 100)], asked, "ns") == {"v1": 100, "v2": 0}
    assert destinations_for({"v1": 100, "v2": 0}, [], asked, "ns")[0] == dest("stable", 100)


def test_all_versions_are_written_in_order_with_nothing_where_they_get_nothing() -> None:
    found = destinations_for({"v1": 100.0, "v2": 0.0}, [dest("v1")], SPEC, "ns")

    assert found == [dest("v1", 100), dest("v2", 0)]


@pytest.mark.parametrize(
    ("split", "weights"),
    [
        ({"v1": 90.0, "v2": 10.0}, [90, 10]),
        ({"v1": 33.33, "v2": 66.67}, [3333, 6667]),
        ({"v1": 99.5, "v2": 0.5}, [9950, 50]),
    ],
)
def test_weights_are_percents_or_hundredths_of_them(split: Split, weights: list[int]) -> None:
    assert [d["weight"] for d in destinations_for(split, [], SPEC, "ns")] == weights


def test_a_new_destination_has_the_specs_port() -> None:
    found = destinations_for({"v1": 100, "v2": 0}, [], with_istio(port=8080), "ns")

    assert found[1] == dest("v2", 0, port={"number": 8080})


def test_what_the_owner_wrote_beside_the_weight_stays() -> None:
    owned = {**dest("v1", 100, FQDN), "headers": {"response": {"set": {"x-model": "v1"}}}}
    untouched = copy.deepcopy(owned)

    found = destinations_for({"v1": 90, "v2": 10}, [owned], SPEC, "ns")

    assert found[0] == {**untouched, "weight": 90}
    assert owned == untouched


def test_writing_a_split_that_is_there_changes_nothing() -> None:
    there = [dest("v1", 90), dest("v2", 10)]

    assert destinations_for({"v1": 90, "v2": 10}, there, SPEC, "ns") == there


def test_what_was_written_is_read_as_the_same_split() -> None:
    for split in ({"v1": 90.0, "v2": 10.0}, {"v1": 33.33, "v2": 66.67}, {"v1": 0.0, "v2": 100.0}):
        assert split_of(destinations_for(split, [], SPEC, "ns"), SPEC, "ns") == pytest.approx(split)


def test_the_istio_route_of_a_spec() -> None:
    assert istio_of(SPEC).virtual_service == "fraud"
