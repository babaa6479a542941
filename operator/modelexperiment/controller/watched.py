"""Which experiments hang on which routes, so that an edit of a route finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelexperiment.controller.queue import Key

VIRTUAL_SERVICE, HTTP_ROUTE = "VirtualService", "HTTPRoute"


# Of each of a parent's conditions.
_SAID = ("type", "status", "reason", "observedGeneration")


class Route(NamedTuple):
    """An object that holds routes."""

    kind: str
    namespace: str
    name: str


@dataclass
class Watched:
    """The routes that experiments ask for, and what was last seen of those with a status."""

    routes: dict[Key, Route] = field(default_factory=dict)
    _by_route: dict[Route, dict[Key, None]] = field(default_factory=dict)
    _seen: dict[Route, object] = field(default_factory=dict)

    def put(self, experiment: Key, spec: Mapping[str, Any]) -> None:
        """Remember an experiment's route."""
        route = _route_of(experiment.namespace, spec.get("route") or {})
        if route != self.routes.get(experiment):
            self.drop(experiment)
        if route is not None:
            self.routes[experiment] = route
            self._by_route.setdefault(route, {})[experiment] = None

    def drop(self, experiment: Key) -> None:
        """Forget an experiment, and its route where no other hangs on it."""
        route = self.routes.pop(experiment, None)
        if route is None:
            return
        del self._by_route[route][experiment]
        if not self._by_route[route]:
            del self._by_route[route]
            self._seen.pop(route, None)

    def alone(self, experiment: Key) -> bool:
        """Whether no other experiment was seen to ask for an experiment's route."""
        route = self.routes.get(experiment)
        return route is not None and len(self._by_route[route]) == 1

    def of(self, route: Route) -> list[Key]:
        """The experiments that ask for a route."""
        return list(self._by_route.get(route, ()))

    def woken_by(self, route: Route, event: str | None, body: Mapping[str, Any]) -> list[Key]:
        """The experiments that an event of a route with a status is any news to.

        Controllers may write such a status again and again: news is only another spec, and what
        says whether the spec is in force.
        """
        keys = self.of(route)
        if not keys:
            return []
        if event == "DELETED":
            self._seen.pop(route, None)
            return keys
        now = _essence(body)
        if self._seen.get(route) == now:
            return []
        self._seen[route] = now
        return keys


def _route_of(namespace: str, route: Mapping[str, Any]) -> Route | None:
    if name := (route.get("istio") or {}).get("virtualService"):
        return Route(VIRTUAL_SERVICE, namespace, str(name))
    if name := (route.get("gatewayAPI") or {}).get("httpRoute"):
        return Route(HTTP_ROUTE, namespace, str(name))
    return None


def _essence(body: Mapping[str, Any]) -> object:
    parents = (body.get("status") or {}).get("parents") or []
    said = [
        (str(parent.get("parentRef")), *(c.get(name) for name in _SAID))
        for parent in parents
        for c in parent.get("conditions") or []
    ]
    return body["metadata"].get("uid"), body["metadata"].get("generation"), said
