"""What goes into a comparison and what comes out of it.

Everything that is known about a metric reduces to increments: what one arm added in one poll.

====================  =========================  ====================  ==========================
kind                  ``n``                      ``s``                 ``q``
====================  =========================  ====================  ==========================
proportion            trials                     successes             not needed
quantile              observations               those above an edge   not needed
mean                  observations               their sum             the sum of their squares
rate                  exposure (say, requests)   events                not needed
====================  =========================  ====================  ==========================

Two arms are compared at a time, a champion and one challenger, and the effect is always
``challenger - champion`` in the metric's own units, whichever direction is the better one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the metric measures; a quantile is tested as the proportion above a bucket's edge."""

    PROPORTION = "proportion"
    MEAN = "mean"
    RATE = "rate"
    QUANTILE = "quantile"

    @property
    def is_binary(self) -> bool:
        """Whether each of the ``n`` is a success or a failure."""
        return self in (Kind.PROPORTION, Kind.QUANTILE)


class Method(StrEnum):
    """How often the verdict may be looked at."""

    SEQUENTIAL = "sequential"
    GROUP_SEQUENTIAL = "group-sequential"
    FIXED_HORIZON = "fixed-horizon"


class Goal(StrEnum):
    """Which direction of the effect is the better one."""

    INCREASE = "increase"
    DECREASE = "decrease"

    @property
    def sign(self) -> float:
        """+1 where more is better, -1 where less is."""
        return 1.0 if self is Goal.INCREASE else -1.0


class Unit(StrEnum):
    """What was randomised: every request by itself, or users with all their requests."""

    REQUEST = "request"
    USER = "user"


class Alternative(StrEnum):
    """Whether an effect in the wrong direction is looked for, too."""

    TWO_SIDED = "two-sided"
    ONE_SIDED = "one-sided"


def require(condition: bool, field: str, value: object, rule: str) -> None:
    """Raise a ValueError of one line that names the field, its value and the rule it breaks."""
    if not condition:
        raise ValueError(f"{field} is {value!r}, {rule}")


@dataclass(frozen=True)
class Increment:
    """What one arm added in one poll: the count ``n``, the sum ``s``, the sum of squares ``q``.

    Raises:
        ValueError: a number is negative where it cannot be, or is not finite.
    """

    n: float
    s: float
    q: float | None = None

    def __post_init__(self) -> None:
        require(math.isfinite(self.n) and self.n >= 0, "n", self.n, "not a number from 0 up")
        require(math.isfinite(self.s), "s", self.s, "not a finite number")
        if self.q is not None:
            require(math.isfinite(self.q) and self.q >= 0, "q", self.q, "not a number from 0 up")

    @classmethod
    def zero(cls) -> Increment:
        """Nothing was added."""
        return cls(0.0, 0.0, 0.0)

    def __add__(self, other: Increment) -> Increment:
        squares = None if self.q is None or other.q is None else self.q + other.q
        return Increment(self.n + other.n, self.s + other.s, squares)

    def check(self, kind: Kind, arm: str) -> None:
        """Raise a ValueError where the numbers cannot belong to a metric of this kind."""
        if kind is not Kind.MEAN:
            require(self.s >= 0, f"{arm} s", self.s, "not a count from 0 up")
            require(float(self.s).is_integer(), f"{arm} s", self.s, "not a whole number")
        if kind.is_binary:
            require(float(self.n).is_integer(), f"{arm} n", self.n, "not a whole number")


@dataclass(frozen=True)
class Poll:
    """What one poll saw of the champion and one challenger.

    The buckets are the same increments again, split by the hash bucket of the user; requests
    that belong to no user are in no bucket.
    """

    champion: Increment
    challenger: Increment
    champion_buckets: Mapping[int, Increment] | None = None
    challenger_buckets: Mapping[int, Increment] | None = None


@dataclass(frozen=True)
class Margin:
    """A size of an effect: in the metric's own units, or in percent of the champion's value."""

    absolute: float | None = None
    relative: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.absolute, self.relative) if v is not None]
        require(len(given) == 1, "margin", given, "not exactly one of absolute and relative")
        require(math.isfinite(given[0]) and given[0] >= 0, "margin", given[0], "not from 0 up")

    @property
    def size(self) -> float:
        """The number given, whatever its unit."""
        return self.absolute if self.relative is None else self.relative  # type: ignore[return-value]

    def of(self, champion: float) -> float:
        """The margin in the metric's own units, given the champion's value."""
        if self.absolute is not None:
            return self.absolute
        assert self.relative is not None
        return abs(champion) * self.relative / 100.0

    def line(self, sign: float) -> tuple[float, float]:
        """Slope and offset of ``challenger = slope * champion + offset``, the margin's edge.

        ``sign`` is +1 for an edge above the champion and -1 for one below.
        """
        if self.absolute is not None:
            return 1.0, sign * self.absolute
        assert self.relative is not None
        return 1.0 + sign * self.relative / 100.0, 0.0


_ENUMERATIONS: dict[str, type[StrEnum]] = {
    "kind": Kind,
    "method": Method,
    "goal": Goal,
    "unit": Unit,
    "alternative": Alternative,
}


@dataclass(frozen=True)
class Settings:
    """One comparison: what is measured, and which promise the verdict keeps.

    Attributes:
        alpha: the rate of false positives that is promised; two-sided unless ``alternative``
            says otherwise.
        power: the chance, at the planned size, of finding ``minimum_effect``.
        buckets: into how many hash buckets users are split; only for ``Unit.USER``.
        sample_size: planned samples of the smaller arm; where left out, what
            ``minimum_effect`` needs.
        ratio: planned size of the larger arm over that of the smaller.
        minimum_effect: the smallest effect that would matter.
        baseline: a prior guess of the champion's value.
        margin: makes the question one of non-inferiority: not worse than this.
        looks: for a group-sequential test, how many looks, equally spaced in information;
            None stands for as many as one likes.

    Raises:
        ValueError: a value is out of its range, or a needed one is missing.
    """

    kind: Kind
    method: Method = Method.SEQUENTIAL
    alpha: float = 0.05
    power: float = 0.8
    goal: Goal = Goal.INCREASE
    unit: Unit = Unit.REQUEST
    buckets: int = 0
    sample_size: int | None = None
    ratio: float = 1.0
    minimum_effect: Margin | None = None
    baseline: float | None = None
    alternative: Alternative = Alternative.TWO_SIDED
    margin: Margin | None = None
    looks: int | None = None

    def __post_init__(self) -> None:
        # Plain strings, as they come from a manifest, are as good as the enumerations.
        for name, enumeration in _ENUMERATIONS.items():
            object.__setattr__(self, name, enumeration(getattr(self, name)))
        require(0 < self.alpha < 0.5, "alpha", self.alpha, "not between 0 and 0.5")
        require(self.alpha < self.power < 1, "power", self.power, "not between alpha and 1")
        require(self.buckets >= 0, "buckets", self.buckets, "not from 0 up")
        require(self.ratio >= 1, "ratio", self.ratio, "not from 1 up")
        if self.sample_size is not None:
            require(self.sample_size >= 2, "sample_size", self.sample_size, "not from 2 up")
        elif self.method is not Method.SEQUENTIAL:
            effect = self.minimum_effect
            known = effect is not None and effect.size > 0 and self.baseline is not None
            require(
                known and self.kind is not Kind.MEAN,
                "sample_size",
                None,
                f"but {self.method} needs it, or (but for a mean) minimum_effect and baseline",
            )
        if self.looks is not None:
            require(1 <= self.looks <= 20, "looks", self.looks, "not from 1 to 20")
        if self.margin is not None and self.margin.relative is not None:
            size = self.margin.relative
            require(size < 100 or self.goal is Goal.DECREASE, "margin", size, "not below 100 %")
        if self.unit is Unit.USER and self.buckets:
            require(self.buckets >= 24, "buckets", self.buckets, "neither 0 nor from 24 up")
        self._check_baseline()

    def _check_baseline(self) -> None:
        if self.baseline is None:
            return
        require(math.isfinite(self.baseline), "baseline", self.baseline, "not a finite number")
        if self.kind.is_binary:
            require(0 < self.baseline < 1, "baseline", self.baseline, "not between 0 and 1")
        elif self.kind is Kind.RATE:
            require(self.baseline > 0, "baseline", self.baseline, "not above 0")

    @property
    def one_sided(self) -> bool:
        """Whether only the good direction counts; a question with a margin always is so."""
        return self.alternative is Alternative.ONE_SIDED or self.margin is not None

    @property
    def null_line(self) -> tuple[float, float]:
        """Slope and offset of the null's edge, ``challenger = slope * champion + offset``."""
        if self.margin is None:
            return 1.0, 0.0
        return self.margin.line(-self.goal.sign)


@dataclass(frozen=True)
class Estimate:
    """One arm: samples counted so far, and its value.

    The value is standardised over polls with the weights of the effect, so that the challenger's
    less the champion's is the effect, whatever the split and the traffic did in between.
    """

    samples: float
    estimate: float | None


@dataclass(frozen=True)
class Interval:
    """An effect and the interval around it; for a one-sided question each bound by itself."""

    effect: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Result:
    """What a comparison says now.

    The p-value of a proportion or a rate is exact and its interval is asymptotic, so they come
    from two engines, and close to alpha the two may differ.

    Attributes:
        champion: the champion's samples and value.
        challenger: the challenger's.
        absolute: the effect in the metric's own units.
        relative: the effect in percent of the champion's value; None where a value is not above 0.
        p_value: the smallest alpha at which the null is rejected by now. It never rises.
        significant: whether ``p_value`` is at most alpha, and nothing withholds the verdict.
        withheld: one sentence that says why there is no verdict yet.
    """

    champion: Estimate
    challenger: Estimate
    absolute: Interval | None
    relative: Interval | None
    p_value: float | None
    significant: bool
    withheld: str | None
