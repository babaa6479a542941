"""Whether Istio can keep users on their version on a route, and where it must be told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelexperiment.adapters import istio_places
from modelexperiment.adapters.envoy_filter import Place
from modelexperiment.adapters.istio_places import MESH
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.mirroring import by_user, mirror_target
from modelexperiment.core.snapshot import Problem
from modelexperiment.ports import UnavailableError

GROUP, VERSION = "networking.istio.io", "v1"
_WAYPOINT, _MODE = "istio.io/use-waypoint", "istio.io/dataplane-mode"

Object = Mapping[str, Any]
Hosts = list[tuple[int, str]]
"""(port, virtual host)."""


@dataclass(frozen=True)
class IstioUsers:
    """Looks at everything around a VirtualService that decides about its users."""

    api: Api
    namespaces: Sequence[str] = ()
    """Where VirtualServices may be listed; none: everywhere."""

    async def places(
        self,
        experiment: Experiment,
        virtual_service: Object,
        index: int,
        rules: Sequence[Object],
    ) -> set[Place] | Problem:
        """The places of an http route in the proxies, or why users can't be kept there.

        `rules` are the DestinationRules of the route's host.
        """
        http = virtual_service["spec"]["http"][index]
        problem = istio_places.unnamed(virtual_service, http) or _hashed(rules)
        if problem:
            return problem
        wanted = istio_places.gateways_of(virtual_service)
        gateways = await self._gateways(name for name in wanted if name != MESH)
        if isinstance(gateways, Problem):
            return gateways
        sidecars = await self._sidecars(experiment, virtual_service) if MESH in wanted else []
        if isinstance(sidecars, Problem):
            return sidecars
        found = istio_places.places(http, _on(virtual_service, gateways), sidecars)
        if not found:
            return Problem(
                "RouteNotServed",
                f"spec.assignment: no server of {', '.join(wanted)} serves any host of "
                f"VirtualService {virtual_service['metadata']['name']}, so that no proxy has the "
                "route",
            )
        return found

    async def _gateways(self, names: Any) -> dict[str, Object] | Problem:
        found: dict[str, Object] = {}
        for name in names:
            namespace, _, short = name.partition("/")
            try:
                found[name] = await self.api.get(GROUP, VERSION, namespace, "gateways", short)
            except NotFoundError:
                return Problem(
                    "GatewayNotFound",
                    f"spec.assignment: there is no Gateway {name}, which the VirtualService names",
                )
            except UnavailableError as error:
                why = f"spec.assignment: Gateway {name} can't be read: {error}"
                return Problem("GatewayUnreadable", why, bad_input=False)
        return found

    async def _sidecars(self, experiment: Experiment, virtual_service: Object) -> Hosts | Problem:
        """The virtual hosts on sidecars: one for each port of each host's Service."""
        namespace = virtual_service["metadata"]["namespace"]
        route = experiment.spec.route.istio
        own_port = [route.port] if route and route.port else []
        found: Hosts = []
        for host in virtual_service["spec"].get("hosts") or []:
            name = istio_places.full(str(host), namespace)
            labels, ports = await self._service(name)
            problem = await self._ambient(name, namespace, labels)
            if problem:
                return problem
            if not (ports or own_port):
                return Problem(
                    "PortUnknown",
                    f"spec.route.istio.port: is needed for assignment, since there is no Service "
                    f"{host} that would tell the ports which sidecars serve",
                )
            found += [(port, f"{name}:{port}") for port in ports or own_port]
        return found

    async def _service(self, host: str) -> tuple[dict[str, str], Sequence[int]]:
        name, _, rest = host.partition(".")
        namespace, _, kind = rest.partition(".")
        if not kind.startswith("svc"):
            return {}, []
        try:
            return await self.api.service(namespace, name)
        except (NotFoundError, UnavailableError):
            # Perhaps it is a ServiceEntry's, or of a namespace that is not to be seen.
            return {}, []

    async def shadow_cluster(self, experiment: Experiment) -> str | Problem | None:
        """Envoy's name of the servers that get copies of users' requests; None without any.

        It has the port in it: the route's, or the host's only one, as istiod takes it.
        """
        spec, namespace = experiment.spec, experiment.namespace
        route, subset = spec.route.istio, mirror_target(spec)
        if route is None or subset is None or not by_user(spec):
            return None
        host = istio_places.full(route.host, namespace)
        ports = [route.port] if route.port else await self._ports(host, namespace)
        if len(ports) != 1:
            has = f"has the ports {', '.join(map(str, ports))}" if ports else "shows no port"
            return Problem(
                "PortUnknown",
                f"spec.route.istio.port: is needed for a shadow beside assignment, since {host} "
                f"{has}",
            )
        return f"outbound|{ports[0]}|{subset}|{host}"

    async def _ports(self, host: str, namespace: str) -> Sequence[int]:
        """The ports of a Service, or else of this namespace's ServiceEntries for the host."""
        _, ports = await self._service(host)
        if ports:
            return ports
        entries = await self.api.list(GROUP, VERSION, namespace, "serviceentries")
        own = [e["spec"] for e in entries if host in (e["spec"].get("hosts") or ())]
        return sorted({int(port["number"]) for spec in own for port in spec.get("ports") or []})

    async def _ambient(
        self, host: str, namespace: str, service: Mapping[str, str]
    ) -> Problem | None:
        labels = await self.api.namespace_labels(namespace)
        waypoint = service.get(_WAYPOINT, labels.get(_WAYPOINT, "none"))
        if waypoint == "none" and labels.get(_MODE) != "ambient":
            return None
        through = f"waypoint {waypoint}" if waypoint != "none" else "ztunnel"
        return Problem(
            "AmbientMesh",
            f"spec.assignment: {host} is served through the {through} of an ambient mesh, which "
            "follows no EnvoyFilter, so that users can't be kept on their version: leave "
            "assignment out, or route by sidecars or a gateway",
        )

    async def collision(
        self, virtual_service: Object, index: int, found: set[Place], *, everywhere: bool
    ) -> Problem | None:
        """Another route that the proxies know by the same name in the same place, if there is one.

        `everywhere` looks beyond the VirtualService's own namespace.
        """
        metadata = virtual_service["metadata"]
        own: list[str | None] = [metadata["namespace"]]
        gateways = await self._gateways(
            name for name in istio_places.gateways_of(virtual_service) if name != MESH
        )
        if isinstance(gateways, Problem):
            return gateways
        namespaces: Sequence[str | None] = own
        if everywhere:
            namespaces = list(self.namespaces) or [None]
        for namespace in namespaces:
            others = await self.api.list(GROUP, VERSION, namespace, "virtualservices")
            for other in others:
                same = (other["metadata"]["namespace"], other["metadata"]["name"]) == (
                    metadata["namespace"],
                    metadata["name"],
                )
                name = _shared(other, index if same else None, gateways, found)
                if name:
                    return _collides(other, name)
        return None


def _on(virtual_service: Object, gateways: Mapping[str, Object]) -> Hosts:
    named = istio_places.gateways_of(virtual_service)
    return [
        where
        for name, gateway in gateways.items()
        if name in named
        for where in istio_places.on_gateway(virtual_service, gateway)
    ]


def _shared(
    other: Object, own: int | None, gateways: Mapping[str, Object], found: set[Place]
) -> str | None:
    """The name that another VirtualService's route shares with ours where both are served."""
    namespace = other["metadata"]["namespace"]
    hosts = {istio_places.full(str(h), namespace) for h in other["spec"].get("hosts") or []}
    sidecars = [
        (place.port, place.virtual_host)
        for place in found
        if MESH in istio_places.gateways_of(other)
        and place.virtual_host.rpartition(":")[0] in hosts
    ]
    for position, http in enumerate(other["spec"].get("http") or []):
        if position == own:
            continue
        common = istio_places.places(http, _on(other, gateways), sidecars) & found
        if common:
            return min(common).route
    return None


def _collides(other: Object, name: str) -> Problem:
    where = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
    return Problem(
        "RouteNameCollision",
        f"spec.assignment: VirtualService {where} has another route that the proxy knows as {name} "
        "under the same host and port, and would be made sticky as well: give one of them another "
        "name",
    )


def _hashed(rules: Sequence[Object]) -> Problem | None:
    for rule in rules:
        if istio_places.consistent_hash(rule):
            return Problem(
                "ConsistentHash",
                f"spec.assignment: DestinationRule {rule['metadata']['name']} sets consistentHash, "
                "which Envoy mixes into the choice of the version, so that users are not where "
                "they should be: take it out while the experiment runs",
            )
    return None
