"""Where a VirtualService's route stands in the proxies, and why users can't be kept on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from modelexperiment.adapters.envoy_filter import GATEWAY, SIDECAR, Place
from modelexperiment.adapters.istio_places import gateways_of, narrower, on_gateway, route_names
from modelexperiment.adapters.istio_users import IstioUsers
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.snapshot import Problem
from modelexperiment.ports import UnavailableError
from tests.core.builders import experiment

EXPERIMENT = experiment(assignment={"header": "x-user-id"})
FQDN = "fraud.fraud.svc.cluster.local"


def virtual_service(name: str = "fraud", namespace: str = "fraud", **spec: Any) -> dict[str, Any]:
    routes = [{"name": "predict", "route": []}, {"name": "admin", "route": []}]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": ["a.example.com"], "gateways": ["edge"], "http": routes, **spec},
    }


def gateway(*hosts: str, port: int = 80, protocol: str = "HTTP") -> dict[str, Any]:
    server = {"port": {"number": port, "protocol": protocol}, "hosts": list(hosts)}
    return {"metadata": {"name": "edge", "namespace": "fraud"}, "spec": {"servers": [server]}}


class FakeApi:
    """Gateways, VirtualServices, a namespace's labels and a Service."""

    def __init__(self) -> None:
        self.gateways: dict[tuple[str, str], dict[str, Any]] = {("fraud", "edge"): gateway("*")}
        self.others: list[dict[str, Any]] = []
        self.labels: dict[str, str] = {}
        self.services: dict[str, tuple[dict[str, str], Sequence[int]]] = {}
        self.asked: list[str | None] = []
        self.forbidden = False

    async def get(self, *where: str) -> dict[str, Any]:
        if self.forbidden:
            raise UnavailableError("API server: 403 forbidden")
        try:
            return self.gateways[where[2], where[4]]
        except KeyError:
            raise NotFoundError("not found") from None

    async def list(self, *where: Any) -> Sequence[dict[str, Any]]:
        self.asked.append(where[2])
        return [o for o in self.others if where[2] in (None, o["metadata"]["namespace"])]

    async def namespace_labels(self, name: str) -> dict[str, str]:
        return self.labels

    async def service(self, namespace: str, name: str) -> tuple[dict[str, str], Sequence[int]]:
        try:
            return self.services[name]
        except KeyError:
            raise NotFoundError("not found") from None


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def places(api: FakeApi, found: dict[str, Any], *rules: Any, index: int = 0) -> Any:
    users = IstioUsers(cast(Api, api))
    return asyncio.run(users.places(EXPERIMENT, found, index, rules))


def reason(found: Any) -> str:
    assert isinstance(found, Problem)
    assert found.message.startswith("spec.")
    return found.reason


def test_a_route_on_a_gateway_is_named_by_port_and_host(api: FakeApi) -> None:
    assert places(api, virtual_service()) == {Place(GATEWAY, 80, "a.example.com:80", "predict")}


def test_named_matches_are_routes_of_their_own() -> None:
    matches = [{"name": "batch"}, {"name": "online"}, {"uri": {"prefix": "/"}}]

    assert route_names({"name": "p", "match": matches}) == {"p.batch", "p.online", "p"}
    assert route_names({"name": "p"}) == {"p"}
    assert route_names({"match": [{}]}) == set()


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("*", "a.b.c", "a.b.c"),
        ("*.b.c", "a.b.c", "a.b.c"),
        ("a.b.c", "*.b.c", "a.b.c"),
        ("*", "*", "*"),
        ("*.b.c", "*.a.b.c", "*.a.b.c"),
        ("a.b.c", "b.b.c", None),
        ("*.x.c", "a.b.c", None),
    ],
)
def test_what_two_hosts_have_in_common(one: str, other: str, common: str | None) -> None:
    assert narrower(one, other) == common


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("*", True),
        ("./*", True),
        ("fraud/*", True),
        ("*/a.example.com", True),
        ("other/*", False),
        ("b.example.com", False),
    ],
)
def test_a_server_may_be_for_some_namespaces_only(host: str, served: bool) -> None:
    found = list(on_gateway(virtual_service(), gateway(host)))

    assert found == ([(80, "a.example.com:80")] if served else [])


def test_passthrough_and_tcp_have_no_http_routes() -> None:
    assert list(on_gateway(virtual_service(), gateway("*", protocol="TLS"))) == []
    assert list(on_gateway(virtual_service(), gateway("*", port=443, protocol="HTTPS"))) != []


def test_without_gateways_it_is_for_the_sidecars(api: FakeApi) -> None:
    found = virtual_service(hosts=["fraud"], gateways=None)
    api.services["fraud"] = {}, [80, 8080]

    assert gateways_of(found) == ["mesh"]
    assert places(api, found) == {
        Place(SIDECAR, port, f"{FQDN}:{port}", "predict") for port in (80, 8080)
    }


def test_a_gateway_of_another_namespace(api: FakeApi) -> None:
    api.gateways["ingress", "edge"] = gateway("*", port=8443, protocol="HTTPS")

    found = places(api, virtual_service(gateways=["ingress/edge"]))

    assert found == {Place(GATEWAY, 8443, "a.example.com:8443", "predict")}


def test_what_stands_in_the_way_is_named(api: FakeApi) -> None:
    unnamed = virtual_service(http=[{"route": []}])
    assert reason(places(api, unnamed)) == "RouteUnnamed"
    assert reason(places(api, virtual_service(hosts=[]))) == "RouteDelegated"
    assert reason(places(api, virtual_service(gateways=["none"]))) == "GatewayNotFound"
    assert reason(places(api, virtual_service(gateways=["mesh"]))) == "PortUnknown"
    api.gateways["fraud", "edge"] = gateway("b.example.com")
    assert reason(places(api, virtual_service())) == "RouteNotServed"
    api.forbidden = True
    found = places(api, virtual_service())
    assert (reason(found), found.bad_input) == ("GatewayUnreadable", False)


HASH = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}


@pytest.mark.parametrize(
    ("spec", "mixes"),
    [
        ({"trafficPolicy": HASH}, True),
        ({"subsets": [{"name": "v1", "trafficPolicy": HASH}]}, True),
        ({"trafficPolicy": {"portLevelSettings": [HASH]}}, True),
        ({"trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}, False),
        ({}, False),
    ],
)
def test_a_hash_of_the_destination_rules_own(
    api: FakeApi, spec: dict[str, Any], mixes: bool
) -> None:
    found = places(api, virtual_service(), {"metadata": {"name": "fraud"}, "spec": spec})

    assert (isinstance(found, Problem) and found.reason == "ConsistentHash") is mixes


@pytest.mark.parametrize(
    ("namespace", "service", "ambient"),
    [
        ({}, {}, False),
        ({"istio.io/dataplane-mode": "ambient"}, {}, True),
        ({"istio.io/use-waypoint": "w"}, {}, True),
        ({"istio.io/use-waypoint": "w"}, {"istio.io/use-waypoint": "none"}, False),
        ({}, {"istio.io/use-waypoint": "w"}, True),
    ],
)
def test_an_ambient_mesh_is_said(
    api: FakeApi, namespace: dict[str, str], service: dict[str, str], ambient: bool
) -> None:
    api.labels, api.services = namespace, {"fraud": (service, [80])}

    found = places(api, virtual_service(hosts=["fraud"], gateways=["mesh"]))

    assert (isinstance(found, Problem) and found.reason == "AmbientMesh") is ambient


def collision(api: FakeApi, found: dict[str, Any], *, everywhere: bool = True) -> Problem | None:
    users = IstioUsers(cast(Api, api))
    return asyncio.run(users.collision(found, 0, places(api, found), everywhere=everywhere))


def test_a_route_of_the_same_name_in_the_same_place_collides(api: FakeApi) -> None:
    own = virtual_service()
    api.others = [own]
    assert collision(api, own) is None

    api.others = [own, virtual_service("other", "team", gateways=["fraud/edge"])]
    assert collision(api, own, everywhere=False) is None
    found = collision(api, own)
    assert found is not None
    assert "VirtualService team/other" in found.message
    assert reason(found) == "RouteNameCollision"
    assert api.asked[-1] is None


@pytest.mark.parametrize(
    "spec",
    [
        {"hosts": ["b.example.com"]},
        {"gateways": ["another"]},
        {"http": [{"name": "other", "route": []}]},
        {"http": [{"name": "predict", "match": [{"name": "x"}], "route": []}]},
    ],
)
def test_another_host_gateway_or_name_does_not(api: FakeApi, spec: dict[str, Any]) -> None:
    own = virtual_service()
    api.others = [own, virtual_service("other", **spec)]

    assert collision(api, own) is None


def test_sidecars_know_routes_of_one_name_as_well(api: FakeApi) -> None:
    own = virtual_service(hosts=["fraud"], gateways=["mesh"])
    api.services["fraud"] = {}, [80]
    api.others = [own, virtual_service("other", hosts=[FQDN], gateways=["mesh"])]

    assert collision(api, own) is not None


def test_two_routes_of_one_virtual_service(api: FakeApi) -> None:
    routes = [
        {"name": "predict", "match": [{"name": "x"}], "route": []},
        {"name": "predict.x", "route": []},
    ]
    own = virtual_service(http=routes)
    api.others = [own]

    assert collision(api, own) is not None


SHADOW = {"modelVersion": "v3"}


def cluster(api: FakeApi, **fields: Any) -> str | Problem | None:
    asked = experiment(**{"assignment": {"header": "x-user-id"}, "shadow": SHADOW, **fields})
    return asyncio.run(IstioUsers(cast(Api, api)).shadow_cluster(asked))


def entry(*ports: int) -> dict[str, Any]:
    spec = {"hosts": [FQDN], "ports": [{"number": port, "name": f"p{port}"} for port in ports]}
    return {"metadata": {"name": "fraud", "namespace": "fraud"}, "spec": spec}


def test_the_shadows_cluster_has_the_port_of_the_route_the_service_or_the_entry(
    api: FakeApi,
) -> None:
    found = cluster(api)
    assert reason(found) == "PortUnknown"
    assert isinstance(found, Problem)
    assert found.message.endswith(f"{FQDN} shows no port")
    api.others = [entry(9_000)]
    assert cluster(api) == f"outbound|9000|v3|{FQDN}"
    api.services["fraud"] = {}, [8_080]
    assert cluster(api) == f"outbound|8080|v3|{FQDN}"
    api.services["fraud"] = {}, [8_080, 9_090]
    assert reason(cluster(api)) == "PortUnknown"
    route = {"istio": {"virtualService": "fraud", "host": "fraud", "port": 9_090}}
    named = {"shadow": {**SHADOW, "subset": "canary"}, "route": route}
    assert cluster(api, **named) == f"outbound|9090|canary|{FQDN}"


def test_without_users_or_without_a_shadow_there_is_no_such_cluster(api: FakeApi) -> None:
    assert cluster(api, shadow=None) is None
    assert cluster(api, assignment=None) is None
