"""How many samples, and how long until a verdict.

A single look at the end needs, for the champion's arm,

    n = (z_{1-alpha/2} + z_{1-beta})^2 (sigma_a^2 + sigma_b^2 / kappa) / delta^2,  kappa = n_b / n_a

and a test that may be looked at along the way needs this times a multiplier: at 80 % power
1.06 for the continuous O'Brien-Fleming test and 1.61 for the confidence sequence, which in return
has no end (some 1.64 with a few hundred looks: between looks a crossing goes unseen). With users
as the unit every n is multiplied by the design effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import optimize, stats

from modelexperiment.core.stats.confidence_sequence import critical_value, tuned_information
from modelexperiment.core.stats.horizon import (
    continuous_constant,
    crossing_probability,
    exit_probabilities,
    lan_demets_bounds,
)
from modelexperiment.core.stats.model import Kind, Method, require


@dataclass(frozen=True)
class SampleSize:
    """Samples for each arm, rounded up, and how they came about.

    Attributes:
        champion: samples of the champion's arm.
        challenger: samples of the challenger's arm.
        fixed_horizon: what a single look would have needed in the champion's and challenger's arm.
        multiplier: what looking along the way costs.
        design_effect: what is assumed about users whose requests move together; 1 for none.
    """

    champion: int
    challenger: int
    fixed_horizon: tuple[int, int]
    multiplier: float
    design_effect: float


@lru_cache(maxsize=256)
def multiplier(
    method: Method,
    alpha: float = 0.05,
    power: float = 0.8,
    one_sided: bool = False,
    looks: int | None = None,
) -> float:
    """By how much looking along the way raises the sample size for the same power.

    Found from the chance that a Brownian motion with drift leaves the method's band by the end.
    """
    if method is Method.FIXED_HORIZON:
        return 1.0
    single = _z_sum(alpha, power, one_sided)
    power_at = _power(method, alpha, one_sided, looks, single)
    drift = optimize.brentq(lambda z: power_at(z) - power, 0.9 * single, 3.0 * single, xtol=1e-6)
    return float((drift / single) ** 2)


def _power(
    method: Method, alpha: float, one_sided: bool, looks: int | None, single: float
) -> Callable[[float], float]:
    """The power as a function of the expected z at the end; a single look has it at ``single``."""
    if method is Method.SEQUENTIAL:
        # Tuned, as `design` does it, to where a single look would have the power.
        x = tuned_information(2.0 * alpha if one_sided else alpha) / single**2
        return lambda drift: crossing_probability(
            lambda t: critical_value(x * drift**2 * t, alpha, one_sided), drift
        )
    if looks is None:
        constant = continuous_constant(alpha, one_sided)
        return partial(crossing_probability, lambda t: constant / np.sqrt(t))
    fractions = [(k + 1) / looks for k in range(looks)]
    bounds = lan_demets_bounds(fractions, alpha, one_sided)
    return lambda drift: float(exit_probabilities(fractions, bounds, one_sided, drift)[:, 0].sum())


def sample_size(
    *,
    effect: float,
    champion_variance: float,
    challenger_variance: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    ratio: float = 1.0,
    one_sided: bool = False,
    method: Method = Method.FIXED_HORIZON,
    looks: int | None = None,
    design_effect: float = 1.0,
) -> SampleSize:
    """Samples per arm that find ``effect`` with the wanted power.

    Args:
        effect: the difference to be found, in the metric's own units; for non-inferiority its
            distance from the margin.
        champion_variance: of one sample, see `sample_variance`.
        challenger_variance: of one sample; the champion's where left out.
        alpha: two-sided unless ``one_sided``.
        power: the chance of finding the effect.
        ratio: the challenger's samples over the champion's, kappa.
        one_sided: whether only one direction counts.
        method: which looks are allowed.
        looks: of a group-sequential test with scheduled looks.
        design_effect: by which requests of the same users count less.

    Raises:
        ValueError: a value is out of its range.
    """
    require(math.isfinite(effect) and effect != 0, "effect", effect, "not a number other than 0")
    require(0 < alpha < 0.5, "alpha", alpha, "not between 0 and 0.5")
    require(alpha < power < 1, "power", power, "not between alpha and 1")
    require(0 < ratio < math.inf, "ratio", ratio, "not above 0")
    require(design_effect > 0, "design_effect", design_effect, "not above 0")
    other = champion_variance if challenger_variance is None else challenger_variance
    require(min(champion_variance, other) >= 0, "variance", champion_variance, "not from 0 up")
    single = _z_sum(alpha, power, one_sided) ** 2 * (champion_variance + other / ratio)
    single *= design_effect / effect**2
    factor = multiplier(method, alpha, power, one_sided, looks)
    return SampleSize(
        _up(single * factor),
        _up(single * factor * ratio),
        (_up(single), _up(single * ratio)),
        factor,
        design_effect,
    )


def sample_variance(kind: Kind, value: float, spread: float | None = None) -> float:
    """The variance of one sample of a metric whose value is ``value``.

    Args:
        kind: of the metric.
        value: a probability, a rate per unit of exposure, or a mean.
        spread: the standard deviation, which only a mean needs.

    Raises:
        ValueError: the value is impossible for the kind, or a mean comes without its spread.
    """
    if kind.is_binary:
        require(0 <= value <= 1, "value", value, "not between 0 and 1")
        return value * (1.0 - value)
    if kind is Kind.RATE:
        require(value >= 0, "value", value, "not from 0 up")
        return value
    if spread is None:
        raise ValueError("spread is None, but a mean needs its standard deviation")
    return spread * spread


def pooled_sample_size(
    baseline: float, other: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Samples per arm, not rounded, by the formula with both arms at the baseline in the null.

    ``(z_{a/2} sqrt(2 p (1-p)) + z_b sqrt(p (1-p) + q (1-q)))^2 / (p - q)^2``, the one of most
    web calculators: 1,030 for 20 % to 25 % at 80 % power.
    """
    require(0 < baseline < 1, "baseline", baseline, "not between 0 and 1")
    require(0 < other < 1 and other != baseline, "other", other, "not another probability")
    own, its = baseline * (1 - baseline), other * (1 - other)
    reject, find = float(stats.norm.isf(alpha / 2)), float(stats.norm.isf(1 - power))
    root = reject * math.sqrt(2 * own) + find * math.sqrt(own + its)
    return (root / (other - baseline)) ** 2


def eta(needed: float, seen: float, rate: float) -> float | None:
    """Seconds until the smallest arm has the samples that are needed.

    Args:
        needed: samples of the smallest arm at the end.
        seen: its samples so far.
        rate: its arrivals per second.

    Returns:
        0 where there are enough, None where nothing arrives.
    """
    if seen >= needed:
        return 0.0
    return (needed - seen) / rate if rate > 0 else None


@lru_cache(maxsize=256)
def _z_sum(alpha: float, power: float, one_sided: bool) -> float:
    return float(stats.norm.isf(alpha if one_sided else alpha / 2) + stats.norm.ppf(power))


def _up(value: float) -> int:
    # What is a whole number but for rounding must not become the next one.
    return math.ceil(value - 1e-9 * max(1.0, value))
