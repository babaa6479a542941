"""Asymptotic confidence sequences: intervals and evidence that hold at every look.

A confidence interval promises its coverage at one look; a confidence sequence promises it at all
looks together. Here it is the normal mixture of Robbins: the likelihood ratio of an estimate
against the null, averaged over effects drawn from N(0, tau^2). Such an average is a martingale
under the null, so it ever exceeds 1/alpha with probability at most alpha (Ville's inequality).
With an estimated standard error this holds asymptotically: Waudby-Smith, Arbour, Sinha, Kennedy
and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics 52 (2024).

In all of the module ``z`` is the estimate over its standard error SE, and ``x = tau^2 / SE^2`` is
the information so far in units of the prior's. Arrays broadcast.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_TINY = np.finfo(np.float64).tiny


def tuned_information(alpha: float) -> float:
    """The ``x`` at which the sequence tuned by it is narrowest, relative to its best.

    Tuning means to choose tau such that the planned sample size has this information: 7.936 at
    alpha = 0.05. The formula is the approximation of Waudby-Smith et al., section 3.5, which
    GrowthBook uses as well.
    """
    return -2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))


def critical_value(x: Array, alpha: float, one_sided: bool) -> Array:
    """The |z| (or z) from which on the null is rejected at level alpha; infinite at x = 0."""
    with np.errstate(divide="ignore"):
        inflation = 1.0 + 1.0 / np.asarray(x, dtype=np.float64)
    if one_sided:
        bound = 2.0 * inflation * np.log1p(np.sqrt(1.0 + x) / (2.0 * alpha))
    else:
        bound = inflation * (np.log1p(x) - 2.0 * math.log(alpha))
    return np.asarray(np.sqrt(bound))


def log_evidence(z: Array, x: Array, one_sided: bool) -> Array:
    """Logarithm of the evidence E against the null; it rejects at level alpha when E >= 1/alpha.

    Two-sided it is the mixture itself. One-sided (against z <= 0) it is the closed-form lower
    bound of the half-normal mixture, the same one that `critical_value` inverts, so that
    evidence and interval always agree.
    """
    exponent = x * np.square(z) / (2.0 * (1.0 + x))
    discount = 0.5 * np.log1p(x)
    if not one_sided:
        return np.asarray(exponent - discount)
    # ln(e^y - 1), written so that it neither overflows for large y nor takes a log of zero.
    surplus = exponent + np.log(np.maximum(-np.expm1(-exponent), _TINY))
    return np.asarray(np.where(z > 0, math.log(2.0) + surplus - discount, -np.inf))


def normal_equivalent(t: Array, degrees: Array) -> Array:
    """The z of the same tail probability as Student's t; ``degrees`` of NaN stand for normal."""
    if np.isnan(degrees).all():
        return t
    df = np.where(np.isnan(degrees), np.inf, degrees)
    tail = np.maximum(stats.t.sf(np.abs(t), df), _TINY)
    return np.asarray(np.where(np.isnan(degrees), t, np.sign(t) * stats.norm.isf(tail)))


def student_equivalent(z: Array, degrees: Array) -> Array:
    """The inverse of `normal_equivalent` for critical values, z >= 0."""
    if np.isnan(degrees).all():
        return z
    df = np.where(np.isnan(degrees), np.inf, degrees)
    tail = np.maximum(stats.norm.sf(z), _TINY)
    return np.asarray(np.where(np.isnan(degrees), z, stats.t.isf(tail, df)))
