"""How far two distributions are apart that are known by the bins of a histogram.

Both measures here are descriptive: they have no error rate, and small samples make them larger
than they are. For the Jensen-Shannon divergence see Lin, "Divergence measures based on the Shannon
entropy", IEEE Transactions on Information Theory 37 (1991). The population stability index is the
symmetric Kullback-Leibler divergence in nats.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.model import require

SMOOTHING = 0.5
"""Added to the count of every bin for the population stability index: an empty bin would make it
infinite."""


def bins_of(cumulative: Mapping[float, float]) -> dict[float, float]:
    """The count of each bin by its upper edge, from counts up to each edge.

    Raises:
        ValueError: a count is less than that of a lower edge.
    """
    bins: dict[float, float] = {}
    below = 0.0
    for edge, count in sorted(cumulative.items()):
        require(count >= below, "count", count, f"not the {below:g} of the edge before {edge:g}")
        bins[edge] = count - below
        below = count
    return bins


def jensen_shannon(one: Array, other: Array) -> float:
    """The Jensen-Shannon divergence in bits: 0 for the same distribution, 1 for disjoint ones.

    Args:
        one: counts by bin, shape (K,); not all zero.
        other: those of the other distribution, in the same bins.
    """
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2.0
    # The root of it, which is a distance, is what scipy.spatial.distance.jensenshannon gives.
    found = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0
    return float(min(max(found, 0.0), 1.0))


def _relative_entropy(p: Array, q: Array) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def stability_index(expected: Array, actual: Array) -> float:
    """The population stability index: 0 for the same distribution, without a bound from above.

    ``sum (q - p) ln(q / p)`` over the bins, with `SMOOTHING` added to every count before the shares
    p and q are taken.

    Args:
        expected: counts by bin, shape (K,).
        actual: those of the other distribution, in the same bins.
    """
    p = (expected + SMOOTHING) / (expected + SMOOTHING).sum()
    q = (actual + SMOOTHING) / (actual + SMOOTHING).sum()
    return float(np.sum((q - p) * np.log(q / p)))
