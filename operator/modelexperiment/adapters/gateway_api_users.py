"""Whether an HTTPRoute's Gateways can keep users on their version, and where they must be told to.

Only Istio's follow an EnvoyFilter. istiod makes a virtual host HOST:PORT of what a listener's and
the route's hostnames have in common, and calls Envoy's route after the rule, or after its place in
the HTTPRoute where it has no name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelexperiment.adapters import istio_places
from modelexperiment.adapters.envoy_filter import GATEWAY, Place
from modelexperiment.adapters.gateway_api import GROUP, PLURAL, VERSION, identity
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.snapshot import Problem
from modelexperiment.ports import UnavailableError

ISTIO = "istio.io/gateway-controller"
_HTTP = ("HTTP", "HTTPS")
_HASHING = ("networking.istio.io", "v1", "destinationrules")

Object = Mapping[str, Any]
Gateways = dict[tuple[str, str], Object]
"""By namespace and name."""


@dataclass(frozen=True)
class GatewayApiUsers:
    """Looks at everything around an HTTPRoute that decides about its users."""

    api: Api
    namespaces: Sequence[str] = ()
    """Where HTTPRoutes may be listed; none: everywhere."""
    filter_namespace: str = ""
    """Where EnvoyFilters stand; "" for each experiment's own namespace."""

    async def places(self, http_route: Object, index: int) -> set[Place] | Problem:
        """The places of a rule in the proxies, or why users can't be kept there."""
        gateways = await self._gateways(http_route)
        if isinstance(gateways, Problem):
            return gateways
        problem = await self._hashed(http_route, index)
        if problem:
            return problem
        found = set(places(http_route, index, gateways))
        if not found:
            return Problem(
                "RouteNotServed",
                f"spec.assignment: no listener of {_names(gateways)} serves any hostname of "
                f"HTTPRoute {http_route['metadata']['name']}, so that no proxy has the rule",
            )
        return found

    async def _gateways(self, http_route: Object) -> Gateways | Problem:
        namespace = http_route["metadata"]["namespace"]
        found: Gateways = {}
        for parent in http_route["spec"].get("parentRefs") or []:
            problem = _unfit(http_route, parent, self.filter_namespace)
            if problem:
                return problem
            where = (str(parent.get("namespace", namespace)), str(parent["name"]))
            try:
                found[where] = await self.api.get(GROUP, VERSION, where[0], "gateways", where[1])
            except NotFoundError:
                why = f"spec.assignment: there is no Gateway {'/'.join(where)}"
                return Problem("GatewayNotFound", f"{why}, which the HTTPRoute names")
            except UnavailableError as error:
                why = f"spec.assignment: Gateway {'/'.join(where)} can't be read: {error}"
                return Problem("GatewayUnreadable", why, bad_input=False)
        return found

    async def _hashed(self, http_route: Object, index: int) -> Problem | None:
        """Whether a backend's DestinationRule chooses by a hash of its own."""
        namespace = http_route["metadata"]["namespace"]
        refs = http_route["spec"]["rules"][index]["backendRefs"]
        hosts = {istio_places.full(str(ref["name"]), namespace) for ref in refs}
        group, version, plural = _HASHING
        for rule in await self.api.list(group, version, namespace, plural):
            host = istio_places.full(str(rule["spec"].get("host", "")), namespace)
            if host in hosts and istio_places.consistent_hash(rule):
                return Problem(
                    "ConsistentHash",
                    f"spec.assignment: DestinationRule {rule['metadata']['name']} sets "
                    "consistentHash, which Envoy mixes into the choice of the version, so that "
                    "users are not where they should be: take it out while the experiment runs",
                )
        return None

    async def collision(
        self, http_route: Object, found: set[Place], *, everywhere: bool
    ) -> Problem | None:
        """Another HTTPRoute's rule that the proxies know by the same name in the same place.

        `everywhere` looks beyond the HTTPRoute's own namespace. Within it names are unique.
        """
        own = http_route["metadata"]
        gateways = await self._gateways(http_route)
        if isinstance(gateways, Problem):
            return gateways
        for namespace in (self.namespaces or [""]) if everywhere else [own["namespace"]]:
            for other in await self.api.list(GROUP, VERSION, namespace, PLURAL):
                its = other["metadata"]
                if (its["namespace"], its["name"]) == (own["namespace"], own["name"]):
                    continue
                for index in range(len(other["spec"].get("rules") or [])):
                    common = set(places(other, index, gateways)) & found
                    if common:
                        return _collides(its, min(common).route)
        return None


def _unfit(http_route: Object, parent: Object, filter_namespace: str) -> Problem | None:
    """Why a parent's proxies follow no EnvoyFilter of the experiment, if that is so."""
    namespace = http_route["metadata"]["namespace"]
    kind, name = parent.get("kind", "Gateway"), parent["name"]
    if kind != "Gateway":
        return Problem(
            "NotAGateway",
            f"spec.assignment: the HTTPRoute's parent {kind} {name} is no Gateway, so that users "
            "can't be kept on their version: leave assignment out, or route by a Gateway",
        )
    said = (http_route.get("status") or {}).get("parents") or []
    wanted = identity(parent, namespace)
    controllers = {
        e.get("controllerName") for e in said if identity(e["parentRef"], namespace) == wanted
    }
    if ISTIO not in controllers:
        return Problem(
            "NotIstio",
            f"spec.assignment: Gateway {name} is served by "
            f"{', '.join(sorted(map(str, controllers))) or 'nobody'}, and only Istio's "
            f"({ISTIO}) keep users on their version: leave assignment out",
        )
    where = parent.get("namespace", namespace)
    if not filter_namespace and where != namespace:
        return Problem(
            "GatewayElsewhere",
            f"spec.assignment: the proxies of Gateway {where}/{name} follow no EnvoyFilter in "
            f"{namespace}: set ENVOY_FILTER_NAMESPACE of the operator to {where}",
        )
    return None


def route_name(http_route: Object, index: int) -> str:
    """Envoy's name of a rule's routes."""
    metadata = http_route["metadata"]
    named = http_route["spec"]["rules"][index].get("name")
    return str(named or f"{metadata['namespace']}.{metadata['name']}.{index}")


def places(http_route: Object, index: int, gateways: Gateways) -> Iterator[Place]:
    """All places of a rule on those of its Gateways that are given."""
    namespace = http_route["metadata"]["namespace"]
    name = route_name(http_route, index)
    hostnames = http_route["spec"].get("hostnames") or ["*"]
    for parent in http_route["spec"].get("parentRefs") or []:
        gateway = gateways.get((parent.get("namespace", namespace), parent["name"]))
        for listener in gateway["spec"].get("listeners") or [] if gateway else []:
            port = int(listener["port"])
            if not _attached(parent, listener):
                continue
            for hostname in hostnames:
                common = istio_places.narrower(listener.get("hostname") or "*", str(hostname))
                if common:
                    yield Place(GATEWAY, port, f"{common}:{port}", name)


def _attached(parent: Object, listener: Object) -> bool:
    return (
        listener.get("protocol") in _HTTP
        and parent.get("sectionName", listener["name"]) == listener["name"]
        and parent.get("port", listener["port"]) == listener["port"]
    )


def _names(gateways: Gateways) -> str:
    return ", ".join("/".join(where) for where in sorted(gateways)) or "no Gateway"


def _collides(other: Object, name: str) -> Problem:
    return Problem(
        "RouteNameCollision",
        f"spec.assignment: HTTPRoute {other['namespace']}/{other['name']} has another rule that "
        f"the proxy knows as {name} under the same host and port, and would be made sticky as "
        "well: give one of them another name",
    )
