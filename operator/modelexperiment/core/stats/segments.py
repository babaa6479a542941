"""The same question by segment: per value, all together, and whether the values differ.

Every value of a segment (ios, android, web) has a `Comparison` of its own. Subgroups are many
questions, so their p-values are adjusted by Holm. The overall effect weighs each value's effect by
its share of the samples, ``sum (N_s / N) d_s``, and so does not mix up a segment's effect with its
share of an arm. Heterogeneity is reported, and nothing is ever decided from one subgroup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from modelexperiment.core.stats.comparison import Comparison
from modelexperiment.core.stats.confidence_sequence import Array, critical_value
from modelexperiment.core.stats.correction import holm
from modelexperiment.core.stats.model import Interval, Method, Result, require


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's test of whether all values have the same effect.

    Attributes:
        statistic: ``Q = sum (d_s - d)^2 / v_s`` around the precision-weighted mean d.
        degrees: number of values less one.
        p_value: of chi-square, for a single look: it is descriptive, not anytime-valid.
    """

    statistic: float
    degrees: int
    p_value: float


@dataclass(frozen=True)
class SegmentReport:
    """What the values of one segment say.

    Attributes:
        results: by value.
        corrected: Holm's p-value by value; values without a verdict are left out.
        overall: the stratified effect over the values that have an interval, at every look; None
            where none has.
        heterogeneity: None with less than two values that have an interval.
    """

    results: dict[str, Result]
    corrected: dict[str, float]
    overall: Interval | None
    heterogeneity: Heterogeneity | None


def report_segments(
    comparisons: Mapping[str, Comparison], alpha: float | None = None
) -> SegmentReport:
    """Judge the values of one segment together.

    Args:
        comparisons: by value, all of the same settings.
        alpha: of each value's interval and of the overall one; the settings' own where left out.

    Raises:
        ValueError: there are none, or their settings differ.
    """
    settings = {comparison.settings for comparison in comparisons.values()}
    require(len(settings) == 1, "settings of segments", len(settings), "not exactly one")
    (common,) = settings
    level = common.alpha if alpha is None else alpha
    results = {value: c.result(level) for value, c in comparisons.items()}
    judged = [c for value, c in comparisons.items() if results[value].absolute is not None]
    found = {v: r.p_value for v, r in results.items() if r.p_value is not None}
    return SegmentReport(
        results=results,
        corrected=holm(found),
        overall=_overall(judged, level) if judged else None,
        heterogeneity=_heterogeneity(judged) if len(judged) > 1 else None,
    )


def _effects(comparisons: list[Comparison]) -> tuple[Array, Array]:
    """Effects and their variances, each of shape (S,)."""
    looks = [comparison.evidence.look for comparison in comparisons]
    effect = np.array([look.mean[1] - look.mean[0] for look in looks])
    return effect, np.array([look.variance.sum() for look in looks])


def _overall(comparisons: list[Comparison], alpha: float) -> Interval:
    effect, variance = _effects(comparisons)
    size = np.array([c.evidence.samples.sum() for c in comparisons])
    share = size / size.sum()
    centre, error2 = float(share @ effect), float(np.square(share) @ variance)
    settings = comparisons[0].settings
    if settings.method is Method.SEQUENTIAL:
        # All values have the same plan, so the overall test is tuned like theirs.
        scale = float(share @ np.array([float(c.evidence.scale) for c in comparisons]))
        bound = critical_value(np.array(scale**2 / error2), alpha, settings.one_sided)
    else:
        bound = stats.norm.isf(alpha if settings.one_sided else alpha / 2.0)
    half = float(bound) * error2**0.5
    return Interval(centre, centre - half, centre + half)


def _heterogeneity(comparisons: list[Comparison]) -> Heterogeneity:
    effect, variance = _effects(comparisons)
    mean = np.average(effect, weights=1.0 / variance)
    statistic = float((np.square(effect - mean) / variance).sum())
    degrees = len(effect) - 1
    return Heterogeneity(statistic, degrees, float(stats.chi2.sf(statistic, degrees)))
