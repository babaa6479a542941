"""The Gateway API's router: reads and writes one rule of an HTTPRoute.

It is written by a JSON patch that first tests that the rule's fields are still what was seen. What
was written is in force once the Gateway's controller has accepted that very generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelexperiment.adapters import mirrors
from modelexperiment.adapters.envoy_filter import EnvoyFilters, Place, says
from modelexperiment.adapters.gateway_api import (
    GROUP,
    MOST_FILTERS,
    PLURAL,
    VERSION,
    backends,
    find_rule,
    gateway_api_of,
    mirror_kind,
    not_in_force,
    ref_to,
    refs_for,
    split_of,
    table_refs,
    table_segments,
)
from modelexperiment.adapters.gateway_api_table import without_stamps
from modelexperiment.adapters.gateway_api_users import GatewayApiUsers
from modelexperiment.adapters.json_patch import fields_patch, same_name
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.rollback_marker import marker_of, marker_patch
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.ports import ConflictError

ATTEMPTS = 5

Rule = Mapping[str, Any]
Found = tuple[Mapping[str, Any], int, Rule]
"""An HTTPRoute, and the index and the content of its rule."""


class GatewayApiRouter:
    """A TrafficRouter for HTTPRoutes."""

    def __init__(
        self, api: Api, filters: EnvoyFilters | None = None, namespaces: Sequence[str] = ()
    ) -> None:
        self._api = api
        self._filters = filters or EnvoyFilters(api)
        self._users = GatewayApiUsers(api, namespaces, self._filters.namespace)

    async def read(self, experiment: Experiment) -> RouteSeen | Problem:
        """The rule as it is now, or what is wrong with it or its backends."""
        spec = experiment.spec
        found = await self._find(experiment)
        if isinstance(found, Problem):
            return found
        http_route, _, rule = found
        refs, filters = rule["backendRefs"], rule.get("filters") or []
        missing = await self._missing_backend(experiment, refs)
        if missing:
            return missing
        kind = mirror_kind(refs, spec)
        mirrored = [entry for entry in filters if kind.target(entry) is not None]
        seen = RouteSeen(
            split_of(refs, spec),
            {"backendRefs": refs, **({"mirrors": mirrored} if mirrored else {})},
            mirrors=mirrors.percents(kind, filters),
            pending=not_in_force(http_route),
            marker=marker_of(http_route),
        )
        return await self._with_users(experiment, seen, found)

    async def _with_users(self, experiment: Experiment, seen: RouteSeen, found: Found) -> RouteSeen:
        """What was seen of the rule, with what it says of users."""
        there = await self._filters.seen(experiment)
        unlike = None if there else False
        if experiment.spec.assignment is None:
            return replace(seen, sticky=unlike)
        segments = table_segments(found[2]["backendRefs"], experiment.spec)
        places = await self._places(experiment, found, there)
        if isinstance(places, Problem):
            return replace(seen, segments=segments, sticky=unlike, unsticky=places)
        right = there and says(there, self._filters.wanted(experiment, places))
        return replace(seen, segments=segments, sticky=True if right else unlike)

    async def _places(
        self, experiment: Experiment, found: Found, there: Mapping[str, Any] | None
    ) -> set[Place] | Problem:
        """Where the rule stands in the proxies; or why users can't be kept on it."""
        http_route, index, _ = found
        places = await self._users.places(http_route, index)
        if isinstance(places, Problem):
            return places
        # A new place is looked at in all namespaces; that is too much for every poll.
        new = there is None or not says(there, self._filters.wanted(experiment, places))
        return await self._users.collision(http_route, places, everywhere=new) or places

    async def _find(self, experiment: Experiment) -> Found | Problem:
        route = gateway_api_of(experiment.spec)
        try:
            found = await self._api.get(
                GROUP, VERSION, experiment.namespace, PLURAL, route.http_route
            )
        except NotFoundError:
            return Problem(
                "HTTPRouteNotFound",
                f"spec.route.gatewayAPI.httpRoute: there is no HTTPRoute "
                f"{experiment.namespace}/{route.http_route}",
            )
        index = find_rule(found, route)
        if isinstance(index, Problem):
            return index
        rule = found["spec"]["rules"][index]
        if not rule.get("backendRefs"):
            return Problem(
                "RouteNotFound",
                f"rule {rule.get('name', index)} of HTTPRoute {route.http_route} redirects or "
                "has no backendRefs: there is nothing to split",
            )
        return found, index, rule

    async def _missing_backend(
        self, experiment: Experiment, refs: Sequence[Mapping[str, Any]]
    ) -> Problem | None:
        """Whether a Service, or its port, is missing.

        Backends of another kind, or of another namespace, are not the operator's to see; the
        route's own status tells of those once they are in it.
        """
        wanted = backends(experiment.spec)
        asked = [
            self._missing_service(experiment, field, ref_to(name, refs, experiment.spec))
            for field, name in wanted.items()
        ]
        return next((found for found in await asyncio.gather(*asked) if found), None)

    async def _missing_service(
        self, experiment: Experiment, field: str, ref: Mapping[str, Any]
    ) -> Problem | None:
        namespace, name = experiment.namespace, ref["name"]
        plain = not ref.get("group") and ref.get("kind", "Service") == "Service"
        if not plain or ref.get("namespace", namespace) != namespace:
            return None
        try:
            _, ports = await self._api.service(namespace, name)
        except NotFoundError:
            return Problem(
                "DestinationNotFound", f"{field}: there is no Service {name} in {namespace}"
            )
        port = ref.get("port")
        if port in ports:
            return None
        return Problem(
            "DestinationNotFound",
            f"{field}: Service {name} in {namespace} has no port {port}; it has "
            f"{', '.join(map(str, ports)) or 'none'}",
        )

    async def apply(self, experiment: Experiment, routing: Routing) -> Problem | None:
        """Write into the rule what it is to say; None once that is in force.

        The backends come first: a filter that finds a single one breaks the route. Without its
        places no filter is left to stand, and the weights are right all the same.
        """
        spec, table = experiment.spec, routing.table
        # With a table the weights, which may be a rollback's, wait for nothing else.
        there = None if table is not None else await self._filters.seen(experiment)

        def split(refs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
            # Stamps are ours to take away only where there was a table before.
            bare = [without_stamps(ref) for ref in refs] if there else refs
            if table is not None:
                return table_refs(table, bare, spec)
            return refs_for(routing.split, bare, spec)

        def wanted(rule: Rule) -> dict[str, Any]:
            refs = rule["backendRefs"]
            fields: dict[str, Any] = {"backendRefs": split(refs)}
            if routing.mirror or routing.retired:
                kind = mirror_kind(refs, spec)
                fields["filters"] = mirrors.routed(kind, rule.get("filters"), routing)
            return fields

        problem = await self._write(experiment, wanted, routing.marker)
        if problem and problem.reason not in _WRITTEN:
            return problem
        if table is not None:
            return await self._keep_users(experiment) or problem
        if there:
            await self._filters.remove(experiment)
        return problem

    async def _keep_users(self, experiment: Experiment) -> Problem | None:
        there = await self._filters.seen(experiment)
        found = await self._find(experiment)
        if isinstance(found, Problem):
            return found
        places = await self._places(experiment, found, there)
        if isinstance(places, Problem):
            await self._filters.remove(experiment)
            return places
        return await self._filters.put(experiment, places)

    async def restore(
        self, experiment: Experiment, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        """Put the original backends back; None once they are there, or nothing is.

        The filter goes first: the original may have a single backend.
        """
        await self._filters.remove(experiment)

        def wanted(rule: Rule) -> dict[str, Any]:
            fields: dict[str, Any] = {"backendRefs": original["backendRefs"]}
            if mirrored:
                kind = mirror_kind(rule["backendRefs"], experiment.spec)
                before = original.get("mirrors") or []
                fields["filters"] = mirrors.restored(kind, rule.get("filters"), mirrored, before)
            return fields

        problem = await self._write(experiment, wanted)
        # Whether a Gateway takes it is no longer this experiment's business.
        return None if problem and problem.reason in _WRITTEN else problem

    async def _write(
        self,
        experiment: Experiment,
        wanted: Callable[[Rule], dict[str, Any]],
        marker: str | None = None,
    ) -> Problem | None:
        route, why = gateway_api_of(experiment.spec), ""
        for _ in range(ATTEMPTS):
            found = await self._find(experiment)
            if isinstance(found, Problem):
                return found
            http_route, index, rule = found
            new, where = wanted(rule), f"/spec/rules/{index}"
            if len(new.get("filters") or []) > MOST_FILTERS:
                return _no_room(route.http_route)
            patch = fields_patch(where, rule, new) + marker_patch(http_route, marker)
            if not patch:
                return not_in_force(http_route)
            try:
                written = await self._api.json_patch(
                    GROUP,
                    VERSION,
                    experiment.namespace,
                    PLURAL,
                    route.http_route,
                    [*same_name(where, route.rule), *patch],
                )
            except ConflictError as error:
                why = str(error)
                continue
            return not_in_force(written)
        return Problem(
            "WriteConflict",
            f"HTTPRoute {route.http_route} could not be written {ATTEMPTS} times, since somebody "
            f"else writes it all the time or it is not valid; it is tried again; last: {why}",
            bad_input=False,
        )


_WRITTEN = ("NotYetObserved", "NotAccepted", "RefsNotResolved")
"""What is said of a route that has been written."""


def _no_room(name: str) -> Problem:
    return Problem(
        "TooManyFilters",
        f"spec.shadow: a mirror is one more filter, and the rule of HTTPRoute {name} has the "
        f"{MOST_FILTERS} that it may have already",
    )
