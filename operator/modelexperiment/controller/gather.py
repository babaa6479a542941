"""Gathers everything known about an experiment into one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelexperiment.controller import tracking
from modelexperiment.controller.clock import Clock
from modelexperiment.controller.counters import CounterReader
from modelexperiment.controller.queue import Key
from modelexperiment.controller.watched import Watched
from modelexperiment.core import proof, starting
from modelexperiment.core.addresses import same_address
from modelexperiment.core.alerting import refused_receiver
from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.measures import guardrail_query
from modelexperiment.core.snapshot import (
    Counted,
    Guarded,
    Problem,
    Proof,
    Reading,
    RouteSeen,
    Snapshot,
)
from modelexperiment.core.spec import Guardrail, Route
from modelexperiment.core.status import ExperimentStatus, Phase
from modelexperiment.core.support import unsupported
from modelexperiment.ports import (
    ExperimentStore,
    MetricSource,
    Object,
    Prober,
    QueryError,
    Readiness,
    TrafficRouter,
    UnavailableError,
)
from modelexperiment.settings import Settings


@dataclass(frozen=True)
class Polled:
    """What Prometheus said."""

    counted: Counted | Problem | None = None
    readings: tuple[Reading, ...] = ()
    guarded: Guarded | Problem | None = None
    shadowed: Counted | Problem | None = None
    url: str = ""
    """Where people find it."""


@dataclass(frozen=True)
class Gatherer:
    """Reads route, metrics and guardrails through the ports."""

    store: ExperimentStore
    router: TrafficRouter
    source: MetricSource
    settings: Settings
    prober: Prober | None = None
    readiness: Readiness | None = None
    clock: Clock = field(default_factory=Clock)
    lately: TrafficRouter | None = None
    """Reads the route as it was last heard of, for a poll that may find nothing to do."""
    watched: Watched | None = None
    """Knows who else asks for a route."""

    @property
    def counters(self) -> CounterReader:
        """Who reads the counters."""
        return CounterReader(self.source, self.settings)

    async def snapshot(
        self,
        experiment: Experiment,
        status: ExperimentStatus,
        seen: Object,
        *,
        poll: bool,
        anew: bool = True,
    ) -> Snapshot:
        """See the world; the metrics only if a poll is due.

        `anew` reads the route as it is. So does an experiment that may start: what it finds there
        is what its end restores.
        """
        now = self._now(experiment)
        generation = int(seen["metadata"]["generation"])
        alerts_refused = refused_receiver(experiment.spec, self.settings.alerts_allowed_urls)
        refused = unsupported(experiment.spec)
        if not status.phase.started:
            # Later it is no reason to stop counting: what is not allowed is not called either.
            refused = refused or alerts_refused or tracking.refused(experiment.spec, self.settings)
        if refused and not status.phase.started:
            # Nothing can be read for a spec that is not understood whole.
            return Snapshot(now=now, generation=generation, route=refused, unsupported=refused)
        router = None if anew or not status.phase.started else self.lately
        route = await (router or self.router).read(experiment)
        not_ready, readiness_error = await self._not_ready(experiment, status)
        holder = None
        if not status.phase.started and (anew or not self._alone(experiment)):
            holder = await self.holder(experiment, seen)
        polled = Polled()
        restart = status.phase.ended and starting.wants_restart(experiment.spec, status)
        proven: Proof | Problem | None = None
        if poll and (not status.phase.ended or restart):
            polled, proven = await asyncio.gather(
                self._poll(experiment, status, refused), self._prove(experiment, status, route, now)
            )
        return Snapshot(
            # A poll may have heard what time it is.
            now=self._now(experiment),
            generation=generation,
            route=route,
            unsupported=refused,
            alerts_refused=alerts_refused,
            holder=holder,
            counted=polled.counted,
            readings=polled.readings,
            guarded=polled.guarded,
            shadowed=polled.shadowed,
            prometheus=polled.url,
            proof=proven,
            not_ready=not_ready,
            readiness_error=readiness_error,
        )

    async def _not_ready(
        self, experiment: Experiment, status: ExperimentStatus
    ) -> tuple[Mapping[str, str], str]:
        """Why versions are not ready; and what kept it from being read, so that it stays as it was.

        Guardrails must go on without it.
        """
        if self.readiness is None:
            return {}, ""
        try:
            return await self.readiness.not_ready(experiment), ""
        except UnavailableError as error:
            last = dict.fromkeys(status.memory.not_ready, "it was not when it was last seen")
            return last, str(error)

    async def _prove(
        self,
        experiment: Experiment,
        status: ExperimentStatus,
        route: RouteSeen | Problem,
        now: datetime,
    ) -> Proof | Problem | None:
        """Ask the proxy as some users, where the route as it stands has no proof that holds."""
        assignment, users = experiment.spec.assignment, status.assignment
        if not (assignment and assignment.probe and users and self.prober):
            return None
        if isinstance(route, Problem) or not (route.sticky and route.segments):
            return None
        if not proof.due(users, route.segments, status.memory, now):
            return None
        url = assignment.probe.url
        allowed = self.settings.probe_allowed_urls
        if not any(url == one or url.startswith((f"{one}/", f"{one}?")) for one in allowed):
            text = (
                f"spec.assignment.probe.url: {url} is not allowed by the operator's "
                "PROBE_ALLOWED_URLS"
            )
            return Problem("ProbeNotAllowed", text)
        expected = proof.questions(experiment, route.segments)
        try:
            answers = await self.prober.ask(assignment, list(expected), proof.REPEATS)
        except UnavailableError as error:
            return Problem("ProbeFailed", f"spec.assignment.probe: {error}", bad_input=False)
        return proof.judge(proof.route_id(users.drawn_by, route.segments), expected, answers)

    def _alone(self, experiment: Experiment) -> bool:
        key = Key(experiment.namespace, experiment.name)
        return self.watched is not None and self.watched.alone(key)

    async def holder(self, experiment: Experiment, seen: Object) -> str | None:
        """Another experiment that has split the same route, or that asked for it earlier.

        All of the namespace are read for that, which is too much while an experiment waits for
        something else: then the watch tells whether there is another. Whoever starts asks here.
        """
        for other in await self.store.list(experiment.namespace):
            if other["metadata"]["uid"] == seen["metadata"]["uid"]:
                continue
            if _same_route(other, experiment) and _comes_first(other, seen):
                return str(other["metadata"]["name"])
        return None

    def _url(self, experiment: Experiment) -> str:
        own = self.settings.prometheus_url
        wanted = experiment.spec.prometheus
        url = wanted.url.rstrip("/") if wanted else own
        if not url:
            raise QueryError("the operator has no Prometheus: set PROMETHEUS_URL")
        for entry in (own, *self.settings.prometheus_allowed_urls):
            if url == entry or same_address(url, entry):
                return entry
        raise QueryError(
            f"spec.prometheus.url: {url} is not allowed by the operator's PROMETHEUS_ALLOWED_URLS"
        )

    def _now(self, experiment: Experiment) -> datetime:
        """The present, by the experiment's Prometheus where it has one."""
        try:
            return self.clock.now(self._url(experiment))
        except QueryError:
            return self.clock.now(None)

    async def _poll(
        self, experiment: Experiment, status: ExperimentStatus, refused: Problem | None
    ) -> Polled:
        try:
            url = self._url(experiment)
            at = await self.source.now(url)
            self.clock.heard(url, at)
        except QueryError as error:
            # Guardrails that nobody reads must not keep on passing: guardrailTimeout runs.
            problem = Problem("PrometheusNotAllowed", str(error))
            return Polled(problem, _unreadable(experiment, problem), problem, problem)
        except UnavailableError as error:
            problem = Problem("PrometheusUnreachable", str(error), bad_input=False)
            return Polled(problem, _unreadable(experiment, problem), problem, problem)
        shown = self._shown(url)
        if refused:
            # An edit asked for what is not supported: nothing is counted, but guardrails stay on.
            readings = await self._readings(experiment, url, at)
            return Polled(refused, readings, None, refused, shown)
        readings, guarded, counted, shadowed = await asyncio.gather(
            self._readings(experiment, url, at),
            self.counters.read_guarded(experiment, status, url, at),
            self.counters.read(experiment, status, url, at),
            self.counters.read_shadowed(experiment, status, url, at),
        )
        return Polled(counted, readings, guarded, shadowed, shown)

    def _shown(self, url: str) -> str:
        """Where people find a Prometheus that the operator reads."""
        own = url == self.settings.prometheus_url
        return (self.settings.prometheus_external_url if own else "") or url

    async def _readings(self, experiment: Experiment, url: str, at: float) -> tuple[Reading, ...]:
        wanted = [
            self._reading(experiment, guardrail, version, url, at)
            for guardrail in experiment.spec.guardrails
            if guardrail.query is not None
            for version in experiment.spec.versions
        ]
        return tuple(await asyncio.gather(*wanted))

    async def _reading(
        self, experiment: Experiment, guardrail: Guardrail, version: str, url: str, at: float
    ) -> Reading:
        where = f"spec.guardrails[{guardrail.name}].query"
        try:
            query = guardrail_query(guardrail.query or "", version, experiment.namespace)
            found = await self.source.number(url, query, at)
        except (QueryError, ValueError) as error:
            return Reading(guardrail.name, version, None, "", _bad_query(where, error))
        except UnavailableError as error:
            problem = Problem("PrometheusUnreachable", str(error), bad_input=False)
            return Reading(guardrail.name, version, None, "", problem)
        if isinstance(found, str):
            return Reading(guardrail.name, version, None, found, query=query)
        return Reading(guardrail.name, version, found, query=query)


def _bad_query(where: str, error: Exception) -> Problem:
    return Problem("BadQuery", f"{where}: {error}")


def _unreadable(experiment: Experiment, problem: Problem) -> tuple[Reading, ...]:
    return tuple(
        Reading(guardrail.name, version, None, "", problem)
        for guardrail in experiment.spec.guardrails
        for version in experiment.spec.versions
    )


def _route_key(route: Route) -> tuple[str, str, str | None]:
    """Kind and name of the object, and the name of the one route or rule in it."""
    if route.istio:
        return "VirtualService", route.istio.virtual_service, route.istio.http_route
    assert route.gateway_api is not None
    return "HTTPRoute", route.gateway_api.http_route, route.gateway_api.rule


def _same_route(other: Object, experiment: Experiment) -> bool:
    *ours, part = _route_key(experiment.spec.route)
    if str(ours[1]) not in str((other.get("spec") or {}).get("route")):
        # To read a spec takes a hundred times as long, and a namespace may hold hundreds.
        return False
    try:
        *theirs, their_part = _route_key(parse_experiment(other).spec.route)
    except ManifestError:
        return False
    # Without a name it is the only route that there is.
    return theirs == ours and (their_part == part or None in (their_part, part))


def _comes_first(other: Object, seen: Object) -> bool:
    """Whether the other has started, or was created earlier."""
    started = other.get("status", {}).get("phase", Phase.PENDING) != Phase.PENDING

    def age(item: Object) -> tuple[str, str]:
        return item["metadata"]["creationTimestamp"], item["metadata"]["uid"]

    return started or age(other) < age(seen)
