"""Rates: what a version's events are held against is its share of the traffic.

A rate names the counter of events only. Given an event, it falls on a version with probability
its share of the split, so the exposure in a poll is that share times the poll's seconds, and the
rate reads as events per second had the version all of the traffic. Where users are the unit, every
hash bucket has the same part of its arm's exposure. A version without any series of the counter
has no exposure: perhaps it is not scraped, and no events are then no good news.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, Unit
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import ExperimentStatus, Memory
from modelexperiment.core.tally import Arm, Arms

# A poll that reaches back to before a change of the split holds requests of both splits, and
# proxies take a moment to get the new one.
SETTLING = timedelta(seconds=5)


def of_one_split(memory: Memory, counted: Counted) -> bool:
    """Whether the whole poll was under the present split."""
    since = memory.split_since
    return since is None or counted.since - since >= SETTLING


def with_exposure(spec: ExperimentSpec, status: ExperimentStatus, counted: Counted) -> Counted:
    """The poll with the exposure of rates, where it does not bring its own.

    In a poll of two splits, or during a rollout, no share is known: its events are not compared.
    """
    own = {metric for (metric, _), increment in counted.increments.items() if increment.n}
    rates = {metric.name for metric in spec.metrics if metric.rate and metric.name not in own}
    if not rates:
        return counted
    # A paused rollout stays at its step's split.
    known = of_one_split(status.memory, counted) and status.rollout is None
    shares = {arm.model_version: arm.percent / 100 for arm in status.memory.split if known}
    seconds = _seconds(spec, status.start_time, counted)
    exposure = {
        (metric, version): share * seconds
        for metric in rates
        for version, share in shares.items()
        if share > 0
    }
    buckets = spec.assignment.buckets if spec.unit is Unit.USER and spec.assignment else 0
    arms = exposed(counted.arms, rates, exposure, buckets)
    return replace(
        counted,
        increments=arms.increments,
        buckets=arms.buckets,
        segments={
            value: exposed(its, rates, exposure, buckets) for value, its in counted.segments.items()
        },
    )


def _seconds(spec: ExperimentSpec, start: datetime | None, counted: Counted) -> float:
    """How long the poll counted; nothing of the washout is counted."""
    since = counted.since if start is None else max(counted.since, start + spec.analysis.washout)
    return max(0.0, (counted.until - since).total_seconds())


def exposed(arms: Arms, rates: set[str], exposure: Mapping[Arm, float], buckets: int) -> Arms:
    """The arms with the exposure of these rates; a rate's arm without one is not compared."""
    increments = {arm: i for arm, i in arms.increments.items() if arm[0] not in rates}
    by_bucket = {arm: b for arm, b in arms.buckets.items() if arm[0] not in rates}
    for arm, n in exposure.items():
        if arm not in arms.increments:
            continue
        increments[arm] = Increment(n, arms.increments[arm].s)
        events = arms.buckets.get(arm)
        if buckets and events is not None:
            by_bucket[arm] = {
                bucket: Increment(n / buckets, events[bucket].s if bucket in events else 0.0)
                for bucket in range(buckets)
            }
    return Arms(increments, by_bucket)
