"""Reads what the metrics' counters grew by since the last poll, exactly.

Samples younger than `prometheus_settle` are left for the next poll: a scrape is stored under the
time at which it began, so one that is still under way would later stand before `countedUntil` and
be lost.

Guardrails can't wait for that. What is not settled yet is read for them as well, in steps of a
poll; it is judged at once, and again when it is settled, and is part of no total before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from modelexperiment.core.counting import (
    CountingError,
    Growth,
    Labels,
    Series,
    growth,
    next_sample,
    without_base,
)
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.measures import Part, cells, guardrail_parts, parts_of
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
    probe: bool = False
    """Whether this only looks if there are counters at all, before the experiment starts."""
    ends: tuple[float, ...] = ()
    """Where the steps after `until` end, that are not settled yet."""

    @property
    def last(self) -> float:
        """The end of everything that is read."""
        return self.ends[-1] if self.ends else self.until


@dataclass(frozen=True)
class Samples:
    """The raw samples of one counter."""

    part: Part
    series: Sequence[Series]
    earlier: Mapping[Labels, float]

    def known(self, since: float) -> bool:
        """Whether any series had a sample by then."""
        return bool(self.earlier) or any(
            s.samples and s.samples[0][0] <= since for s in self.series
        )

    def growth(self, span: Span, since: float, until: float, *, lost: bool) -> Growth:
        """What it grew by in (since, until]."""
        return growth(
            self.series,
            since,
            until,
            self.part.labels,
            self.earlier,
            history_lost=lost or span.probe,
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
            return await self._read(experiment, url, Span(at - window, at, at, probe=True), at)
        since = _seconds(status.counted_until)
        until = max(since, at - self.settings.prometheus_settle.total_seconds())
        start = _seconds(status.start_time) if status.start_time else since
        washed = start + experiment.spec.analysis.washout.total_seconds()
        if until <= washed and washed > start:
            # Nothing of the washout is counted; the time moves on without it.
            return Counted(_time(since), _time(until), {}, samples=True)
        counted_before = any(e.champion.samples > 0 for e in status.analysis)
        span = Span(max(since, min(washed, until)), until, start)
        counted = await self._read(experiment, url, span, at, counted_before=counted_before)
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
            span = Span(at - window, at, at, probe=True)
        else:
            since = _seconds(guarded)
            until = max(since, at - self.settings.prometheus_settle.total_seconds())
            step = experiment.spec.analysis.interval.total_seconds()
            start = _seconds(status.start_time) if status.start_time else since
            span = Span(since, until, start, ends=_ends(until, at, step))
        try:
            samples = await self._samples(experiment, parts, url, span)
            lost = bool(status.memory.guardrail_tests) and _lost(samples, span)
            counted = _steps(experiment, span, samples, lost)
        except (CountingError, QueryError, UnavailableError) as error:
            return _problem(error)
        if isinstance(counted, Problem):
            return counted
        settled = replace(counted[0], next_sample=_expected(experiment, samples, at))
        return Guarded(settled, tuple(counted[1:]))

    async def _read(
        self,
        experiment: Experiment,
        url: str,
        span: Span,
        at: float,
        *,
        counted_before: bool = False,
    ) -> Counted | Problem:
        try:
            samples = await self._samples(experiment, parts_of(experiment.spec), url, span)
            lost = counted_before and _lost(samples, span)
            grown = [its.growth(span, span.since, span.until, lost=lost) for its in samples]
        except (CountingError, QueryError, UnavailableError) as error:
            return _problem(error)
        counted = _counted(experiment, span, [its.part for its in samples], grown, lost)
        if isinstance(counted, Problem):
            return counted
        return replace(
            counted,
            next_sample=_expected(experiment, samples, at),
            instances=_instances(samples, span),
        )

    async def _samples(
        self, experiment: Experiment, parts: Sequence[Part], url: str, span: Span
    ) -> list[Samples]:
        return list(
            await asyncio.gather(*(self._part(experiment, part, url, span) for part in parts))
        )

    async def _part(self, experiment: Experiment, part: Part, url: str, span: Span) -> Samples:
        """The samples of one counter's series."""
        versions = experiment.spec.versions
        window = span.last - span.since
        if not span.probe:
            window += self.settings.prometheus_lookback.total_seconds()
        series = await self.source.samples(url, part.query(versions, window), span.last)
        earlier: Mapping[Labels, float] = {}
        if not span.probe and without_base(series, span.since):
            silence = span.since - span.start + SILENCE.total_seconds()
            last = f"last_over_time({part.query(versions, silence)})"
            earlier = await self.source.last_values(url, last, span.since)
        return Samples(part, series, earlier)


def _problem(error: Exception) -> Problem:
    if isinstance(error, CountingError):
        return Problem("NotACounter", str(error))
    if isinstance(error, QueryError):
        return Problem("BadQuery", str(error))
    return Problem("PrometheusUnreachable", str(error), bad_input=False)


def _lost(samples: Sequence[Samples], span: Span) -> bool:
    """Whether Prometheus has lost what it had before: series are there, but none from then."""
    there = any(its.series for its in samples)
    return there and not any(its.known(span.since) for its in samples)


def _ends(until: float, at: float, step: float) -> tuple[float, ...]:
    """The ends of steps from `until` to `at`, the last one shorter."""
    number = min(STEPS, max(1, round((at - until) / step)))
    inner = (round(until + step * (k + 1), 3) for k in range(number - 1))
    return (*(end for end in inner if end < at), at) if at > until else ()


def _steps(
    experiment: Experiment, span: Span, samples: Sequence[Samples], lost: bool
) -> list[Counted] | Problem:
    """What is settled, and each step after it."""
    parts, found, since = [its.part for its in samples], [], span.since
    for until in (span.until, *span.ends):
        grown = [its.growth(span, since, until, lost=lost) for its in samples]
        step = replace(span, since=since, until=until)
        counted = _counted(experiment, step, parts, grown, lost)
        if isinstance(counted, Problem):
            return counted
        found.append(counted)
        since = until
    return found


def _instances(samples: Sequence[Samples], span: Span) -> dict[str, tuple[int, int]]:
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
            if span.until - times[-1] <= SILENT * (times[1] - times[0]):
                alive.setdefault(version, set()).add(instance)
    return {v: (len(known - alive.get(v, set())), len(known)) for v, known in every.items()}


def _expected(
    experiment: Experiment, samples: Sequence[Samples], at: float
) -> tuple[float, float] | None:
    """When a challenger's next sample is due: a breach shows in its counters first."""
    champion = experiment.spec.champion_version
    return next_sample(
        (s for i in samples for s in i.series if s.label(i.part.version_label) != champion), at
    )


def _counted(
    experiment: Experiment, span: Span, parts: Sequence[Part], grown: Sequence[Growth], lost: bool
) -> Counted | Problem:
    pairs = list(zip(parts, grown, strict=True))
    try:
        found, histograms = cells(experiment.spec, [(part, g.by_group) for part, g in pairs])
    except ValueError as why:
        return Problem("NotAHistogram", str(why))
    champion = experiment.spec.champion_version
    silent = tuple(
        f"{part.field}: {part.selector.select()}"
        for part, growth in pairs
        if not any(values[0] == champion for values in growth.by_group)
    )
    arms = add_up(found)
    return Counted(
        since=_time(span.since),
        until=_time(span.until),
        increments=arms.increments,
        buckets=arms.buckets,
        segments=add_up_segments(found),
        histograms=histograms,
        samples=lost or any(value > 0 for g in grown for value in g.by_group.values()),
        resets=() if span.probe else tuple(reset for g in grown for reset in g.resets),
        silent=silent,
        history_lost=lost,
    )
