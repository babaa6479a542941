"""Tests that know their end: continuous O'Brien-Fleming, scheduled looks, one fixed look.

With a planned end the information fraction ``t`` runs from 0 to 1, and ``B(t) = z sqrt(t)`` is
under the null a Brownian motion. O'Brien and Fleming reject when |B| leaves a constant band, as
strict at first as it is generous at the end:

- continuously, at any number of looks: by the reflection principle |B| passes c on [0, 1] with
  probability at most ``4 (1 - Phi(c))``, so c = 2.2414 at alpha = 0.05 two-sided, and
  ``2 (1 - Phi(c))``, c = 1.95996, one-sided;
- at scheduled looks: error is spent at the looks as the continuous test would have spent it until
  then (Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983).

The distribution of B at the looks is integrated numerically, look by look (Armitage, McPherson
and Rowe, "Repeated significance tests on accumulating data", JRSS A 132, 1969).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import linalg, optimize, special, stats

from modelexperiment.core.stats.confidence_sequence import Array

_QUADRATURE = 120
_STEPS = 400
_FAR = 9.0


def continuous_constant(alpha: float, one_sided: bool) -> float:
    """The c with which |z| >= c / sqrt(t) rejects at level alpha, at any number of looks."""
    return float(stats.norm.isf(alpha / (2.0 if one_sided else 4.0)))


def continuous_p_value(z: Array, fraction: Array, one_sided: bool) -> Array:
    """The smallest alpha at which the continuous test rejects here; at most 1."""
    brownian = np.sqrt(np.minimum(fraction, 1.0)) * (z if one_sided else np.abs(z))
    return np.asarray(np.minimum(1.0, (2.0 if one_sided else 4.0) * stats.norm.sf(brownian)))


@dataclass(frozen=True)
class Walk:
    """A Brownian motion with drift that has stayed inside the band so far.

    Attributes:
        fraction: the information fraction reached.
        place: quadrature nodes of where it is.
        mass: the probability that belongs to each node; less than 1 in all by what has left.
        drift: the expected z at fraction 1.
    """

    fraction: float
    place: Array
    mass: Array
    drift: float

    @classmethod
    def start(cls, drift: float = 0.0) -> Walk:
        """At zero, with nothing lost."""
        return cls(0.0, np.zeros(1), np.ones(1), drift)

    def exits(self, fraction: float, z: float, one_sided: bool) -> tuple[float, float]:
        """The chance of being above z, and for a two-sided test below -z, at the next look."""
        step, move = math.sqrt(fraction - self.fraction), self.drift * (fraction - self.fraction)
        end, start = z * math.sqrt(fraction), self.place + move
        above = float(self.mass @ special.ndtr((start - end) / step))
        below = 0.0 if one_sided else float(self.mass @ special.ndtr((-end - start) / step))
        return above, below

    def advance(self, fraction: float, z: float, one_sided: bool) -> Walk:
        """Those that are still inside after the next look."""
        step, move = math.sqrt(fraction - self.fraction), self.drift * (fraction - self.fraction)
        reach = _FAR * math.sqrt(fraction)
        top = min(z * math.sqrt(fraction), max(self.drift * fraction, 0.0) + reach)
        bottom = min(self.drift * fraction, 0.0) - reach if one_sided else -top
        nodes, weights = _quadrature()
        place = 0.5 * (top - bottom) * nodes + 0.5 * (top + bottom)
        distance = (place[:, None] - self.place - move) / step
        kernel = np.exp(-0.5 * np.square(distance)) / (step * math.sqrt(2.0 * math.pi))
        return Walk(
            fraction, place, 0.5 * (top - bottom) * weights * (kernel @ self.mass), self.drift
        )


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(_QUADRATURE)


def exit_probabilities(
    fractions: Sequence[float], bounds: Sequence[float], one_sided: bool, drift: float = 0.0
) -> Array:
    """The chance of leaving the band for the first time at each look.

    Args:
        fractions: information fractions of the K looks, rising.
        bounds: the critical z at each look; two-sided tests leave at its negative as well.
        one_sided: whether there is no lower end.
        drift: the expected z at fraction 1.

    Returns:
        Shape (K, 2): through the upper end, and through the lower one.
    """
    walk, chances = Walk.start(drift), []
    for fraction, z in zip(fractions, bounds, strict=True):
        chances.append(walk.exits(fraction, z, one_sided))
        walk = walk.advance(fraction, z, one_sided)
    return np.array(chances)


def crossing_probability(bound: Callable[[Array], Array], drift: float) -> float:
    """The chance that z, looked at continuously, exceeds ``bound`` by information fraction 1.

    Args:
        bound: the critical z at fractions of shape (T,).
        drift: the expected z at fraction 1.

    Solves Fortet's equation for the first passage of B(t) = z sqrt(t) through b(t): being above
    b(t) at t means to have met b at some s <= t and to have moved on from there,
    ``P(B(t) > b(t)) = integral of P(B(t) > b(t) | B(s) = b(s)) dF(s)``.
    """
    ends = np.linspace(0.0, 1.0, _STEPS + 1)[1:]
    middles = ends - 0.5 / _STEPS
    level, start = bound(ends) * np.sqrt(ends), bound(middles) * np.sqrt(middles)
    with np.errstate(invalid="ignore"):
        time = np.sqrt(np.maximum(ends[:, None] - middles, 0.0))
        rise = level[:, None] - start - drift * (ends[:, None] - middles)
        kernel = np.where(time > 0, special.ndtr(-rise / np.where(time > 0, time, 1.0)), 0.0)
    above = special.ndtr((drift * ends - level) / np.sqrt(ends))
    return float(linalg.solve_triangular(kernel, above, lower=True).sum())


def obrien_fleming_bounds(looks: int, alpha: float) -> list[float]:
    """The classical two-sided bounds at K equally spaced looks.

    For K = 5 at alpha = 0.05: 4.562, 3.226, 2.634, 2.281, 2.040.
    """
    fractions = [(k + 1) / looks for k in range(looks)]

    def excess(constant: float) -> float:
        bounds = [constant / math.sqrt(t) for t in fractions]
        return float(exit_probabilities(fractions, bounds, one_sided=False).sum()) - alpha

    constant = optimize.brentq(excess, 0.5, continuous_constant(alpha, one_sided=False) + 0.5)
    return [constant / math.sqrt(t) for t in fractions]


def lan_demets_bounds(fractions: Sequence[float], alpha: float, one_sided: bool) -> list[float]:
    """Bounds at these looks, with alpha spent like O'Brien and Fleming's.

    For five equally spaced looks at alpha = 0.05 two-sided: 4.8769, 3.3570, 2.6803, 2.2898, 2.0310.

    Raises:
        ValueError: the fractions do not rise from above 0 to at most 1.
    """
    rising = all(a < b for a, b in zip([0.0, *fractions], fractions, strict=False))
    if not rising or not fractions or fractions[-1] > 1.0:
        raise ValueError(f"fractions are {list(fractions)!r}, not rising from above 0 to at most 1")
    constant = continuous_constant(alpha, one_sided)
    sides = 2.0 if one_sided else 4.0
    walk, spent, bounds = Walk.start(), 0.0, list[float]()
    for fraction in fractions:
        allowed = sides * float(stats.norm.sf(constant / math.sqrt(fraction))) - spent
        # With less than 1e-16 of a chance there is nothing to solve for: the look never rejects.
        z = _FAR if allowed < 1e-16 else _bound_that_spends(walk, fraction, allowed, one_sided)
        walk, spent = walk.advance(fraction, z, one_sided), spent + allowed
        bounds.append(z)
    return bounds


def _bound_that_spends(walk: Walk, fraction: float, allowed: float, one_sided: bool) -> float:
    def excess(z: float) -> float:
        return math.log(max(sum(walk.exits(fraction, z, one_sided)), 1e-300) / allowed)

    return float(optimize.brentq(excess, -_FAR if one_sided else 0.0, _FAR))


@lru_cache(maxsize=64)
def _bounds_by_alpha(looks: int, one_sided: bool) -> tuple[Array, Array]:
    """A grid of ln alpha, shape (A,), and the bounds of K equally spaced looks, shape (A, K)."""
    grid = np.linspace(math.log(1e-8), math.log(0.5), 48)
    fractions = [(k + 1) / looks for k in range(looks)]
    return grid, np.array([lan_demets_bounds(fractions, math.exp(a), one_sided) for a in grid])


def scheduled_bound(look: Array, looks: int, alpha: float, one_sided: bool) -> Array:
    """The critical z at look number ``look`` (from 1) of K equally spaced ones."""
    fractions = [(k + 1) / looks for k in range(looks)]
    bounds = np.array(_cached_bounds(tuple(fractions), alpha, one_sided))
    return np.asarray(bounds[np.clip(look.astype(int) - 1, 0, looks - 1)])


@lru_cache(maxsize=256)
def _cached_bounds(fractions: tuple[float, ...], alpha: float, one_sided: bool) -> list[float]:
    return lan_demets_bounds(fractions, alpha, one_sided)


def scheduled_p_value(z: Array, look: Array, looks: int, one_sided: bool) -> Array:
    """The smallest alpha at which this look rejects, interpolated on a grid; 1 above 0.5."""
    grid, bounds = _bounds_by_alpha(looks, one_sided)
    strength = np.asarray(z if one_sided else np.abs(z))
    p = np.ones_like(strength)
    for number in range(1, looks + 1):
        column = bounds[::-1, number - 1]
        interpolated = np.exp(np.interp(strength, column, grid[::-1]))
        p = np.where(look == number, np.where(strength < column[0], 1.0, interpolated), p)
    return p


def newcombe_interval(
    mean: Array, size: Array, alpha: float, one_sided: bool = False
) -> tuple[Array, Array]:
    """Newcombe's hybrid score interval for the difference of two proportions.

    Args:
        mean: shape (..., 2), champion and challenger.
        size: shape (..., 2), trials; effective ones where polls were combined.
        alpha: of both ends together, or of each where ``one_sided``.

    Method 10 of R. G. Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17 (1998). 48 of 80 against 56 of 70: (.0524, .3339).
    """
    z = float(stats.norm.isf(alpha if one_sided else alpha / 2.0))
    centre = (mean + z * z / (2.0 * size)) / (1.0 + z * z / size)
    room = np.sqrt(mean * (1.0 - mean) / size + z * z / (4.0 * np.square(size)))
    half = z * room / (1.0 + z * z / size)
    low, high = centre - half, centre + half
    effect = mean[..., 1] - mean[..., 0]
    down = np.hypot(mean[..., 1] - low[..., 1], high[..., 0] - mean[..., 0])
    up = np.hypot(high[..., 1] - mean[..., 1], mean[..., 0] - low[..., 0])
    return effect - down, effect + up
