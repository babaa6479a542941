"""What a guardrail allows: an absolute limit, or one against the champion with a margin.

A quantile's limit, say p95 <= T, is the limit 0.05 on the share of observations above T when T is
an edge of the histogram. Else take the next edge above T to raise the alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from modelexperiment.core.stats.design import Design, design_of
from modelexperiment.core.stats.e_process import Bernoulli, Family, Null, Poisson
from modelexperiment.core.stats.model import (
    Alternative,
    Goal,
    Kind,
    Margin,
    Settings,
    Unit,
    require,
)

_USER_SAMPLES = 5_000


@dataclass(frozen=True)
class Limit:
    """What a guardrail allows: exactly one of the four.

    Attributes:
        kind: of the metric.
        maximum: the largest value allowed; for quantiles the share above the edge.
        minimum: the smallest value allowed.
        max_increase: how far the challenger may lie above the champion.
        max_decrease: how far below.
        unit: what was randomised.
        buckets: hash buckets of users.

    Raises:
        ValueError: not exactly one limit is given, or it is impossible for the kind.
    """

    kind: Kind
    maximum: float | None = None
    minimum: float | None = None
    max_increase: Margin | None = None
    max_decrease: Margin | None = None
    unit: Unit = Unit.REQUEST
    buckets: int = 0

    def __post_init__(self) -> None:
        named = {"maximum": self.maximum, "minimum": self.minimum}
        margins = {"max_increase": self.max_increase, "max_decrease": self.max_decrease}
        given = [name for name, value in (named | margins).items() if value is not None]
        require(len(given) == 1, "limit", given, "not exactly one of its four kinds")
        for name, value in named.items():
            if value is None:
                continue
            require(math.isfinite(value), name, value, "not a finite number")
            if self.kind.is_binary:
                require(0 < value < 1, name, value, "not between 0 and 1")
            elif self.kind is Kind.RATE:
                require(value > 0, name, value, "not above 0")
        if self.unit is Unit.USER:
            require(self.buckets >= 24, "buckets", self.buckets, "not from 24 up")
        if self.max_decrease is not None and self.max_decrease.relative is not None:
            size = self.max_decrease.relative
            require(size < 100, "max_decrease", size, "not below 100 %")

    @property
    def sign(self) -> float:
        """+1 where too high is harm, -1 where too low is."""
        return 1.0 if self.maximum is not None or self.max_increase is not None else -1.0

    @property
    def absolute(self) -> float | None:
        """The number that the challenger is held against; None for a limit against the champion."""
        return self.maximum if self.maximum is not None else self.minimum

    @property
    def null(self) -> Null:
        """The edge of what is allowed."""
        if self.absolute is not None:
            return Null(0.0, self.absolute)
        margin = self.max_increase or self.max_decrease
        assert margin is not None
        return Null(*margin.line(self.sign))

    @property
    def family(self) -> Family:
        """How counts are distributed."""
        return Poisson if self.kind is Kind.RATE else Bernoulli

    def design(self) -> Design:
        """The design of the test by hash buckets."""
        settings = Settings(
            kind=self.kind,
            goal=Goal.INCREASE if self.sign > 0 else Goal.DECREASE,
            unit=Unit.USER,
            buckets=self.buckets,
            alternative=Alternative.ONE_SIDED,
            sample_size=_USER_SAMPLES,
        )
        return replace(design_of(settings), null=self.null)
