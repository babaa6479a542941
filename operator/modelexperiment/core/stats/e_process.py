"""Exact e-processes for counts: proportions, bucket exceedances, rare events, rates.

Before each poll, alternatives (theta_a, theta_b) for champion and challenger are chosen from
earlier polls alone, and each is compared with the point of the null that is nearest to it:

    E  <-  E * prod_g  p(s_g | n_g, theta_g) / p(s_g | n_g, theta0_g)

where theta0 minimises ``sum_g w_g KL(theta_g || theta0_g)``, w_g = n_g / n, over the edge of the
null, a line ``b = slope * a + offset``. This is the construction of Turner, Ly and Gruenwald,
"Generic E-variables for exact sequential k-sample tests that allow for optional stopping", JSPI
230 (2024), and E is valid at every sample size, not only in the limit. The proof is short. The
factor's expectation at a point theta' of the edge is ``prod_g (1 + (theta'_g - theta0_g) c_g)^n_g``
with ``c_g = (theta_g - theta0_g) / var(theta0_g)`` (for Poisson counts: ``exp`` of the same sum),
whose logarithm is at most ``sum_g n_g (theta'_g - theta0_g) c_g``, and along a line this is
proportional to the derivative of the KL that vanishes in its minimum. Within the null it is
smaller still.

An effect is not known beforehand, so E is the average over 31 log-odds (for rates: log-ratio)
effects that stand for N(0, tau^2), or for its good half when the question is one-sided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from modelexperiment.core.stats.confidence_sequence import Array

NODES = 31
_HALVINGS = 50


def unit_nodes(one_sided: bool, sign: float) -> Array:
    """The 31 effects for tau = 1: the midpoints of equally likely slices of N(0, 1)."""
    middle = (np.arange(NODES) + 0.5) / NODES
    if one_sided:
        return np.asarray(sign * stats.norm.ppf(0.5 + middle / 2.0))
    return np.asarray(stats.norm.ppf(middle))


@dataclass(frozen=True)
class Null:
    """The edge of the null: ``b = slope * a + offset``."""

    slope: float = 1.0
    offset: float = 0.0

    @property
    def is_equality(self) -> bool:
        """Whether both arms are the same on the edge."""
        return self.slope == 1.0 and self.offset == 0.0

    def domain(self, top: float) -> tuple[float, float]:
        """The open range of ``a`` in which both arms lie between 0 and ``top``."""
        low = max(0.0, -self.offset / self.slope)
        return low, min(top, (top - self.offset) / self.slope)


class Bernoulli:
    """Each of n trials is a success or a failure; the natural parameter is the log odds."""

    top = 1.0

    @staticmethod
    def natural(theta: Array) -> Array:
        """Log odds of a probability."""
        return np.asarray(special.logit(theta))

    @staticmethod
    def mean(natural: Array) -> Array:
        """The probability with these log odds."""
        return np.asarray(special.expit(natural))

    @staticmethod
    def log_partition(natural: Array) -> Array:
        """What n samples take off ``s * natural`` to give the log likelihood."""
        return np.asarray(np.log1p(np.exp(natural)))

    @staticmethod
    def variance(theta: Array) -> Array:
        """The variance of one trial."""
        return np.asarray(theta * (1.0 - theta))

    @staticmethod
    def log_likelihood(n: Array, s: Array, theta: Array) -> Array:
        """Up to a constant."""
        return np.asarray(s * np.log(theta) + (n - s) * np.log1p(-theta))


class Poisson:
    """Events over an exposure n; the natural parameter is the logarithm of the rate."""

    top = math.inf

    @staticmethod
    def natural(theta: Array) -> Array:
        """The logarithm of a rate."""
        return np.asarray(np.log(theta))

    @staticmethod
    def mean(natural: Array) -> Array:
        """The rate with this logarithm."""
        return np.asarray(np.exp(natural))

    @staticmethod
    def log_partition(natural: Array) -> Array:
        """What n units take off ``s * natural`` to give the log likelihood."""
        return np.asarray(np.exp(natural))

    @staticmethod
    def variance(theta: Array) -> Array:
        """The variance of the count of one unit of exposure."""
        return theta

    @staticmethod
    def log_likelihood(n: Array, s: Array, theta: Array) -> Array:
        """Up to a constant."""
        return np.asarray(s * np.log(theta) - n * theta)


Family = type[Bernoulli] | type[Poisson]


def project(family: Family, theta: Array, weights: Array, null: Null) -> Array:
    """The point of the null's edge that is nearest to ``theta`` in weighted KL divergence.

    Args:
        theta: shape (..., 2), champion and challenger.
        weights: shape (..., 2), shares of the samples.

    Returns:
        Shape (..., 2).
    """
    champion, challenger = theta[..., 0], theta[..., 1]
    # The divergence is convex along the edge, and each arm by itself would put the minimum at
    # its own end of this bracket, so halving the bracket by the sign of the slope finds it.
    other = np.clip((challenger - null.offset) / null.slope, *null.domain(family.top))
    low, high = np.minimum(champion, other), np.maximum(champion, other)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        image = null.slope * middle + null.offset
        slope = weights[..., 0] * (middle - champion) / family.variance(middle)
        slope += weights[..., 1] * null.slope * (image - challenger) / family.variance(image)
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    middle = 0.5 * (low + high)
    return np.stack([middle, null.slope * middle + null.offset], axis=-1)


def edge_point(family: Family, base: Array, weights: Array, null: Null) -> Array:
    """The point of the null's edge whose pooled value is ``base``, kept inside the domain."""
    if null.is_equality:
        return np.stack([base, base], axis=-1)
    pooled_slope = weights[..., 0] + weights[..., 1] * null.slope
    champion = (base - weights[..., 1] * null.offset) / pooled_slope
    low, high = null.domain(family.top)
    room = 1e-3 * min(high - low, 1.0)
    champion = np.clip(champion, low + room, high - room if math.isfinite(high) else None)
    return np.stack([champion, null.slope * champion + null.offset], axis=-1)


def log_factors(family: Family, n: Array, s: Array, base: Array, nodes: Array, null: Null) -> Array:
    """What one poll adds to ln E of each effect.

    Args:
        family: how counts are distributed.
        n: shape (..., 2), trials or exposure; a poll with an empty arm adds nothing.
        s: shape (..., 2), successes or events.
        base: shape (...), the pooled value expected, chosen from earlier polls.
        nodes: shape (..., K), the effects.
        null: the edge of the null.

    Returns:
        Shape (..., K).
    """
    both = np.asarray((n > 0).all(axis=-1))
    total = n.sum(-1)
    weights = np.where(both[..., None], n / np.where(total > 0, total, 1.0)[..., None], 0.5)
    edge = family.natural(edge_point(family, base, weights, null))
    champion = edge[..., :1] - nodes * weights[..., 1:]
    challenger = edge[..., 1:] + nodes * weights[..., :1]
    likelihood = s[..., :1] * champion - n[..., :1] * family.log_partition(champion)
    likelihood += s[..., 1:] * challenger - n[..., 1:] * family.log_partition(challenger)
    theta = np.stack([family.mean(champion), family.mean(challenger)], axis=-1)
    if null.is_equality:
        # The nearest point has the same value in both arms, their weighted mean.
        pooled = weights[..., :1] * theta[..., 0] + weights[..., 1:] * theta[..., 1]
        nearest = family.log_likelihood(total[..., None], s.sum(-1)[..., None], pooled)
    else:
        point = project(family, theta, weights[..., None, :], null)
        nearest = family.log_likelihood(n[..., None, :], s[..., None, :], point).sum(-1)
    return np.asarray(np.where(both[..., None], likelihood - nearest, 0.0))


def mean_evidence(log_e: Array) -> Array:
    """ln of the average of exp(log_e) over the last axis."""
    top = log_e.max(axis=-1)
    return np.asarray(top + np.log(np.exp(log_e - top[..., None]).mean(axis=-1)))
