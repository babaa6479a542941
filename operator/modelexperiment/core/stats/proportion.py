"""A confidence sequence for one proportion: an interval that holds at every look.

The likelihood of all trials so far, averaged over a prior and divided by the likelihood at p, is a
martingale if p is the true value. It ever reaches 1/alpha with probability at most alpha (Ville's
inequality), so the values that it does not rule out are an interval for p that holds at every
look. With a beta prior the average is in closed form: Robbins, "Statistical methods related to the
law of the iterated logarithm", Annals of Mathematical Statistics 41 (1970), section 4.

The prior is Beta(1, 1/expected - 1), that of `threshold.beta_binomial_log_evidence`: its mean is
the value that the proportion is going to be held against, around which the interval is to be
narrow. No promise depends on it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.e_process import Bernoulli
from modelexperiment.core.stats.model import require

# Beyond these a float can't tell a probability from 0 or 1.
_LEAST = 1e-12


def mixture_log_evidence(n: Array, s: Array, p: Array, expected: float) -> Array:
    """ln E against the proportion being just p.

    Args:
        n: trials, shape (...).
        s: successes, shape (...).
        p: a probability, strictly between 0 and 1, shape (...).
        expected: the prior's mean, above 0 and below 1.
    """
    a, b = 1.0, 1.0 / expected - 1.0
    mixture = special.betaln(a + s, b + n - s) - special.betaln(a, b)
    return np.asarray(mixture - Bernoulli.log_likelihood(n, s, np.asarray(p)))


def proportion_interval(n: float, s: float, alpha: float, expected: float) -> tuple[float, float]:
    """The lower and the upper bound of a proportion, at every look together.

    The chance that the true value is ever below the lower or above the upper bound is at most
    alpha; so is that of each of the two alone, which is what a one-sided question needs.

    Args:
        n: trials so far.
        s: successes among them.
        alpha: the chance that the interval ever misses the proportion.
        expected: around which value it is to be narrow; 1 stands for anything.

    Raises:
        ValueError: there are more successes than trials, or a number is out of its range.
    """
    require(0 < alpha < 1, "alpha", alpha, "not between 0 and 1")
    require(0 < expected <= 1, "expected", expected, "not above 0 and at most 1")
    require(0 <= s <= n, "successes", s, f"not between 0 and the {n:g} trials")
    if n == 0:
        return 0.0, 1.0
    level, centre = -math.log(alpha), min(max(s / n, _LEAST), 1.0 - _LEAST)
    prior = min(expected, 0.5)

    def surplus(p: float) -> float:
        found = mixture_log_evidence(np.asarray(n), np.asarray(s), np.asarray(p), prior)
        return float(found) - level

    # The evidence falls up to the proportion seen, where it is least, and rises from there on.
    lower = 0.0 if s == 0 or surplus(_LEAST) < 0 else optimize.brentq(surplus, _LEAST, centre)
    top = 1.0 - _LEAST
    upper = 1.0 if s == n or surplus(top) < 0 else optimize.brentq(surplus, centre, top)
    return float(lower), float(upper)
