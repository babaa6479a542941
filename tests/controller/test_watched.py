"""An edit of a route finds its experiments; a status that says nothing new wakes none."""

from __future__ import annotations

from typing import Any

from modelexperiment.controller.queue import Key
from modelexperiment.controller.watched import HTTP_ROUTE, VIRTUAL_SERVICE, Route, Watched

ONE, TWO = Key("ns", "one"), Key("ns", "two")
FRAUD = Route(HTTP_ROUTE, "ns", "fraud")


def gateway_api(name: str) -> dict[str, Any]:
    return {"route": {"gatewayAPI": {"httpRoute": name}}}


def istio(name: str) -> dict[str, Any]:
    return {"route": {"istio": {"virtualService": name}}}


def body(generation: int = 1, observed: int = 1, **condition: str) -> dict[str, Any]:
    found = {"type": "Accepted", "status": "True", "observedGeneration": observed, **condition}
    parent = {"parentRef": {"name": "edge"}, "conditions": [found]}
    return {"metadata": {"generation": generation}, "status": {"parents": [parent]}}


def test_an_object_is_found_by_its_kind_and_name() -> None:
    watched = Watched()
    watched.put(ONE, gateway_api("fraud"))
    watched.put(TWO, istio("fraud"))
    watched.put(Key("ns", "three"), {})

    assert watched.of(FRAUD) == [ONE]
    assert watched.of(Route(VIRTUAL_SERVICE, "ns", "fraud")) == [TWO]
    assert watched.of(Route(HTTP_ROUTE, "other", "fraud")) == []


def test_only_another_spec_and_whether_it_is_in_force_is_news() -> None:
    watched = Watched()
    watched.put(ONE, gateway_api("fraud"))

    assert watched.woken_by(FRAUD, "ADDED", body()) == [ONE]
    noise = body(lastTransitionTime="2026-03-01T12:00:00Z")
    noise["metadata"]["annotations"] = {"a": "b"}
    assert watched.woken_by(FRAUD, "MODIFIED", noise) == []
    assert watched.woken_by(FRAUD, "MODIFIED", body(2, 1)) == [ONE]
    assert watched.woken_by(FRAUD, "MODIFIED", body(2, 2)) == [ONE]
    assert watched.woken_by(FRAUD, "MODIFIED", body(2, 2)) == []
    assert watched.woken_by(FRAUD, "MODIFIED", body(2, 2, status="False")) == [ONE]
    assert watched.woken_by(FRAUD, "DELETED", body(2, 2, status="False")) == [ONE]
    assert watched.woken_by(FRAUD, "ADDED", body(2, 2, status="False")) == [ONE]


def test_a_status_of_the_experiment_does_not_make_the_same_route_news_again() -> None:
    watched = Watched()
    watched.put(ONE, gateway_api("fraud"))
    watched.woken_by(FRAUD, "ADDED", body())
    watched.put(ONE, gateway_api("fraud"))

    assert watched.woken_by(FRAUD, "MODIFIED", body()) == []


def test_routes_that_nobody_asks_for_are_not_kept() -> None:
    watched = Watched()
    watched.put(ONE, gateway_api("fraud"))
    watched.put(TWO, gateway_api("fraud"))

    watched.woken_by(FRAUD, "ADDED", body())
    watched.drop(ONE)
    assert watched.woken_by(FRAUD, "MODIFIED", body()) == []
    watched.put(TWO, istio("fraud"))
    assert watched.woken_by(FRAUD, "MODIFIED", body(2)) == []
    watched.put(ONE, gateway_api("fraud"))
    assert watched.woken_by(FRAUD, "MODIFIED", body()) == [ONE]
    watched.drop(ONE)
    watched.drop(ONE)
    assert watched.of(FRAUD) == []


def test_who_is_alone_with_a_route_is_known() -> None:
    watched = Watched()
    assert not watched.alone(ONE)
    watched.put(ONE, istio("fraud"))
    assert watched.alone(ONE)
    watched.put(TWO, istio("fraud"))
    assert not watched.alone(ONE)
    watched.put(TWO, istio("other"))
    assert watched.alone(ONE)
    watched.drop(TWO)
    assert not watched.alone(TWO)
