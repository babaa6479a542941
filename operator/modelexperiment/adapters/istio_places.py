"""Where a VirtualService's http route stands in the proxies' configuration, and under which name.

istiod makes a virtual host HOST:PORT for every host that a VirtualService and a server of its
Gateway have in common, and on sidecars one for every port of the host's Service. A route is called
after the http route, and after its match where that one is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modelexperiment.adapters.envoy_filter import GATEWAY, SIDECAR, Place
from modelexperiment.core.snapshot import Problem

MESH = "mesh"
_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS")

Object = Mapping[str, Any]


def gateways_of(virtual_service: Object) -> list[str]:
    """The gateways of a VirtualService as NAMESPACE/NAME; "mesh" for the sidecars."""
    namespace = virtual_service["metadata"]["namespace"]
    named: Sequence[str] = virtual_service["spec"].get("gateways") or [MESH]
    return [name if name == MESH or "/" in name else f"{namespace}/{name}" for name in named]


def route_names(http: Object) -> set[str]:
    """Envoy's names of an http route; empty where it has none."""
    name = http.get("name")
    if not name:
        return set()
    matches = http.get("match") or [{}]
    return {f"{name}.{m['name']}" if m.get("name") else str(name) for m in matches}


def unnamed(virtual_service: Object, http: Object) -> Problem | None:
    """Why the route can't be told from others in the proxy, if it can't."""
    name = virtual_service["metadata"]["name"]
    if not http.get("name"):
        return Problem(
            "RouteUnnamed",
            f"spec.assignment: the http route of VirtualService {name} has no name, by which "
            "alone the proxy's route is found: give it one",
        )
    if not virtual_service["spec"].get("hosts"):
        return Problem(
            "RouteDelegated",
            f"spec.assignment: VirtualService {name} has no hosts of its own (another one "
            "delegates to it), so that its route can't be found in the proxy; use that other one",
        )
    return None


def on_gateway(virtual_service: Object, gateway: Object) -> Iterator[tuple[int, str]]:
    """(port, virtual host) of everything that a gateway serves of a VirtualService."""
    namespace = virtual_service["metadata"]["namespace"]
    for server in gateway["spec"].get("servers") or []:
        port = server.get("port") or {}
        if str(port.get("protocol", "")).upper() not in _HTTP:
            continue
        for offered in server.get("hosts") or []:
            where, slash, host = str(offered).rpartition("/")
            here = gateway["metadata"]["namespace"] if where == "." else where
            if slash and here not in ("*", namespace):
                continue
            for wanted in virtual_service["spec"].get("hosts") or []:
                common = narrower(host, full(str(wanted), namespace))
                if common:
                    yield int(port["number"]), f"{common}:{port['number']}"


def full(host: str, namespace: str) -> str:
    """A host the way istiod writes it: a short name is a Service's."""
    return host if "." in host or "*" in host else f"{host}.{namespace}.svc.cluster.local"


def narrower(one: str, other: str) -> str | None:
    """The hosts that two have in common, either of which may begin with a wildcard."""
    for wide, narrow in ((one, other), (other, one)):
        if wide == narrow or (wide.startswith("*") and narrow.endswith(wide[1:])):
            return narrow
    return None


def places(
    http: Object, gateways: Iterable[tuple[int, str]], sidecars: Iterable[tuple[int, str]]
) -> set[Place]:
    """All places of an http route, by the (port, virtual host) of gateways and of sidecars."""
    names = route_names(http)
    return {
        Place(context, port, virtual_host, name)
        for context, found in ((GATEWAY, list(gateways)), (SIDECAR, list(sidecars)))
        for port, virtual_host in found
        for name in names
    }


def consistent_hash(rule: Object) -> bool:
    """Whether a DestinationRule chooses endpoints by a hash of its own."""
    policies = [rule["spec"], *(rule["spec"].get("subsets") or [])]
    for policy in (p.get("trafficPolicy") or {} for p in policies):
        levels = [policy, *(policy.get("portLevelSettings") or [])]
        if any("consistentHash" in (level.get("loadBalancer") or {}) for level in levels):
            return True
    return False
