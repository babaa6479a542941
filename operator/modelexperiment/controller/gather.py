"""Gathers everything known about an experiment into one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelexperiment.core import lifecycle
from modelexperiment.core.counting import CountingError, Growth, Reset, growth, without_base
from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.measures import Part, guardrail_query, increments, parts_of
from modelexperiment.core.snapshot import Counted, Problem, Reading, Snapshot
from modelexperiment.core.spec import Guardrail, IstioRoute
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.support import unsupported
from modelexperiment.ports import (
    ExperimentStore,
    MetricSource,
    Object,
    QueryError,
    TrafficRouter,
    UnavailableError,
)
from modelexperiment.settings import Settings

# How far back, beyond the experiment's start, a series that has been silent is looked for.
SILENCE = timedelta(days=1)


def _seconds(time: datetime) -> float:
    # The status keeps milliseconds, and so must every comparison with a sample's time.
    return round(time.timestamp(), 3)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


@dataclass(frozen=True)
class Gatherer:
    """Reads route, metrics and guardrails through the ports."""

    store: ExperimentStore
    router: TrafficRouter
    source: MetricSource
    settings: Settings

    async def snapshot(
        self, experiment: Experiment, status: ExperimentStatus, seen: Object, *, poll: bool
    ) -> Snapshot:
        """See the world; the metrics only if a poll is due."""
        now = datetime.now(UTC)
        generation = int(seen["metadata"]["generation"])
        refused = unsupported(experiment.spec)
        if refused and not status.phase.started:
            # Nothing can be read for a spec that is not understood whole.
            return Snapshot(now=now, generation=generation, route=refused, unsupported=refused)
        route = await self.router.read(experiment)
        holder = None
        if not status.phase.started:
            holder = await self._holder(experiment, seen)
        counted: Counted | Problem | None = None
        readings: tuple[Reading, ...] = ()
        restart = status.phase.ended and lifecycle.wants_restart(experiment.spec, status)
        if poll and (not status.phase.ended or restart):
            counted, readings = await self._poll(experiment, status, refused)
        return Snapshot(
            now=now,
            generation=generation,
            route=route,
            unsupported=refused,
            holder=holder,
            counted=counted,
            readings=readings,
        )

    async def _holder(self, experiment: Experiment, seen: Object) -> str | None:
        """Another experiment that has split the same route, or that asked for it earlier."""
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
        if url != own and url not in self.settings.prometheus_allowed_urls:
            raise QueryError(
                f"spec.prometheus.url: {url} is not allowed by the operator's "
                "PROMETHEUS_ALLOWED_URLS"
            )
        return url

    async def _poll(
        self, experiment: Experiment, status: ExperimentStatus, refused: Problem | None
    ) -> tuple[Counted | Problem, tuple[Reading, ...]]:
        try:
            url = self._url(experiment)
            at = await self.source.now(url)
        except QueryError as error:
            return Problem("PrometheusNotAllowed", str(error)), ()
        except UnavailableError as error:
            problem = Problem("PrometheusUnreachable", str(error), bad_input=False)
            return problem, _unreadable(experiment, problem)
        if refused:
            # An edit asked for what is not supported: nothing is counted, but guardrails stay on.
            return refused, await self._readings(experiment, url, at)
        readings, counted = await asyncio.gather(
            self._readings(experiment, url, at), self._count(experiment, status, url, at)
        )
        return counted, readings

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
            return Reading(guardrail.name, version, None, found)
        return Reading(guardrail.name, version, found)

    async def _count(
        self, experiment: Experiment, status: ExperimentStatus, url: str, at: float
    ) -> Counted | Problem:
        spec = experiment.spec
        settled = at - self.settings.prometheus_settle.total_seconds()
        if status.counted_until is None or status.phase.ended:
            since = until = at
        else:
            since = _seconds(status.counted_until)
            until = max(since, settled)
        start = _seconds(status.start_time) if status.start_time else since
        washed = start + spec.analysis.washout.total_seconds()
        counted_before = any(e.champion.samples > 0 for e in status.analysis)
        if status.counted_until and until <= washed:
            # Nothing of the washout is counted; the time moves on without it.
            return Counted(_time(since), _time(until), {}, samples=True)
        span = Span(max(since, min(washed, until)), until, start)
        parts = parts_of(spec)
        try:
            grown = await asyncio.gather(
                *(self._part(experiment, part, url, span) for part in parts)
            )
            lost = counted_before and any(g.series for g, _ in grown)
            lost = lost and not any(g.known for g, _ in grown)
            if lost:
                grown = await asyncio.gather(
                    *(self._part(experiment, part, url, span, lost=True) for part in parts)
                )
        except CountingError as error:
            return Problem("NotACounter", str(error))
        except QueryError as error:
            return Problem("BadQuery", str(error))
        except UnavailableError as error:
            return Problem("PrometheusUnreachable", str(error), bad_input=False)
        return _counted(_time(since), _time(until), experiment, parts, grown, lost)

    async def _part(
        self, experiment: Experiment, part: Part, url: str, span: Span, *, lost: bool = False
    ) -> tuple[Growth, bool]:
        """What one counter grew by, and whether it has any series of the champion's."""
        spec = experiment.spec
        lookback = self.settings.prometheus_lookback.total_seconds()
        window = span.until - span.since + lookback
        query = part.query(spec.versions, window)
        series = await self.source.samples(url, query, span.until)
        earlier = {}
        if without_base(series, span.since):
            silence = span.since - span.start + SILENCE.total_seconds()
            last = f"last_over_time({part.query(spec.versions, silence)})"
            earlier = await self.source.last_values(url, last, span.since)
        found = growth(
            series, span.since, span.until, [part.version_label], earlier, history_lost=lost
        )
        return found, (spec.champion_version,) in found.by_group


@dataclass(frozen=True)
class Span:
    """What is counted: samples in (since, until], seconds since 1970."""

    since: float
    until: float
    start: float


def _bad_query(where: str, error: Exception) -> Problem:
    return Problem("BadQuery", f"{where}: {error}")


def _unreadable(experiment: Experiment, problem: Problem) -> tuple[Reading, ...]:
    return tuple(
        Reading(guardrail.name, version, None, "", problem)
        for guardrail in experiment.spec.guardrails
        for version in experiment.spec.versions
    )


def _counted(
    since: datetime,
    until: datetime,
    experiment: Experiment,
    parts: Sequence[Part],
    grown: Sequence[tuple[Growth, bool]],
    lost: bool,
) -> Counted:
    totals: dict[tuple[str, str, str], float] = {}
    resets: list[Reset] = []
    for part, (found, _) in zip(parts, grown, strict=True):
        resets += found.resets
        for (version,), value in found.by_group.items():
            totals[part.metric, part.letter, version] = value
    silent = tuple(
        f"{part.field}: {part.selector.select()}"
        for part, (_, seen) in zip(parts, grown, strict=True)
        if not seen
    )
    return Counted(
        since=since,
        until=until,
        increments=increments(totals),
        samples=any(value > 0 for value in totals.values()) or lost,
        resets=tuple(resets),
        silent=silent,
        history_lost=lost,
    )


def _route_key(istio: IstioRoute | None) -> tuple[str, str | None] | None:
    return (istio.virtual_service, istio.http_route) if istio else None


def _same_route(other: Object, experiment: Experiment) -> bool:
    try:
        theirs = _route_key(parse_experiment(other).spec.route.istio)
    except ManifestError:
        return False
    ours = _route_key(experiment.spec.route.istio)
    if theirs is None or ours is None or theirs[0] != ours[0]:
        return False
    # Without a name it is the only route that there is.
    return theirs[1] == ours[1] or None in (theirs[1], ours[1])


def _comes_first(other: Object, seen: Object) -> bool:
    """Whether the other has started, or was created earlier."""
    started = bool(other.get("status", {}).get("startTime"))

    def age(item: Object) -> tuple[str, str]:
        return item["metadata"]["creationTimestamp"], item["metadata"]["uid"]

    return started or age(other) < age(seen)
