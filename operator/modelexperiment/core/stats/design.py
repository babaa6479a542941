"""What the settings of a comparison mean for the engines, and how the priors are tuned.

A mixture's prior N(0, tau^2) decides when the test is sharpest. It is tuned to the planned sample
size: where that is reached, the information ``tau^2 / SE^2`` is the one of
`confidence_sequence.tuned_information`. Without a planned size it is tuned to the one at which a
single look would find ``minimum_effect``; to be sharp that early finds larger effects sooner and
costs nothing later. Without either, to 10,000 samples an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from modelexperiment.core.stats.confidence_sequence import Array, tuned_information
from modelexperiment.core.stats.e_process import Bernoulli, Family, Null, Poisson, unit_nodes
from modelexperiment.core.stats.model import Kind, Method, Settings, Unit
from modelexperiment.core.stats.planning import sample_size, sample_variance

UNPLANNED_SAMPLES = 10_000
# Odds that differ by more than a factor of twenty need no planning to be found.
_WIDEST = 3.0


@dataclass(frozen=True, eq=False)
class Design:
    """Constants of one comparison.

    Attributes:
        settings: what they come from.
        exact: whether the p-value is that of the exact e-process.
        buckets: number of clusters, 0 where requests are the unit.
        null: the edge of the null.
        family: how counts are distributed, for the e-process.
        nodes: its 31 effects for tau = 1.
        information: ``tau^2 / SE^2`` where the tests are tuned to be sharpest.
        planned_samples: of the smaller arm; 0 where none are planned.
        planned_weight: ``n_a n_b / (n_a + n_b)`` at the planned size; 0 where none is planned.
        z_squared: of the minimum effect over its standard error, where a single look finds it.
    """

    settings: Settings
    exact: bool
    buckets: int
    null: Null
    family: Family
    nodes: Array
    information: float
    planned_samples: int
    planned_weight: float
    z_squared: float

    def effect_scale(self, base: Array) -> Array:
        """tau of log odds (for rates: log ratios) at the pooled value ``base``."""
        variance = self.family.variance(base)
        return np.minimum(self.scale(variance, base) / variance, _WIDEST)

    def scale(self, variance: Array, champion: Array) -> Array:
        """tau in the metric's own units.

        Args:
            variance: of one sample; the effect's variance is this over the weight.
            champion: the champion's value.
        """
        weight = self.planned_weight
        if not weight:
            effect = self.settings.minimum_effect
            if effect is not None and effect.size > 0:
                size = effect.absolute or np.abs(champion) * (effect.relative or 0.0) / 100.0
                return np.asarray(np.sqrt(self.information / self.z_squared) * size)
            weight = UNPLANNED_SAMPLES / 2.0
        return np.asarray(np.sqrt(self.information * variance / weight))

    def pooled_value(self, samples: Array, sums: Array) -> Array:
        """Both arms' value with half an event added, so that it is never 0 (nor 1)."""
        total, events = samples.sum(-1), sums.sum(-1)
        if self.settings.kind is Kind.RATE:
            return np.asarray((events + 0.5) / np.where(total > 0, total, 1.0))
        return np.asarray((events + 0.5) / (total + 1.0))


@lru_cache(maxsize=1024)
def design_of(settings: Settings) -> Design:
    """The design of these settings."""
    one_sided, alpha, power = settings.one_sided, settings.alpha, settings.power
    by_request = settings.unit is Unit.REQUEST
    sequential = settings.method is Method.SEQUENTIAL
    z = stats.norm.isf(alpha if one_sided else alpha / 2.0) + stats.norm.ppf(power)
    planned = _planned(settings)
    return Design(
        settings=settings,
        exact=sequential and by_request and settings.kind is not Kind.MEAN,
        buckets=0 if by_request else settings.buckets,
        null=Null(*settings.null_line),
        family=Poisson if settings.kind is Kind.RATE else Bernoulli,
        nodes=unit_nodes(one_sided, settings.goal.sign),
        information=tuned_information(2.0 * alpha if one_sided else alpha),
        planned_samples=planned,
        planned_weight=planned * settings.ratio / (1.0 + settings.ratio),
        z_squared=float(z**2),
    )


def _planned(settings: Settings) -> int:
    """Samples of the smaller arm; 0 where a sequential test needs no plan."""
    baseline, effect = settings.baseline, settings.minimum_effect
    if settings.sample_size is not None or settings.method is Method.SEQUENTIAL:
        return settings.sample_size or 0
    assert baseline is not None
    assert effect is not None
    size = effect.of(baseline)
    other = baseline + settings.goal.sign * size
    if settings.kind.is_binary:
        other = min(max(other, 0.0), 1.0)
    needed = sample_size(
        effect=size,
        champion_variance=sample_variance(settings.kind, baseline),
        challenger_variance=sample_variance(settings.kind, max(other, 0.0)),
        alpha=settings.alpha,
        power=settings.power,
        ratio=1.0 / settings.ratio,
        one_sided=settings.one_sided,
        method=settings.method,
        looks=settings.looks,
    )
    return needed.challenger
