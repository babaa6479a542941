"""Exact counts from raw samples: what each counter grew by in a span of time.

`increase()` extrapolates and drops a new series' first value, so the raw samples are read and
each series is corrected for resets by itself before anything is added up. A poll counts the
samples in (since, until]; the next one goes on from there, so nothing is lost and nothing counts
twice, whatever happened between.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
"""A series' identity: its labels, sorted."""

# A counter falls when its process restarts. One that falls this often within one window of
# samples is not a counter.
NOT_A_COUNTER = 3


# A series' usual gap between scrapes is that of its last few; Prometheus' own default where it has
# a single sample.
RECENT = 6
DEFAULT_GAP = 60.0


class CountingError(ValueError):
    """Samples that can't be counted; the message names the series and what stands there."""


@dataclass(frozen=True)
class Series:
    """Raw samples of one series: (seconds since 1970, value), oldest first."""

    labels: Labels
    samples: Sequence[tuple[float, float]]

    def label(self, name: str) -> str:
        """The value of a label, "" where it has none (as in Prometheus)."""
        return dict(self.labels).get(name, "")

    def __str__(self) -> str:
        labels = dict(self.labels)
        name = labels.pop("__name__", "")
        return name + "{" + ", ".join(f'{k}="{v}"' for k, v in labels.items()) + "}"


@dataclass(frozen=True)
class Reset:
    """A counter that fell, which counts as a restart from zero."""

    series: str
    before: float
    after: float


@dataclass(frozen=True)
class Growth:
    """What counters grew by, by the values of the labels they were grouped by."""

    by_group: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    resets: tuple[Reset, ...] = ()
    series: int = 0
    known: int = 0
    """How many of the series had a sample before the span."""


def without_base(series: Iterable[Series], since: float) -> list[Series]:
    """Give the series that have samples after `since` but none at or before it."""
    return [s for s in series if s.samples and s.samples[0][0] > since]


def watermark(series: Iterable[Series], since: float, until: float, lateness: float) -> float:
    """Give the time in [since, until] up to which no sample can be missing any more.

    A scrape is stored when it ends, under the time at which it began. So one that takes long, or
    that a busy or paused Prometheus stores late, appears at a time that has been counted already:
    it would be the next span's base, and its growth lost. But a target's scrapes are stored in
    order: none before a series' last sample is missing, and one after it may be. The series that
    is furthest behind holds the count back, until its next sample is more than `lateness` seconds
    overdue: by then its target is taken to be gone. `series` holds samples from before `since` to
    the present, which is later than `until`.
    """
    held = until
    for one in series:
        times = [time for time, _ in one.samples[-RECENT:]]
        if times and until <= times[-1] + _usual_gap(times) + lateness:
            held = min(held, times[-1])
    return max(since, held)


def _usual_gap(times: Sequence[float]) -> float:
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return statistics.median_high(gaps) if gaps else DEFAULT_GAP


def next_sample(series: Iterable[Series], at: float) -> tuple[float, float] | None:
    """In how many seconds from `at` the next sample is due, and every how many seconds one is.

    Of the series that was scraped last, at the pace of its last two samples; None where no series
    has two. One that is late is due in less than no time, until half its time has passed again.
    """
    pairs = [(s.samples[-1][0], s.samples[-2][0]) for s in series if len(s.samples) > 1]
    if not pairs:
        return None
    last, before = max(pairs)
    period = last - before
    due = last + period - at
    if due < -period / 2:
        due %= period
    return due, period


def growth(
    series: Iterable[Series],
    since: float,
    until: float,
    group_by: Sequence[str],
    earlier: Mapping[Labels, float],
    *,
    known_until: float = -math.inf,
    strict: bool = False,
) -> Growth:
    """Count what each group's counters grew by in (since, until].

    `series` holds samples from before `since` on; `earlier` the last value before that of series
    that have none there. A series in neither is new and counts from zero, unless its first sample
    is no later than `known_until`: where Prometheus has lost its history, such a series was there
    before, and its first value says nothing about this span. CountingError on a value
    that no counter can have, and where `strict` on a series that falls again and again: once an
    experiment is on, every fall counts as a restart, or the count would stand still.
    """
    totals: dict[tuple[str, ...], float] = defaultdict(float)
    resets: list[Reset] = []
    count = known = 0
    for one in series:
        count += 1
        base = _base(one, since, earlier)
        known += base is not None
        after = [value for time, value in one.samples if since < time <= until]
        _check(one, after if base is None else [base, *after])
        key = tuple(one.label(name) for name in group_by)
        totals[key] += 0.0
        if not after:
            continue
        if base is None:
            base = after[0] if one.samples[0][0] <= known_until else 0.0
        grown, fallen = _climb(one, [base, *after])
        if strict and len(fallen) >= NOT_A_COUNTER:
            raise _not_a_counter(fallen)
        totals[key] += grown
        resets += fallen
    return Growth(dict(totals), tuple(resets), count, known)


def _base(one: Series, since: float, earlier: Mapping[Labels, float]) -> float | None:
    before = [value for time, value in one.samples if time <= since]
    return before[-1] if before else earlier.get(one.labels)


def _check(one: Series, values: Sequence[float]) -> None:
    for value in values:
        if not math.isfinite(value) or value < 0:
            raise CountingError(f"{one} has the value {value:g}, which no counter has")


def _climb(one: Series, values: Sequence[float]) -> tuple[float, list[Reset]]:
    total, resets = 0.0, []
    for before, after in itertools.pairwise(values):
        if after < before:
            resets.append(Reset(str(one), before, after))
            total += after
        else:
            total += after - before
    return total, resets


def _not_a_counter(fallen: Sequence[Reset]) -> CountingError:
    last = fallen[-1]
    return CountingError(
        f"{last.series} fell {len(fallen)} times (last from {last.before:g} to {last.after:g}): "
        "it is not a counter"
    )
