"""The router of all kinds of routes: the one of the experiment's kind does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelexperiment.core.manifest import Experiment
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.ports import TrafficRouter


@dataclass(frozen=True)
class RouterByKind:
    """A TrafficRouter for experiments on any kind of route."""

    istio: TrafficRouter
    gateway_api: TrafficRouter

    def _of(self, experiment: Experiment) -> TrafficRouter:
        return self.istio if experiment.spec.route.istio else self.gateway_api

    async def read(self, experiment: Experiment) -> RouteSeen | Problem:
        """The route as it is now, or what is wrong with it or its destinations."""
        return await self._of(experiment).read(experiment)

    async def apply(self, experiment: Experiment, routing: Routing) -> Problem | None:
        """Write into the route what it is to say; None once it is there."""
        return await self._of(experiment).apply(experiment, routing)

    async def restore(
        self, experiment: Experiment, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        """Put the original route back; None once it is there, or nothing is."""
        return await self._of(experiment).restore(experiment, original, mirrored)
