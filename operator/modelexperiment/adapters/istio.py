"""Istio: the destinations of one named http route of a VirtualService.

The VirtualService stays its owner's. Of the one http route only `route` is written, and of
`mirrors` the operator's own, by a JSON patch that first tests that both are still what was seen;
everything else in the object is neither read nor written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelexperiment.adapters import mirrors
from modelexperiment.adapters.envoy_filter import EnvoyFilters, Place, says
from modelexperiment.adapters.istio_mirrors import mirror_kind, mirrors_blocked
from modelexperiment.adapters.istio_users import IstioUsers
from modelexperiment.adapters.json_patch import fields_patch, same_name
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.rollback_marker import marker_of, marker_patch
from modelexperiment.adapters.segments import (
    NOBODY,
    Copies,
    destinations_of,
    marked,
    segments_of,
    without_stamps,
)
from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.mirroring import by_user, mirror_target
from modelexperiment.core.rollout import Split
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.core.spec import ExperimentSpec, IstioRoute
from modelexperiment.ports import ConflictError

GROUP, VERSION = "networking.istio.io", "v1"
ATTEMPTS = 5
# What Istio does where a route says nothing of retries.
DEFAULT_RETRIES = 2

Destination = dict[str, Any]
Fields = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What fields of an http route are to be, by what it is."""


def istio_of(spec: ExperimentSpec) -> IstioRoute:
    """The spec's Istio route; it has one where this router is used."""
    assert spec.route.istio is not None
    return spec.route.istio


def find_route(virtual_service: Mapping[str, Any], wanted: IstioRoute) -> int | Problem:
    """The index of the http route that is meant."""
    name = wanted.virtual_service
    routes: Sequence[Mapping[str, Any]] = virtual_service.get("spec", {}).get("http") or []
    if wanted.http_route is None:
        if len(routes) == 1:
            return 0
        names = ", ".join(str(r.get("name", "unnamed")) for r in routes) or "none"
        return Problem(
            "RouteAmbiguous",
            f"VirtualService {name} has {len(routes)} http routes ({names}): name one in "
            "spec.route.istio.httpRoute",
        )
    found = [i for i, route in enumerate(routes) if route.get("name") == wanted.http_route]
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(r["name"]) for r in routes if r.get("name")) or "no named ones"
    if found:
        return Problem(
            "RouteAmbiguous",
            f"VirtualService {name} has {len(found)} http routes named {wanted.http_route}",
        )
    return Problem(
        "RouteNotFound",
        f"spec.route.istio.httpRoute: VirtualService {name} has no http route "
        f"{wanted.http_route}; it has {names}",
    )


def subsets(spec: ExperimentSpec) -> dict[str, str]:
    """The subset that serves each version."""
    return {arm.model_version: arm.subset or arm.model_version for arm in spec.traffic}


def qualified(host: str, namespace: str) -> str:
    """A destination host the way Istio understands it: a short name is a Service's."""
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"


def _serves(destination: Mapping[str, Any], spec: ExperimentSpec, namespace: str) -> str | None:
    """The version that a destination of the route serves, if it is one of the experiment's."""
    by_subset = {subset: version for version, subset in subsets(spec).items()}
    subset = _subset_of(destination, istio_of(spec), namespace)
    return None if subset is None else by_subset.get(subset)


def _subset_of(entry: Mapping[str, Any], route: IstioRoute, namespace: str) -> str | None:
    """The subset that an entry names, where it leads to the experiment's host."""
    target = entry.get("destination", {})
    if qualified(str(target.get("host", "")), namespace) != qualified(route.host, namespace):
        return None
    port = (target.get("port") or {}).get("number")
    if route.port is not None and port != route.port:
        return None
    return str(target.get("subset", ""))


def _destination(subset: str, route: IstioRoute) -> Destination:
    target: dict[str, Any] = {"host": route.host, "subset": subset}
    if route.port is not None:
        target["port"] = {"number": route.port}
    return {"destination": target}


def mirrors_of(route: IstioRoute, namespace: str) -> mirrors.Kind:
    """How the route's mirrors to the experiment's host are written."""
    return mirror_kind(
        lambda entry: _subset_of(entry, route, namespace),
        lambda subset: _destination(subset, route),
    )


def split_of(
    destinations: Sequence[Mapping[str, Any]], spec: ExperimentSpec, namespace: str
) -> Split | None:
    """The split that a route's destinations give; None where traffic goes elsewhere as well."""
    weights = [int(d.get("weight", 0)) for d in destinations]
    if len(destinations) == 1:
        # Istio takes a single destination without a weight as everything.
        weights = [weights[0] or 100]
    total = sum(weights)
    split = dict.fromkeys(spec.versions, 0.0)
    for destination, weight in zip(destinations, weights, strict=True):
        version = _serves(destination, spec, namespace)
        if version is None and weight > 0:
            return None
        if version is not None and total > 0:
            split[version] += 100 * weight / total
    return split if total > 0 else None


def destinations_for(
    split: Split, existing: Sequence[Mapping[str, Any]], spec: ExperimentSpec, namespace: str
) -> list[Destination]:
    """The destinations of a split, keeping whatever else the existing ones say.

    All versions stay listed, with weight 0 where they get nothing. Weights are percents, or
    hundredths of them where one has decimals.
    """
    scale = 1 if all(float(percent).is_integer() for percent in split.values()) else 100
    route = istio_of(spec)
    known = {
        version: destination
        for destination in existing
        if (version := _serves(destination, spec, namespace)) is not None
    }
    result = []
    for version, percent in split.items():
        if version in known:
            destination = copy.deepcopy(dict(known[version]))
        else:
            destination = _destination(subsets(spec)[version], route)
        destination["weight"] = round(percent * scale)
        result.append(destination)
    return result


def table_destinations(
    table: SegmentTable,
    existing: Sequence[Mapping[str, Any]],
    spec: ExperimentSpec,
    namespace: str,
    copies: Copies | None = None,
) -> list[Destination]:
    """The destinations of a users' table, keeping whatever else the existing ones say."""
    bare = destinations_for(dict.fromkeys(spec.versions, 0.0), existing, spec, namespace)
    templates = dict(zip(spec.versions, bare, strict=True))
    return destinations_of(table, spec.versions, templates.__getitem__, copies)


def _fields(
    http: Mapping[str, Any],
    experiment: Experiment,
    routing: Routing,
    copies: Copies | None,
    *,
    stamped: bool,
) -> dict[str, Any]:
    """What the http route is to say; `stamped`: its stamps are ours, from a table before."""
    namespace, spec = experiment.namespace, experiment.spec
    own, seen = istio_of(spec), http["route"]
    if routing.table is None:
        bare = [without_stamps(d) for d in seen] if stamped else seen
        route = destinations_for(routing.split, bare, spec, namespace)
    else:
        needed = None if copies is NOBODY and not marked(seen) else copies
        route = table_destinations(routing.table, seen, spec, namespace, needed)
    if not (routing.mirror or routing.retired):
        return {"route": route}
    # Both fields together, and istiod drops the route.
    unfit = routing.copies_users or mirrors_blocked(http, own)
    fit = replace(routing, mirror=None) if unfit else routing
    kind = mirrors_of(own, namespace)
    return {"route": route, "mirrors": mirrors.routed(kind, http.get("mirrors"), fit)}


def _missing_subset(
    namespace: str, spec: ExperimentSpec, rules: Sequence[Mapping[str, Any]]
) -> Problem | None:
    known = {subset["name"] for rule in rules for subset in rule["spec"].get("subsets") or []}
    wanted = {f"spec.traffic[{version}]": subset for version, subset in subsets(spec).items()}
    if shadow := mirror_target(spec):
        wanted["spec.shadow"] = shadow
    for field, subset in wanted.items():
        if subset not in known:
            return Problem(
                "DestinationNotFound",
                f"{field}: no DestinationRule for host {istio_of(spec).host} "
                f"in namespace {namespace} has the subset {subset}; it has "
                f"{', '.join(sorted(known)) or 'none'}",
            )
    return None


@dataclass(frozen=True)
class _Found:
    """The http route as it stands, and all around it that matters for users."""

    virtual_service: Mapping[str, Any]
    index: int

    @property
    def http(self) -> Mapping[str, Any]:
        """The http route itself."""
        found: Mapping[str, Any] = self.virtual_service["spec"]["http"][self.index]
        return found

    @property
    def destinations(self) -> list[Destination]:
        """Its destinations."""
        return list(self.http["route"])

    @property
    def retries(self) -> int:
        """How often the route sends a failed request again."""
        http = self.virtual_service["spec"]["http"][self.index]
        return int((http.get("retries") or {}).get("attempts", DEFAULT_RETRIES))


class IstioRouter:
    """A TrafficRouter for VirtualServices."""

    def __init__(
        self, api: Api, filters: EnvoyFilters | None = None, namespaces: Sequence[str] = ()
    ) -> None:
        self._api = api
        self._filters = filters or EnvoyFilters(api)
        self._users = IstioUsers(api, namespaces)

    async def read(self, experiment: Experiment) -> RouteSeen | Problem:
        """The route as it is now, or what is wrong with it or its destinations."""
        found = await self._find(experiment)
        if isinstance(found, Problem):
            return found
        seen = await self._seen(experiment, found)
        if isinstance(seen, Problem):
            return seen
        marker = marker_of(found.virtual_service)
        return replace(seen, retries=found.retries, marker=marker)

    async def _seen(self, experiment: Experiment, found: _Found) -> RouteSeen | Problem:
        """The route's split, and how users are kept on it."""
        namespace, spec = experiment.namespace, experiment.spec
        rules = await self._rules(experiment)
        problem = _missing_subset(namespace, spec, rules)
        cluster = await self._users.shadow_cluster(experiment)
        if not problem and isinstance(cluster, Problem):
            problem = cluster
        if not problem and spec.shadow and not by_user(spec):
            problem = mirrors_blocked(found.http, istio_of(spec))
        if problem:
            return problem
        mirrored = found.http.get("mirrors") or []
        seen = RouteSeen(
            split_of(found.destinations, spec, namespace),
            {"route": found.destinations, **({"mirrors": mirrored} if mirrored else {})},
            mirrors=mirrors.percents(mirrors_of(istio_of(spec), namespace), mirrored),
        )
        copied_to = cluster if isinstance(cluster, str) else None
        return await self._with_users(experiment, seen, found, rules, copied_to)

    async def _with_users(
        self,
        experiment: Experiment,
        seen: RouteSeen,
        found: _Found,
        rules: Sequence[Mapping[str, Any]],
        copied_to: str | None,
    ) -> RouteSeen:
        """What was seen of the route, with what it says of users."""
        namespace, spec = experiment.namespace, experiment.spec
        there = await self._filters.seen(experiment)
        if spec.assignment is None:
            return replace(seen, sticky=None if there else False)
        buckets = spec.assignment.buckets
        segments = segments_of(
            found.destinations, buckets, lambda d: _serves(d, spec, namespace), copied_to
        )
        places = await self._places(experiment, found, rules, there)
        if isinstance(places, Problem):
            sticky = None if there else False
            return replace(seen, segments=segments, sticky=sticky, unsticky=places)
        copies = self._copies(experiment, places, there)
        sticky = copies is not None or (None if there else False)
        return replace(seen, segments=segments, sticky=sticky, copies_users=bool(copies))

    def _copies(
        self, experiment: Experiment, places: set[Place], there: Mapping[str, Any] | None
    ) -> bool | None:
        """Whether the filter copies users' requests; None where it is not as it should be."""
        for copies in (False, True) if experiment.spec.shadow else (False,):
            wanted = self._filters.wanted(experiment, places, copies=copies)
            if there is not None and says(there, wanted):
                return copies
        return None

    async def _places(
        self,
        experiment: Experiment,
        found: _Found,
        rules: Sequence[Mapping[str, Any]],
        there: Mapping[str, Any] | None,
    ) -> set[Place] | Problem:
        """Where the route stands in the proxies; or why users can't be kept on it."""
        places = await self._users.places(experiment, found.virtual_service, found.index, rules)
        if isinstance(places, Problem):
            return places
        # A new place is looked at in all namespaces; that is too much for every poll.
        new = self._copies(experiment, places, there) is None
        collision = await self._users.collision(
            found.virtual_service, found.index, places, everywhere=new
        )
        return collision or places

    async def _find(self, experiment: Experiment) -> _Found | Problem:
        route = istio_of(experiment.spec)
        try:
            found = await self._api.get(
                GROUP, VERSION, experiment.namespace, "virtualservices", route.virtual_service
            )
        except NotFoundError:
            return Problem(
                "VirtualServiceNotFound",
                f"spec.route.istio.virtualService: there is no VirtualService "
                f"{experiment.namespace}/{route.virtual_service}",
            )
        index = find_route(found, route)
        if isinstance(index, Problem):
            return index
        http = found["spec"]["http"][index]
        if "route" not in http:
            return Problem(
                "RouteNotFound",
                f"http route {http.get('name', index)} of VirtualService {route.virtual_service} "
                "redirects or answers directly: it has no destinations to split",
            )
        return _Found(found, index)

    async def _rules(self, experiment: Experiment) -> list[dict[str, Any]]:
        """The DestinationRules of the route's host."""
        host = qualified(istio_of(experiment.spec).host, experiment.namespace)
        rules = await self._api.list(GROUP, VERSION, experiment.namespace, "destinationrules")
        return [
            rule
            for rule in rules
            if qualified(str(rule["spec"].get("host", "")), experiment.namespace) == host
        ]

    async def apply(self, experiment: Experiment, routing: Routing) -> Problem | None:
        """Write into the route what it is to say; None once it is there.

        The destinations come first: a filter that finds a single one breaks the route. Without
        its places no filter is left to stand, and the weights are right all the same. Where copies
        end, callers must not name a cluster themselves while the filter still copies: the entries
        guard against that until it is written.
        """
        table = routing.table
        copies = await self._copies_of(experiment, routing)
        # With a table the weights, which may be a rollback's, wait for nothing else.
        there = None if table is not None else await self._filters.seen(experiment)

        def wanted(copied: Copies | None) -> Fields:
            return lambda http: _fields(http, experiment, routing, copied, stamped=bool(there))

        problem = await self._write(experiment, wanted(copies or NOBODY), routing.marker)
        if problem:
            return problem
        if table is None:
            if there:
                await self._filters.remove(experiment)
            return None
        problem = await self._keep_users(experiment, copies is not None)
        if copies is None and routing.retired:
            return problem or await self._write(experiment, wanted(None), routing.marker)
        return problem

    async def _copies_of(self, experiment: Experiment, routing: Routing) -> Copies | None:
        """Whose requests are copied, and where to; None where that can't be said."""
        if routing.mirror is None or not routing.copies_users:
            return None
        cluster = await self._users.shadow_cluster(experiment)
        return Copies(routing.mirror.percent, cluster) if isinstance(cluster, str) else None

    async def _keep_users(self, experiment: Experiment, copies: bool) -> Problem | None:
        there = await self._filters.seen(experiment)
        found = await self._find(experiment)
        if isinstance(found, Problem):
            return found
        rules = await self._rules(experiment)
        places = await self._places(experiment, found, rules, there)
        if isinstance(places, Problem):
            await self._filters.remove(experiment)
            return places
        return await self._filters.put(experiment, places, copies=copies)

    async def restore(
        self, experiment: Experiment, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        """Put the original destinations back; None once they are there, or nothing is.

        The filter goes first: the original may have a single destination.
        """
        await self._filters.remove(experiment)
        kind = mirrors_of(istio_of(experiment.spec), experiment.namespace)

        def wanted(http: Mapping[str, Any]) -> dict[str, Any]:
            fields: dict[str, Any] = {"route": original["route"]}
            if mirrored:
                before = original.get("mirrors") or []
                kept = mirrors.restored(kind, http.get("mirrors"), mirrored, before)
                fields["mirrors"] = kept
            return fields

        return await self._write(experiment, wanted)

    async def _write(
        self,
        experiment: Experiment,
        wanted: Fields,
        marker: str | None = None,
    ) -> Problem | None:
        route = istio_of(experiment.spec)
        for _ in range(ATTEMPTS):
            found = await self._find(experiment)
            if isinstance(found, Problem):
                return found
            where = f"/spec/http/{found.index}"
            patch = fields_patch(where, found.http, wanted(found.http))
            patch += marker_patch(found.virtual_service, marker)
            if not patch:
                return None
            try:
                await self._api.json_patch(
                    GROUP,
                    VERSION,
                    experiment.namespace,
                    "virtualservices",
                    route.virtual_service,
                    [*same_name(where, route.http_route), *patch],
                )
            except ConflictError:
                continue
            return None
        return Problem(
            "WriteConflict",
            f"VirtualService {route.virtual_service} changed {ATTEMPTS} times while its weights "
            "were written: somebody else writes them all the time; it is tried again",
            bad_input=False,
        )
