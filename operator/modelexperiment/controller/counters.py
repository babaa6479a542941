"""Reads what the metrics' counters grew by since the last poll, exactly.

Samples younger than `prometheus_settle` are left for the next poll: a scrape is stored under the
time at which it began, so one that is still under way would later stand before `countedUntil` and
be lost. Where one takes longer than that, the count of all counters waits for it, up to
`prometheus_lateness`.

Guardrails can't wait for that. What is not settled yet is read for them as well, in steps of a
poll; it is judged at once, and again when it is settled, and is part of no total before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from modelexperiment.core import shadow
from modelexperiment.core.counting import (
    CountingError,
    Growth,
    Labels,
    Series,
    growth,
    next_sample,
    watermark,
    without_base,
)
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.measures import Part, cells, guardrail_parts, parts_of, shadow_parts
from modelexperiment.core.safety import counted_until
from modelexperiment.core.snapshot import Counted, Guarded, Problem
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tally import add_up, add_up_segments
from modelexperiment.ports import MetricSource, QueryError, UnavailableError
from modelexperiment.settings import Settings

# What is not settled is read in at most so many steps.
STEPS = 30
# An instance without a sample for so many scrapes has fallen silent.
SILENT = 3.0
# A Prometheus that begins with an empty database has scraped every target once within this time of
# its first sample; a series that it sees for the first time by then is not taken for a new one.
NEW_HISTORY = timedelta(minutes=2)
# How far back, beyond the experiment's start, a series that has been silent is looked for.
SILENCE = timedelta(days=1)


def _seconds(time: datetime) -> float:
    # The status keeps milliseconds, and so must every comparison with a sample's time.
    return round(time.timestamp(), 3)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


@dataclass(frozen=True)
class Span:
    """What is counted: samples in (since, until], seconds since 1970."""

    since: float
    until: float
    start: float
    """When the experiment began."""
    at: float
    """The present, up to which samples are read."""
    probe: bool = False
    """Whether this only looks if there are counters at all, before the experiment starts."""


@dataclass(frozen=True)
class _Seen:
    """The series of one counter."""

    part: Part
    series: Sequence[Series]
    earlier: Mapping[Labels, float]
    """The last value before them, of those that have no sample before the span."""

    def known(self, since: float) -> bool:
        """Whether any series had a sample by then."""
        return bool(self.earlier) or any(
            s.samples and s.samples[0][0] <= since for s in self.series
        )

    def growth(self, span: Span, begins: float | None) -> Growth:
        """What it grew by, by version; ValueError as in `growth`."""
        known_until = -math.inf if begins is None else begins + NEW_HISTORY.total_seconds()
        return growth(
            self.series,
            span.since,
            span.until,
            self.part.labels,
            self.earlier,
            known_until=math.inf if span.probe else known_until,
            strict=span.probe,
        )


@dataclass(frozen=True)
class CounterReader:
    """Reads raw samples through a MetricSource."""

    source: MetricSource
    settings: Settings

    async def read(
        self, experiment: Experiment, status: ExperimentStatus, url: str, at: float
    ) -> Counted | Problem:
        """Count since the last poll; of an experiment that is not on, only look.

        `at` is Prometheus' own time, so that no other clock matters.
        """
        if status.counted_until is None or status.phase.ended:
            window = self.settings.prometheus_lookback.total_seconds()
            return await self._read(experiment, url, Span(at - window, at, at, at, probe=True))
        since = _seconds(status.counted_until)
        until = max(since, at - self.settings.prometheus_settle.total_seconds())
        start = _seconds(status.start_time) if status.start_time else since
        washed = start + experiment.spec.analysis.washout.total_seconds()
        if until <= washed and washed > start:
            # Nothing of the washout is counted; the time moves on without it.
            return Counted(_time(since), _time(until), {}, samples=True)
        counted_before = any(e.champion.samples > 0 for e in status.analysis)
        span = Span(max(since, min(washed, until)), until, start, at)
        lost_at = status.memory.history_lost
        counted = await self._read(experiment, url, span, lost_at, counted_before=counted_before)
        if isinstance(counted, Counted) and span.since != since:
            return replace(counted, since=_time(since), samples=True)
        return counted

    async def read_guarded(
        self, experiment: Experiment, status: ExperimentStatus, url: str, at: float
    ) -> Guarded | Problem | None:
        """Count what statistical guardrails count, up to now; None where there are none."""
        parts = guardrail_parts(experiment.spec)
        if not parts:
            return None
        guarded = counted_until(status)
        if guarded is None or status.phase.ended:
            window = self.settings.prometheus_lookback.total_seconds()
            span = Span(at - window, at, at, at, probe=True)
        else:
            since = _seconds(guarded)
            until = max(since, at - self.settings.prometheus_settle.total_seconds())
            start = _seconds(status.start_time) if status.start_time else since
            span = Span(since, until, start, at)
        try:
            samples = await self._seen(parts, experiment.spec.versions, url, span)
            span = self._held_back(span, samples)
            tested_before = bool(status.memory.guardrail_tests)
            begins = _begins(samples, span, status.memory.history_lost, tested_before)
            counted = _steps(experiment, span, samples, begins)
        except (CountingError, QueryError, UnavailableError) as error:
            return _problem(error)
        if isinstance(counted, Problem):
            return counted
        settled = replace(counted[0], next_sample=_expected(experiment, samples, at))
        return Guarded(settled, tuple(counted[1:]))

    async def read_shadowed(
        self, experiment: Experiment, status: ExperimentStatus, url: str, at: float
    ) -> Counted | Problem | None:
        """Count what was compared of a shadow; None where nothing is, or while it is not on."""
        spec, found = experiment.spec, status.shadow
        counted = shadow.counted_until(spec, status)
        if counted is None or found is None:
            return None
        parts, versions = shadow_parts(spec), [spec.champion_version, found.model_version]
        since = _seconds(counted)
        until = max(since, at - self.settings.prometheus_settle.total_seconds())
        span = Span(since, until, _seconds(found.since), at)
        try:
            seen = await self._seen(parts, versions, url, span)
            span = self._held_back(span, seen)
            begins = _begins(seen, span, status.memory.history_lost, bool(found.comparisons))
            grown = [one.growth(span, begins) for one in seen]
        except (CountingError, QueryError, UnavailableError) as error:
            return _problem(error)
        return _counted(experiment, span, parts, grown, begins, of=found.model_version)

    async def _read(
        self,
        experiment: Experiment,
        url: str,
        span: Span,
        lost_at: datetime | None = None,
        *,
        counted_before: bool = False,
    ) -> Counted | Problem:
        parts = parts_of(experiment.spec)
        try:
            seen = await self._seen(parts, experiment.spec.versions, url, span)
            span = self._held_back(span, seen)
            begins = _begins(seen, span, lost_at, counted_before)
            grown = [one.growth(span, begins) for one in seen]
        except (CountingError, QueryError, UnavailableError) as error:
            return _problem(error)
        counted = _counted(experiment, span, parts, grown, begins)
        if isinstance(counted, Problem):
            return counted
        return replace(
            counted,
            next_sample=_expected(experiment, seen, span.at),
            instances=_instances(seen, span),
        )

    async def _seen(
        self, parts: Sequence[Part], versions: list[str], url: str, span: Span
    ) -> list[_Seen]:
        """All samples of each counter, from before the span to the present.

        Counters whose selectors differ in the name alone are asked for at once.
        """
        window = span.at - span.since
        if not span.probe:
            window += self.settings.prometheus_lookback.total_seconds()
        asked = [part.joined(parts).query(versions, window) for part in parts]
        queries = list(dict.fromkeys(asked))
        answers = await asyncio.gather(*(self.source.samples(url, q, span.at) for q in queries))
        found = dict(zip(queries, answers, strict=True))
        fetches = (
            self._with_earlier(part, found[query], versions, url, span)
            for part, query in zip(parts, asked, strict=True)
        )
        return list(await asyncio.gather(*fetches))

    async def _with_earlier(
        self, part: Part, found: Sequence[Series], versions: list[str], url: str, span: Span
    ) -> _Seen:
        """A counter's series, with the last values of those that have none before the span."""
        series = [one for one in found if part.selects(one.label("__name__"))]
        earlier = {}
        if not span.probe and without_base(series, span.since):
            silence = span.since - span.start + SILENCE.total_seconds()
            last = f"last_over_time({part.query(versions, silence)})"
            earlier = await self.source.last_values(url, last, span.since)
        return _Seen(part, series, earlier)

    def _held_back(self, span: Span, seen: Sequence[_Seen]) -> Span:
        """The span without its end, where samples of it may still be missing.

        All counters share `countedUntil`, so one that is behind holds all of them back.
        """
        if span.probe:
            return span
        series = [one for counter in seen for one in counter.series]
        lateness = self.settings.prometheus_lateness.total_seconds()
        return replace(span, until=watermark(series, span.since, span.until, lateness))


def _problem(error: Exception) -> Problem:
    if isinstance(error, CountingError):
        return Problem("NotACounter", str(error))
    if isinstance(error, QueryError):
        return Problem("BadQuery", str(error))
    return Problem("PrometheusUnreachable", str(error), bad_input=False)


def _begins(
    samples: Sequence[_Seen], span: Span, lost_at: datetime | None, counted_before: bool
) -> float | None:
    """When Prometheus' history begins, where it has lost what it had before; else None.

    It has, where series are there, but none from before the span. The targets are scraped one after
    another, so series of the time before appear for a while after that, `lost_at`, too.
    """
    first = min((s.samples[0][0] for its in samples for s in its.series if s.samples), default=None)
    if counted_before and first is not None and not any(i.known(span.since) for i in samples):
        return first
    if lost_at is not None and _time(span.since) <= lost_at + NEW_HISTORY:
        return _seconds(lost_at)
    return None


def _ends(until: float, at: float, step: float) -> tuple[float, ...]:
    """The ends of steps from `until` to `at`, the last one shorter."""
    number = min(STEPS, max(1, round((at - until) / step)))
    inner = (round(until + step * (k + 1), 3) for k in range(number - 1))
    return (*(end for end in inner if end < at), at) if at > until else ()


def _steps(
    experiment: Experiment, span: Span, samples: Sequence[_Seen], begins: float | None
) -> list[Counted] | Problem:
    """What is settled, and each step after it up to the present."""
    parts, found, since = [its.part for its in samples], [], span.since
    length = experiment.spec.analysis.interval.total_seconds()
    ends = () if span.probe else _ends(span.until, span.at, length)
    for until in (span.until, *ends):
        step = replace(span, since=since, until=until)
        grown = [its.growth(step, begins) for its in samples]
        counted = _counted(experiment, step, parts, grown, begins)
        if isinstance(counted, Problem):
            return counted
        found.append(counted)
        since = until
    return found


def _instances(samples: Sequence[_Seen], span: Span) -> dict[str, tuple[int, int]]:
    """By version, how many scraped instances have fallen silent, and how many there were."""
    every: dict[str, set[str]] = {}
    alive: dict[str, set[str]] = {}
    for its in samples:
        for one in its.series:
            times = [time for time, _ in one.samples]
            if len(times) < 2:
                continue
            version, instance = one.label(its.part.version_label), one.label("instance")
            every.setdefault(version, set()).add(instance)
            if span.at - times[-1] <= SILENT * (times[1] - times[0]):
                alive.setdefault(version, set()).add(instance)
    return {v: (len(known - alive.get(v, set())), len(known)) for v, known in every.items()}


def _expected(
    experiment: Experiment, samples: Sequence[_Seen], at: float
) -> tuple[float, float] | None:
    """When a challenger's next sample is due: a breach shows in its counters first."""
    champion = experiment.spec.champion_version
    return next_sample(
        (s for i in samples for s in i.series if s.label(i.part.version_label) != champion), at
    )


def _counted(
    experiment: Experiment,
    span: Span,
    parts: Sequence[Part],
    grown: Sequence[Growth],
    begins: float | None,
    of: str | None = None,
) -> Counted | Problem:
    """The poll; what is silent is so for the version `of`, by default the champion."""
    pairs = list(zip(parts, grown, strict=True))
    try:
        found, histograms = cells(experiment.spec, [(part, g.by_group) for part, g in pairs])
    except ValueError as why:
        return Problem("NotAHistogram", str(why))
    looked_for = of or experiment.spec.champion_version
    silent = tuple(
        f"{part.field}: {part.selector.select()}"
        for part, growth in pairs
        if not any(values[0] == looked_for for values in growth.by_group)
    )
    arms = add_up(found)
    return Counted(
        since=_time(span.since),
        until=_time(span.until),
        increments=arms.increments,
        buckets=arms.buckets,
        segments=add_up_segments(found),
        histograms=histograms,
        samples=begins is not None or any(v > 0 for g in grown for v in g.by_group.values()),
        resets=() if span.probe else tuple(reset for g in grown for reset in g.resets),
        silent=silent,
        history_lost=None if begins is None else _time(begins),
    )
