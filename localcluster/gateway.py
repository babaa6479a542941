"""A real Envoy that istiod configures as a gateway, and what Envoy itself says it routes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .web import get_json, wait_until


@dataclass(frozen=True)
class Gateway:
    """A running Envoy.

    ``port`` is to be used as the port of the servers in an Istio ``Gateway`` or of the listeners in
    a Gateway API ``Gateway``; ``url`` is then where requests go. ``address`` is the identity of the
    proxy in istiod's eyes. ``part`` is its name for ``Cluster.kill`` and the like.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    address: str
    port: int
    admin_port: int
    _stop: Callable[[], None] = field(repr=False, compare=False)

    @property
    def part(self) -> str:
        """The name of its process."""
        return part_name(self.name, self.namespace)

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Envoy's admin interface."""
        return f"http://127.0.0.1:{self.admin_port}"

    def stop(self) -> None:
        """End this Envoy."""
        self._stop()

    def route(self, route_name: str) -> dict[str, Any] | None:
        """The one route of that name in Envoy's own configuration, or None.

        Where several virtual hosts hold a route of the name, it is the first in Envoy's order.
        """
        return find_route(get_json(f"{self.admin_url}/config_dump"), route_name)

    def route_segments(self, route_name: str) -> list[tuple[str, int]]:
        """The weighted clusters of a route in Envoy's order, as (subset or cluster, weight)."""
        route = self.route(route_name)
        return [] if route is None else weighted_segments(route)

    def route_weights(self, route_name: str) -> dict[str, int]:
        """The weight of each subset of a route; empty where Envoy has no such route.

        A cluster without a subset goes by its host, and one that stands several times is summed.
        """
        return sum_segments(self.route_segments(route_name))

    def wait_for_weights(
        self, route_name: str, expected: Mapping[str, int], timeout: float = 15.0
    ) -> None:
        """Wait until Envoy listens and splits as expected: 90/10 equals 9000/1000.

        Raises ClusterError with the last weights seen after ``timeout`` seconds.
        """

        def seen() -> str:
            listening = "listens" if self.listens() else "does not listen"
            return f"it {listening} on port {self.port}, with {self.route_weights(route_name)}"

        wait_until(
            lambda: same_split(self.route_weights(route_name), expected) and self.listens(),
            lambda: f"{route_name} at {dict(expected)}; {seen()}",
            timeout,
        )

    def listens(self) -> bool:
        """Whether Envoy accepts connections on ``port``, which istiod tells it to do."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False


def part_name(name: str, namespace: str) -> str:
    """The process name of a gateway."""
    return f"gateway-{namespace}-{name}"


def find_route(dump: Mapping[str, Any], route_name: str) -> dict[str, Any] | None:
    """The first route of a name in Envoy's whole configuration dump.

    Not ``?resource=dynamic_route_configs``: that is an error as long as Envoy has no route at all.
    """
    for section in dump["configs"]:
        for entry in section.get("dynamic_route_configs", []):
            for host in entry["route_config"].get("virtual_hosts", []):
                for route in host.get("routes", []):
                    if route.get("name") == route_name:
                        return dict(route)
    return None


def weighted_segments(route: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(subset or cluster, weight) of a route; a route to one cluster has the weight 100."""
    action = route.get("route", {})
    if "cluster" in action:
        return [(destination_name(action["cluster"]), 100)]
    clusters = action.get("weighted_clusters", {}).get("clusters", [])
    return [(destination_name(entry["name"]), entry.get("weight", 0)) for entry in clusters]


def destination_name(cluster: str) -> str:
    """The subset in Istio's cluster name ``outbound|PORT|SUBSET|HOST``, or the host without one."""
    match cluster.split("|"):
        case [_, _, "", host]:
            return host
        case [_, _, subset, _]:
            return subset
        case _:
            return cluster


def sum_segments(segments: list[tuple[str, int]]) -> dict[str, int]:
    """The weight of each destination."""
    weights: dict[str, int] = {}
    for destination, weight in segments:
        weights[destination] = weights.get(destination, 0) + weight
    return weights


def same_split(left: Mapping[str, int], right: Mapping[str, int]) -> bool:
    """Whether two weightings give every destination the same share; weights of 0 don't count."""
    total_left, total_right = sum(left.values()), sum(right.values())
    if not total_left or not total_right:
        return total_left == total_right
    return all(
        left.get(name, 0) * total_right == right.get(name, 0) * total_left
        for name in left.keys() | right.keys()
    )
