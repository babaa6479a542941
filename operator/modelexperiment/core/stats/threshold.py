"""Evidence against an absolute limit, and evidence about something that begins late.

`beta_binomial_log_evidence` and the `log_factors` of this module test one arm against a fixed
number. `StartTimeMixture` turns the factors of any test into one that also finds quickly what
breaks only after a long time without fault: a cumulative test must first win back what it lost
while all was well, so the mixture starts anew at every poll with a small part of its capital,

    M_g <- exp(factor_g) (M_g + w_j),  w_j = 1 / (j (j + 1)),   E = mean_g M_g + 1 / (j + 1)

and is an e-process, since it is an average of e-processes that start at each j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.e_process import NODES, Bernoulli, Family, mean_evidence


@dataclass(frozen=True, eq=False)
class StartTimeMixture:
    """An e-process over the poll at which something began.

    Attributes:
        log_m: ln M by effect, shape (..., 31); minus infinity before the first poll.
        polls: how many there were.
    """

    log_m: Array
    polls: int = 0

    @classmethod
    def start(cls, shape: tuple[int, ...] = ()) -> StartTimeMixture:
        """Nothing seen yet."""
        return cls(np.full((*shape, NODES), -np.inf))

    def add(self, factors: Array) -> StartTimeMixture:
        """With the ln factors of one more poll, shape (..., 31)."""
        polls = self.polls + 1
        stake = -math.log(polls) - math.log(polls + 1.0)
        return StartTimeMixture(factors + np.logaddexp(self.log_m, stake), polls)

    @property
    def log_evidence(self) -> Array:
        """ln E, shape (...)."""
        reserve = -math.log(self.polls + 1.0)
        if self.polls == 0:
            return np.zeros(self.log_m.shape[:-1])
        return np.asarray(np.logaddexp(mean_evidence(self.log_m), reserve))


def log_factors(family: Family, n: Array, s: Array, limit: float, nodes: Array) -> Array:
    """What one poll of one arm adds to ln E of each effect, against "at most the limit".

    With negative nodes it is against "at least the limit". The likelihood ratio has expectation
    1 at the limit, and less on the safe side of it.

    Args:
        family: how counts are distributed.
        n: trials or exposure, shape (...).
        s: successes or events, shape (...).
        limit: the probability or the rate.
        nodes: log odds (or log ratios) from the limit, shape (K,).
    """
    at = np.asarray(limit, dtype=np.float64)
    n, s = n[..., None], s[..., None]
    beyond = family.log_likelihood(n, s, family.mean(family.natural(at) + nodes))
    return np.asarray(beyond - family.log_likelihood(n, s, at))


def gaussian_log_factors(excess: Array, variance: Array, shifts: Array) -> Array:
    """The same for a mean, by its normal approximation.

    Args:
        excess: of the mean of the poll over the limit, shape (...).
        variance: of this mean, shape (...).
        shifts: the effects in the metric's own units, shape (..., K).
    """
    return np.asarray(shifts * (excess[..., None] - shifts / 2.0) / variance[..., None])


def beta_binomial_log_evidence(n: Array, s: Array, limit: float) -> Array:
    """ln E against a probability of at most the limit, from all trials together.

    The alternative is a Beta(1, 1/limit - 1) prior, whose mean is the limit, cut to what lies
    above it: ``E = B(a+s, b+f) I(a+s, b+f) / (B(a, b) I(a, b) p0^s (1-p0)^f)`` with I the upper
    tail of the beta distribution.
    """
    a, b, f = 1.0, 1.0 / limit - 1.0, n - s
    with np.errstate(divide="ignore"):
        tail = np.log(special.betaincc(a + s, b + f, limit))
    prior = special.betaln(a, b) + math.log(special.betaincc(a, b, limit))
    posterior = special.betaln(a + s, b + f) + tail
    return np.asarray(posterior - prior - Bernoulli.log_likelihood(n, s, np.asarray(limit)))
