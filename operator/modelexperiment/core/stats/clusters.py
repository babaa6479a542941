"""Users as the unit: hash buckets as clusters.

Requests of one user move together for as long as the experiment runs, and no variance that is
computed from requests knows it: on sticky traffic it is too small by the design effect, which
may be 30. Users fall into hash buckets, buckets are independent of each other, and so the scatter
of the buckets is an honest variance. The estimator stays the one of `stratified`; its influence
function is summed by arm and bucket,

    U_gb = sum_j w_j (s_jgb - m_jg n_jgb) / n_jg,   SE^2 = B / (B - 1) sum_gb U_gb^2 / (sum w_j)^2

with Student's t of B_a + B_b - 2 degrees of freedom, B_g the buckets in which arm g has requests.
Each poll's term is multiplied by sqrt(n_jg / (n_jg - 1)), since the residuals around a mean of
few requests are too small by that. By simulation with 64 buckets and a look at every poll, false
positives are at the promised rate where requests as the unit give up to 82 % (see
docs/calibration.md).

Arrays have any leading axes, then the arm (2), then the bucket (B).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelexperiment.core.stats.confidence_sequence import Array

MINIMUM_BUCKETS = 24
DOMINATING_SHARE = 0.1
# With fewer requests in an arm, a share says nothing about users yet.
_SHARE_SAMPLES = 500.0


def shorten(values: Array) -> Array:
    """Each value rounded to single precision, so that a state of 256 of them stays small.

    Rounding is part of the update, not of writing the state down: what continues from a state
    that was read back is bit for bit what would have continued without. What single precision
    can't hold stays as it is.
    """
    held = np.abs(values) < np.finfo(np.float32).max
    single = np.where(held, values, 0.0).astype(np.float32).astype(np.float64)
    return np.asarray(np.where(held, single, values))


@dataclass(frozen=True)
class Clusters:
    """Influence and samples by arm and bucket, each of shape (..., 2, B)."""

    influence: Array
    samples: Array

    @classmethod
    def zeros(cls, shape: tuple[int, ...], buckets: int) -> Clusters:
        """No polls yet."""
        return cls(*np.zeros((2, *shape, 2, buckets)))

    def add(self, n: Array, s: Array) -> Clusters:
        """With one more poll: samples and sums by bucket, each of shape (..., 2, B)."""
        size = n.sum(-1, keepdims=True)
        usable = (size >= 2).all(axis=-2, keepdims=True)
        safe = np.where(usable, size, 2.0)
        weight = safe.prod(axis=-2, keepdims=True) / safe.sum(axis=-2, keepdims=True)
        mean = s.sum(-1, keepdims=True) / safe
        small = np.sqrt(safe / (safe - 1.0))
        change = small * weight * (s - mean * n) / safe
        influence = shorten(self.influence + np.where(usable, change, 0.0))
        return Clusters(influence, self.samples + n)

    @property
    def active(self) -> Array:
        """How many buckets have requests, by arm, shape (..., 2)."""
        return np.asarray((self.samples > 0).sum(-1).astype(np.float64))

    def variance(self, weight: Array) -> Array:
        """The variance of each arm's mean, shape (..., 2), given sum w of shape (...)."""
        spread = np.square(self.influence).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = self.active / (self.active - 1.0)
            return np.asarray(factor * spread / np.square(weight)[..., None])

    @property
    def degrees(self) -> Array:
        """Degrees of freedom of the variance of the effect, shape (...)."""
        return np.asarray(np.maximum(self.active.sum(-1) - 2.0, 1.0))

    @property
    def largest_share(self) -> Array:
        """The share of an arm's requests that its largest bucket has, shape (..., 2).

        An arm with few requests is taken to have at least 500.
        """
        total = np.maximum(self.samples.sum(-1), _SHARE_SAMPLES)
        return np.asarray(self.samples.max(-1) / total)
