"""What is measured, and the bounds that no version may break."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelexperiment.core.fields import (
    Duration,
    ItemName,
    LabelName,
    Model,
    Probability,
    Query,
    Rule,
    Url,
    exactly_one,
    parse_duration,
)


class Prometheus(Model):
    """Where the metrics are read."""

    url: Url
    """Base URL of the Prometheus API. Others than the operator's own only where it allows them."""


class Proportion(Model):
    """Successes among trials, each a selector of counters."""

    successes: Query
    """Selector of the counters of successes, for example fraud_correct_total{job="fraud"}."""
    trials: Query
    """Selector of the counters of trials."""


class Mean(Model):
    """The mean of a quantity: its sum over its count."""

    sum: Query
    """Selector of the counters that add the quantity up."""
    count: Query
    """Selector of the counters of observations."""
    sum_squares: Query | None = None
    """Selector of the counters of squares, where there are any: fewer polls are then needed."""


class Rate(Model):
    """Events per request."""

    events: Query
    """Selector of the counters of events."""


class Quantile(Model):
    """A quantile of a classic histogram."""

    histogram: Query
    """Selector of the histogram's _bucket counters."""
    quantile: Probability
    """Which quantile, for example 0.95."""


class Effect(Model):
    """A size of effect, relative to the champion or in the metric's own units."""

    relative: Annotated[float, Field(gt=0, le=10000)] | None = None
    """In percent of the champion's value."""
    absolute: Annotated[float, Field(gt=0)] | None = None
    """In the metric's own units."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("relative", "absolute"),)


class Role(StrEnum):
    """Whether a metric decides or only informs."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"


class Goal(StrEnum):
    """Which direction of a metric is better."""

    INCREASE = "Increase"
    DECREASE = "Decrease"


class Metric(Model):
    """A quantity that the versions are compared by."""

    name: ItemName
    """Its name, unique among the metrics."""
    role: Role = Role.SECONDARY
    """Primary decides the verdict; exactly one metric is Primary."""
    goal: Goal = Goal.INCREASE
    """Which direction is better."""
    proportion: Proportion | None = None
    """Successes among trials."""
    mean: Mean | None = None
    """A sum over a count."""
    rate: Rate | None = None
    """Events per request."""
    quantile: Quantile | None = None
    """A quantile of a histogram."""
    version_label: LabelName = "model_version"
    """The counters' label whose value is the modelVersion."""
    minimum_effect: Effect | None = None
    """The smallest effect worth acting on: for planning and for the verdict NoDifference."""
    delay: Duration = parse_duration("0s")
    """How late labels arrive: there is no verdict before this time has passed."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("proportion", "mean", "rate", "quantile"),)


class NoData(StrEnum):
    """What a guardrail's missing data means."""

    WAIT = "Wait"
    FAIL = "Fail"


class Guardrail(Model):
    """A bound that no version may break: a breach sends all traffic back to the champion."""

    name: ItemName
    """Its name, unique among the guardrails."""
    query: Query | None = None
    """A PromQL query that gives one number; {{version}} and {{namespace}} are filled in."""
    proportion: Proportion | None = None
    """Successes among trials, tested statistically."""
    mean: Mean | None = None
    """A sum over a count, tested statistically."""
    rate: Rate | None = None
    """Events per request, tested statistically."""
    quantile: Quantile | None = None
    """A quantile of a histogram, tested statistically."""
    version_label: LabelName = "model_version"
    """The counters' label whose value is the modelVersion."""
    max: float | None = None
    """Breached above this value."""
    min: float | None = None
    """Breached below this value."""
    max_increase: Effect | None = None
    """Breached where the value exceeds the champion's by more than this."""
    alpha: Probability = 0.01
    """Bound on the chance of a false alarm over the whole experiment (statistical kinds)."""
    min_samples: Annotated[int, Field(ge=1)] = 100
    """Samples of each arm that is looked at before it passes (statistical kinds)."""
    failure_limit: Annotated[int, Field(ge=1, le=100)] = 1
    """Breaches before the rollback (query): in a row, or within failureWindow."""
    failure_window: Annotated[int, Field(ge=1, le=100)] | None = None
    """Count the breaches among so many of the last readings. Left out: in a row (query)."""
    no_data: NoData = NoData.WAIT
    """Whether missing data waits (up to analysis.guardrailTimeout) or counts as a breach."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("query", "proportion", "mean", "rate", "quantile"),
        Rule(
            cel="has(self.max) || has(self.min) || has(self.maxIncrease)",
            message="a guardrail needs a bound: max, min or maxIncrease",
            holds=lambda g: not (g.max is None and g.min is None and g.max_increase is None),
            shown=lambda g: g.name,
        ),
        Rule(
            cel="!has(self.failureWindow) || self.failureWindow >= self.failureLimit",
            message="failureWindow must be at least failureLimit",
            holds=lambda g: g.failure_window is None or g.failure_window >= g.failure_limit,
            field="failureWindow",
            shown=lambda g: g.failure_window,
        ),
    )

    @property
    def statistical(self) -> bool:
        """Whether it is tested on exact counts, rather than a query's number with its bounds."""
        return self.query is None
