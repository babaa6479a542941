"""Reads what the metrics' counters grew by since the last poll, exactly.

Samples younger than `prometheus_settle` are left for the next poll: a scrape is stored under the
time at which it began, so one that is still under way would later stand before `countedUntil` and
be lost. Where one takes longer than that, the count of all counters waits for it, up to
`prometheus_lateness`.
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
    watermark,
    without_base,
)
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.measures import Part, cells, parts_of
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tally import add_up, add_up_segments
from modelexperiment.ports import MetricSource, QueryError, UnavailableError
from modelexperiment.settings import Settings

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

    def growth(self, span: Span, lost: bool) -> Growth:
        """What it grew by, by version; ValueError as in `growth`."""
        return growth(
            self.series,
            span.since,
            span.until,
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
        counted = await self._read(experiment, url, span, counted_before=counted_before)
        if isinstance(counted, Counted) and span.since != since:
            return replace(counted, since=_time(since), samples=True)
        return counted

    async def _read(
        self, experiment: Experiment, url: str, span: Span, *, counted_before: bool = False
    ) -> Counted | Problem:
        parts = parts_of(experiment.spec)
        versions = experiment.spec.versions
        try:
            fetches = (self._fetch(part, versions, url, span) for part in parts)
            seen = await asyncio.gather(*fetches)
        except QueryError as error:
            return Problem("BadQuery", str(error))
        except UnavailableError as error:
            return Problem("PrometheusUnreachable", str(error), bad_input=False)
        span = self._held_back(span, seen)
        try:
            grown = [one.growth(span, lost=False) for one in seen]
            known = any(g.known for g in grown)
            lost = counted_before and any(g.series for g in grown) and not known
            if lost:
                grown = [one.growth(span, lost=True) for one in seen]
        except CountingError as error:
            return Problem("NotACounter", str(error))
        return _counted(experiment, span, parts, grown, lost)

    async def _fetch(self, part: Part, versions: list[str], url: str, span: Span) -> _Seen:
        """All samples of one counter, from before the span to the present."""
        window = span.at - span.since
        if not span.probe:
            window += self.settings.prometheus_lookback.total_seconds()
        series = await self.source.samples(url, part.query(versions, window), span.at)
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
