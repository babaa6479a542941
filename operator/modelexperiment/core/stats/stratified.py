"""The effect, estimated poll by poll and combined with weights that outcomes cannot bend.

Totals pooled over the life of an experiment mislead as soon as the split changes while the
traffic drifts: the arms then saw different hours of the day. So the arms are compared within each
poll, and the polls are combined:

    d_j = m_bj - m_aj,   w_j = n_aj n_bj / (n_aj + n_bj),   d = sum w_j d_j / sum w_j

The variance of d is ``sum w_j^2 (v_aj + v_bj) / (sum w_j)^2`` with v_gj the estimated variance of
the arm's mean in the poll. Where no sum of squares is known, it is taken from the scatter of the
d_j around d instead.

Within a poll of n requests a random split is uneven by chance, which costs 1/n of the information:
nothing to speak of from fifty requests a poll on.

Arrays have any leading axes; the last one, of length 2, is the arm: champion, challenger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelexperiment.core.stats.confidence_sequence import Array, Flags
from modelexperiment.core.stats.model import Kind

POLLS_WITHOUT_SQUARES = 60


@dataclass(frozen=True)
class Counts:
    """Increments of both arms, each array of shape (..., 2); ``q`` of NaN is not known."""

    n: Array
    s: Array
    q: Array

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Counts:
        """Nothing, for both arms."""
        return cls(*np.zeros((3, *shape, 2)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n + other.n, self.s + other.s, self.q + other.q)

    def where(self, keep: Flags) -> Counts:
        """These counts where ``keep``, of shape (...), holds, and zero elsewhere."""
        mask = keep[..., None]
        return Counts(*(np.where(mask, part, 0.0) for part in (self.n, self.s, self.q)))

    def consistent(self, kind: Kind) -> Flags:
        """Whether the numbers can belong together, shape (...)."""
        if kind.is_binary:
            possible = self.s <= self.n
        elif kind is Kind.RATE:
            possible = (self.n > 0) | (self.s == 0)
        else:
            # Rounding may bring n q just below s^2 when all observations are equal.
            enough = self.n * self.q >= np.square(self.s) * (1.0 - 1e-9)
            possible = np.where(self.n > 0, np.isnan(self.q) | enough, self.s == 0)
        return np.asarray(possible.all(axis=-1))

    def mean_variance(self, kind: Kind) -> Array:
        """The estimated variance of each arm's mean, shape (..., 2); needs n >= 2."""
        if kind is Kind.RATE:
            return np.asarray(self.s / np.square(self.n))
        squares = self.s if kind.is_binary else self.q
        spread = np.maximum(squares - np.square(self.s) / self.n, 0.0)
        return np.asarray(spread / (self.n * (self.n - 1.0)))


@dataclass(frozen=True)
class Summary:
    """The arms' standardised values and their variances.

    Attributes:
        mean: shape (..., 2); NaN before there is any poll with both arms.
        variance: of the means, shape (..., 2).
        null_variance: of the difference, with the arms pooled within each poll, shape (...).
        degrees: degrees of freedom of the variance, shape (...); NaN where it counts as known.
    """

    mean: Array
    variance: Array
    null_variance: Array
    degrees: Array


@dataclass(frozen=True)
class Strata:
    """Sums over polls from which the effect and its variance follow.

    Attributes:
        polls: number of polls that count, shape (...).
        weight: sum w, shape (...).
        mean: sum w m_g, shape (..., 2).
        variance: sum w^2 v_g, shape (..., 2); NaN for ever once a sum of squares was missing.
        null_variance: sum w^2 v with the arms pooled, shape (...).
        scatter: sum w^2, sum w^2 d, sum w^2 d^2, shape (..., 3).
    """

    polls: Array
    weight: Array
    mean: Array
    variance: Array
    null_variance: Array
    scatter: Array

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Strata:
        """No polls yet."""
        one, two = np.zeros(shape), np.zeros((*shape, 2))
        return cls(one, one, two, two, one, np.zeros((*shape, 3)))

    def add(self, poll: Counts, kind: Kind) -> Strata:
        """With one more poll; one in which an arm has less than two samples adds nothing."""
        least = 0.0 if kind is Kind.RATE else 1.0
        usable = np.asarray((poll.n > least).all(-1))
        n = np.where(usable[..., None], poll.n, 2.0)
        s = np.where(usable[..., None], poll.s, 0.0)
        q = np.where(usable[..., None], poll.q, 0.0)
        total = n.sum(-1)
        w = np.where(usable, n.prod(-1) / total, 0.0)
        mean = s / n
        variance = Counts(n, s, q).mean_variance(kind)
        d = mean[..., 1] - mean[..., 0]
        square = np.square(w)
        return Strata(
            self.polls + usable,
            self.weight + w,
            self.mean + w[..., None] * mean,
            self.variance + square[..., None] * variance,
            self.null_variance + w * _pooled_variance(n, s, q, kind),
            self.scatter + square[..., None] * np.stack([np.ones_like(d), d, d * d], axis=-1),
        )

    def summary(self) -> Summary:
        """Values and variances now."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self.mean / self.weight[..., None]
            within = self.variance / np.square(self.weight)[..., None]
            null_variance = self.null_variance / np.square(self.weight)
        known = ~np.isnan(within).any(-1) | (self.polls == 0)
        between = self._variance_between(mean[..., 1] - mean[..., 0])
        variance = np.where(known[..., None], within, between[..., None] / 2.0)
        degrees = np.where(known, np.nan, np.maximum(self.polls - 1.0, 1.0))
        return Summary(mean, variance, np.where(known, null_variance, between), degrees)

    def _variance_between(self, effect: Array) -> Array:
        """The variance of the effect from the scatter of the polls' effects."""
        squares, first, second = np.moveaxis(self.scatter, -1, 0)
        spread = np.maximum(second - 2.0 * effect * first + np.square(effect) * squares, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            correction = self.polls / (self.polls - 1.0)
            variance = correction * spread / np.square(self.weight)
        return np.asarray(np.where(self.polls >= POLLS_WITHOUT_SQUARES, variance, np.nan))


def _pooled_variance(n: Array, s: Array, q: Array, kind: Kind) -> Array:
    """The variance of one sample with the arms pooled, shape (...)."""
    size, total = n.sum(-1), s.sum(-1)
    if kind is Kind.RATE:
        return np.asarray(total / size)
    squares = total if kind.is_binary else q.sum(-1)
    return np.asarray(np.maximum(squares - np.square(total) / size, 0.0) / size)
