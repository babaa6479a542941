"""What the Gateway API router reads in an HTTPRoute, and what it writes there."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelexperiment.adapters.gateway_api import (
    backends,
    find_rule,
    gateway_api_of,
    not_in_force,
    ref_to,
    refs_for,
    split_of,
)
from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import GatewayApiRoute
from tests.core.builders import spec

SPEC = spec(route={"gatewayAPI": {"httpRoute": "fraud", "rule": "predict"}})


def wanted(rule: str | None = "predict") -> GatewayApiRoute:
    return GatewayApiRoute(http_route="fraud", rule=rule)


def ref(name: str, weight: int | None = None, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80, **fields}
    return found if weight is None else {**found, "weight": weight}


@pytest.mark.parametrize(
    ("names", "rule", "index"),
    [
        (("predict",), "predict", 0),
        (("explain", None, "predict"), "predict", 2),
        (("predict",), None, 0),
        ((None,), None, 0),
    ],
)
def test_the_rule_is_found_by_name_or_as_the_only_one(
    names: tuple[str | None, ...], rule: str | None, index: int
) -> None:
    rules = [{"name": name} if name else {} for name in names]

    assert find_rule({"spec": {"rules": rules}}, wanted(rule)) == index


@pytest.mark.parametrize(
    ("names", "rule", "reason", "says"),
    [
        (("a", None), None, "RouteAmbiguous", "has 2 rules (a, unnamed): name one in"),
        ((), None, "RouteAmbiguous", "has 0 rules (none)"),
        (("a", "b"), "predict", "RouteNotFound", "has no rule predict; it has a, b"),
        ((None,), "predict", "RouteNotFound", "it has no named ones"),
    ],
)
def test_a_rule_that_is_not_meant_for_sure_is_not_taken(
    names: tuple[str | None, ...], rule: str | None, reason: str, says: str
) -> None:
    rules = [{"name": name} if name else {} for name in names]

    found = find_rule({"spec": {"rules": rules}}, wanted(rule))

    assert isinstance(found, Problem)
    assert found.reason == reason
    assert says in found.message


@pytest.mark.parametrize(
    ("refs", "split"),
    [
        pytest.param([ref("v1", 90), ref("v2", 10)], {"v1": 90, "v2": 10}, id="weights"),
        pytest.param([ref("v1", 9), ref("v2", 1)], {"v1": 90, "v2": 10}, id="of any sum"),
        pytest.param([ref("v1")], {"v1": 100, "v2": 0}, id="no weight is one"),
        pytest.param([ref("v1"), ref("v2", 3)], {"v1": 25, "v2": 75}, id="no weight beside others"),
        pytest.param([ref("v1", 40), ref("v1", 60)], {"v1": 100, "v2": 0}, id="twice the same"),
        pytest.param([ref("v1", 90), ref("v3", 10)], None, id="another backend"),
        pytest.param([ref("v1", 90), ref("v3", 0)], {"v1": 100, "v2": 0}, id="elsewhere nothing"),
        pytest.param([ref("v1", 0)], None, id="nothing at all"),
    ],
)
def test_the_split_is_read_from_the_weights(
    refs: list[dict[str, Any]], split: Split | None
) -> None:
    assert split_of(refs, SPEC) == split


def test_a_version_may_be_served_by_a_backend_of_another_name() -> None:
    traffic = [
        {"modelVersion": "v1", "percent": 50, "service": "fraud-stable"},
        {"modelVersion": "v2", "percent": 50},
    ]
    asked = spec(route={"gatewayAPI": {"httpRoute": "fraud"}}, traffic=traffic)

    assert split_of([ref("fraud-stable")], asked) == {"v1": 100, "v2": 0}
    assert backends(asked) == {"spec.traffic[v1]": "fraud-stable", "spec.traffic[v2]": "v2"}


def test_a_shadows_backend_is_asked_for_as_well() -> None:
    asked = spec(
        route={"gatewayAPI": {"httpRoute": "fraud"}},
        shadow={"modelVersion": "v3", "service": "fraud-v3", "subset": "not-here"},
    )

    assert backends(asked)["spec.shadow"] == "fraud-v3"


@pytest.mark.parametrize(
    ("split", "weights"),
    [
        ({"v1": 90.0, "v2": 10.0}, [90, 10]),
        ({"v1": 33.33, "v2": 66.67}, [3333, 6667]),
        ({"v1": 0.0, "v2": 100.0}, [0, 100]),
    ],
)
def test_all_versions_are_written_in_order(split: Split, weights: list[int]) -> None:
    written = refs_for(split, [ref("v1")], SPEC)

    assert [(r["name"], r["weight"]) for r in written] == list(zip(split, weights, strict=True))
    assert split_of(written, SPEC) == pytest.approx(split)
    assert refs_for(split, written, SPEC) == written


def test_what_the_owner_wrote_beside_the_weight_stays() -> None:
    owned = {**ref("v1", 1), "filters": [{"type": "RequestHeaderModifier"}], "newField": True}
    before = copy.deepcopy(owned)

    written = refs_for({"v1": 90, "v2": 10}, [owned], SPEC)

    assert written[0] == {**before, "weight": 90}
    assert owned == before


def test_a_backend_that_is_not_listed_yet_is_of_the_champions_kind() -> None:
    host = {"group": "networking.istio.io", "kind": "Hostname", "port": 8080}
    champion = {"name": "v1", **host, "filters": [{}], "weight": 7}

    assert ref_to("v2", [ref("other"), champion], SPEC) == {"name": "v2", **host}


def test_without_the_champion_it_is_like_the_first_one() -> None:
    assert ref_to("v2", [ref("other", 5, port=81)], SPEC) == ref("v2", port=81)
    assert ref_to("v2", [], SPEC) == {"name": "v2"}


def condition(type_: str, status: str = "True", generation: int | None = 3) -> dict[str, Any]:
    found = {"type": type_, "status": status, "reason": "Why", "message": "because"}
    return found if generation is None else {**found, "observedGeneration": generation}


FINE = [condition("Accepted"), condition("ResolvedRefs")]


def http_route(*entries: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, Any]:
    parents = [{"parentRef": parent, "conditions": said} for parent, said in entries]
    return {
        "metadata": {"name": "fraud", "namespace": "ns", "generation": 3},
        "spec": {"parentRefs": [{"name": "edge"}]},
        "status": {"parents": parents},
    }


# As a controller may write it: with what is left out filled in.
EDGE = {
    "group": "gateway.networking.k8s.io",
    "kind": "Gateway",
    "namespace": "ns",
    "name": "edge",
}


def test_a_route_is_in_force_once_its_gateway_accepts_this_generation() -> None:
    assert not_in_force(http_route((EDGE, FINE))) is None


@pytest.mark.parametrize(
    ("said", "reason", "says"),
    [
        ([], "NotYetObserved", "Gateway edge has not answered generation 3 yet (Accepted is of n"),
        (
            [condition("Accepted", generation=2), condition("ResolvedRefs", generation=2)],
            "NotYetObserved",
            "(Accepted is of 2)",
        ),
        ([condition("Accepted", generation=None)], "NotYetObserved", "(Accepted is of none)"),
        ([condition("Accepted")], "NotYetObserved", "(ResolvedRefs is of none)"),
        ([condition("Accepted", "False")], "NotAccepted", "Accepted False, Why: because"),
        ([condition("Accepted", "Unknown")], "NotAccepted", "Accepted Unknown, Why: because"),
        (
            [condition("Accepted"), condition("ResolvedRefs", "False")],
            "RefsNotResolved",
            "HTTPRoute fraud: Gateway edge says ResolvedRefs False, Why: because",
        ),
    ],
)
def test_what_a_gateway_has_against_a_route_is_said(
    said: list[dict[str, Any]], reason: str, says: str
) -> None:
    found = not_in_force(http_route((EDGE, said)))

    assert found is not None
    assert found.reason == reason
    assert says in found.message
    assert found.bad_input is (reason != "NotYetObserved")


def test_a_gateway_that_says_nothing_is_named() -> None:
    for route in (http_route(), http_route(({**EDGE, "name": "another"}, FINE))):
        found = not_in_force(route)

        assert found is not None
        assert found.message.startswith("HTTPRoute fraud: Gateway edge says nothing of it")


def test_every_parent_counts() -> None:
    route = http_route((EDGE, FINE))
    route["spec"]["parentRefs"].append({"name": "edge", "sectionName": "https"})

    assert not_in_force(route) is not None

    route["spec"]["parentRefs"].clear()
    found = not_in_force(route)
    assert found is not None
    assert "has no parentRefs" in found.message


def test_what_a_controller_left_behind_does_not_matter() -> None:
    left = [condition("Accepted", "False", generation=1)]

    assert not_in_force(http_route((EDGE, left), (EDGE, FINE))) is None


def test_a_route_without_any_status_is_not_in_force() -> None:
    route = http_route()
    del route["status"]

    assert not_in_force(route) is not None


def test_the_http_route_of_a_spec() -> None:
    assert gateway_api_of(SPEC) == wanted()
