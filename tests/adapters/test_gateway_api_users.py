"""Where an HTTPRoute's rule stands in Envoy, and when users can't be kept there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from modelexperiment.adapters.envoy_filter import GATEWAY, Place
from modelexperiment.adapters.gateway_api_users import ISTIO, GatewayApiUsers, places, route_name
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.snapshot import Problem
from modelexperiment.ports import UnavailableError


def listener(name: str = "http", port: int = 80, **fields: Any) -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": "HTTP", **fields}


def gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"listeners": list(listeners)}}


def http_route(
    name: str = "fraud",
    rule: str | None = "predict",
    parent: dict[str, Any] | None = None,
    controller: str = ISTIO,
    **spec: Any,
) -> dict[str, Any]:
    parent = {"name": "edge", **(parent or {})}
    rules = [{"backendRefs": [{"name": "v1"}], **({"name": rule} if rule else {})}]
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"parentRefs": [parent], "rules": rules, **spec},
        "status": {"parents": [{"parentRef": parent, "controllerName": controller}]},
    }


class FakeApi:
    """A Gateway `edge`, HTTPRoutes and DestinationRules."""

    def __init__(self, *routes: dict[str, Any], rules: Sequence[dict[str, Any]] = ()) -> None:
        self.routes = routes
        self.rules = rules
        self.listed: list[str] = []
        self.failure: Exception | None = None

    async def get(self, *where: str) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        assert where[:2] == ("gateway.networking.k8s.io", "v1")
        assert where[3:] == ("gateways", "edge")
        return gateway(listener())

    async def list(self, *where: str) -> Sequence[dict[str, Any]]:
        if where[3] == "destinationrules":
            return self.rules
        self.listed.append(where[2])
        return self.routes


def found(api: FakeApi, route: dict[str, Any], **settings: Any) -> set[Place] | Problem:
    return asyncio.run(GatewayApiUsers(cast(Api, api), **settings).places(route, 0))


def problem(it: object) -> Problem:
    assert isinstance(it, Problem), it
    return it


HERE = {("ns", "edge"): gateway(listener(), listener("tls", 443, protocol="TLS"))}


# As istiod names them: seen in Envoy's configuration for each of these.
@pytest.mark.parametrize(
    ("offered", "wanted", "hosts"),
    [
        (None, None, {"*:80"}),
        (
            None,
            ["a.example.com", "*.b.example.com"],
            {"a.example.com:80", "*.b.example.com:80"},
        ),
        ("a.example.com", ["a.example.com", "*.b.example.com"], {"a.example.com:80"}),
        ("a.example.com", None, {"a.example.com:80"}),
        ("*.example.com", ["a.example.com"], {"a.example.com:80"}),
        ("a.example.com", ["other.com"], set()),
    ],
)
def test_a_rule_stands_where_hostnames_meet(
    offered: str | None, wanted: list[str] | None, hosts: set[str]
) -> None:
    fields = {"hostname": offered} if offered else {}
    route = http_route(**({"hostnames": wanted} if wanted else {}))
    gateways = {("ns", "edge"): gateway(listener(**fields))}

    assert set(places(route, 0, gateways)) == {Place(GATEWAY, 80, h, "predict") for h in hosts}


@pytest.mark.parametrize(
    ("parent", "ports"),
    [
        ({}, {80, 443}),
        ({"sectionName": "https"}, {443}),
        ({"port": 80}, {80}),
        ({"sectionName": "http", "port": 443}, set()),
        ({"namespace": "elsewhere"}, set()),
    ],
)
def test_only_the_listeners_that_it_is_attached_to_count(
    parent: dict[str, Any], ports: set[int]
) -> None:
    edge = gateway(
        listener(), listener("https", 443, protocol="HTTPS"), listener("tcp", 9000, protocol="TCP")
    )

    assert {p.port for p in places(http_route(parent=parent), 0, {("ns", "edge"): edge})} == ports


def test_a_rule_without_a_name_goes_by_its_place() -> None:
    assert route_name(http_route(rule=None), 0) == "ns.fraud.0"
    assert route_name(http_route(), 0) == "predict"


def test_istios_gateway_keeps_users() -> None:
    assert found(FakeApi(), http_route()) == {Place(GATEWAY, 80, "*:80", "predict")}


@pytest.mark.parametrize(
    ("route", "reason", "says"),
    [
        (http_route(controller="example.com/gateway"), "NotIstio", "served by example.com/gateway"),
        ({**http_route(), "status": {}}, "NotIstio", "served by nobody"),
        (http_route(parent={"kind": "Service"}), "NotAGateway", "parent Service edge"),
        (
            http_route(parent={"namespace": "infra"}),
            "GatewayElsewhere",
            "Gateway infra/edge follow no EnvoyFilter in ns",
        ),
        (http_route(parent={"port": 81}), "RouteNotServed", "no listener of ns/edge serves"),
    ],
)
def test_what_keeps_users_from_being_kept_is_said(
    route: dict[str, Any], reason: str, says: str
) -> None:
    it = problem(found(FakeApi(), route))

    assert (it.reason, it.bad_input) == (reason, True)
    assert says in it.message


def test_filters_in_the_gateways_namespace_reach_it() -> None:
    route = http_route(parent={"namespace": "infra"})

    assert not isinstance(found(FakeApi(), route, filter_namespace="infra"), Problem)


def test_a_gateway_that_is_gone_or_not_to_be_read() -> None:
    api = FakeApi()
    api.failure = NotFoundError("not found")
    assert problem(found(api, http_route())).reason == "GatewayNotFound"
    api.failure = UnavailableError("API server: 403")
    it = problem(found(api, http_route()))
    assert (it.reason, it.bad_input) == ("GatewayUnreadable", False)


@pytest.mark.parametrize(
    ("host", "mixes"), [("v1", True), ("v1.ns.svc.cluster.local", True), ("other", False)]
)
def test_a_hash_of_a_backends_own_is_said(host: str, mixes: bool) -> None:
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    rule = {"metadata": {"name": "dr"}, "spec": {"host": host, "trafficPolicy": policy}}

    assert isinstance(found(FakeApi(rules=[rule]), http_route()), Problem) is mixes


@pytest.mark.parametrize(
    ("other", "collides"),
    [
        (http_route("other"), True),
        (http_route("other", rule="another"), False),
        (http_route("other", rule=None), False),
        (http_route("other", hostnames=["a.example.com"]), False),
        (http_route("other", parent={"name": "inner"}), False),
        (http_route(), False),
    ],
    ids=["same", "another name", "no name", "another host", "another Gateway", "itself"],
)
def test_a_rule_of_the_same_name_in_the_same_place_collides(
    other: dict[str, Any], collides: bool
) -> None:
    api = FakeApi(other)
    users = GatewayApiUsers(cast(Api, api))
    here = {Place(GATEWAY, 80, "*:80", "predict")}

    it = asyncio.run(users.collision(http_route(), here, everywhere=True))

    assert (it is not None) is collides
    assert api.listed == [""]


def test_only_namespaces_that_are_served_are_looked_at() -> None:
    api = FakeApi()
    users = GatewayApiUsers(cast(Api, api), ["one", "two"])

    asyncio.run(users.collision(http_route(), set(), everywhere=True))
    asyncio.run(users.collision(http_route(), set(), everywhere=False))

    assert api.listed == ["one", "two", "ns"]
