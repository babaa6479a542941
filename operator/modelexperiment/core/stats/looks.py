"""What a verdict rests on: the look, its p-value, its interval.

The sequential method looks at every poll. A group-sequential test looks until its information is
complete, at every poll or at scheduled fractions, and a fixed horizon looks once; after the last
look nothing that comes later moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from modelexperiment.core.stats import confidence_sequence as sequence
from modelexperiment.core.stats import horizon
from modelexperiment.core.stats.confidence_sequence import Array, Flags
from modelexperiment.core.stats.design import Design
from modelexperiment.core.stats.model import Kind, Method, Unit
from modelexperiment.core.stats.stratified import Summary

_LEAST_P = 1e-300
_FARTHEST = 100.0


@dataclass(frozen=True)
class Look:
    """The arms as they were at the last look.

    Attributes:
        mean: shape (..., 2).
        variance: of the means, shape (..., 2).
        null_variance: of the difference with the arms pooled, shape (...).
        degrees: of freedom, shape (...); NaN for a variance that counts as known.
        fraction: of the planned information, at most 1, shape (...).
        number: how many looks there were, shape (...).
        size: samples of each arm, shape (..., 2).
    """

    mean: Array
    variance: Array
    null_variance: Array
    degrees: Array
    fraction: Array
    number: Array
    size: Array

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Look:
        """Not looked yet."""
        two, one = np.full((*shape, 2), np.nan), np.full(shape, np.nan)
        return cls(two, two, one, one, np.zeros(shape), np.zeros(shape), two)

    def update(
        self, design: Design, summary: Summary, weight: Array, samples: Array, warm: Flags
    ) -> Look:
        """The look after one more poll: a new one where it is time for it, else the same."""
        settings = design.settings
        fraction, number = np.zeros_like(weight), self.number + 1.0
        if settings.method is Method.SEQUENTIAL:
            due = warm
        elif settings.method is Method.FIXED_HORIZON:
            due = (samples.min(-1) >= design.planned_samples) & (self.number == 0)
            fraction = np.ones_like(weight)
        else:
            fraction = np.minimum(weight / design.planned_weight, 1.0)
            due = warm & (self.fraction < 1.0)
            if settings.looks is not None:
                number = np.floor(fraction * settings.looks + 1e-9)
                due = warm & (number > self.number)
        with np.errstate(invalid="ignore"):
            due = due & (summary.variance.sum(-1) > 0)
        degrees = _welch(design, summary, samples)
        return Look(
            np.where(due[..., None], summary.mean, self.mean),
            np.where(due[..., None], summary.variance, self.variance),
            np.where(due, summary.null_variance, self.null_variance),
            np.where(due, degrees, self.degrees),
            np.where(due, fraction, self.fraction),
            np.where(due, number, self.number),
            np.where(due[..., None], samples, self.size),
        )

    def log_p(self, design: Design, scale: Array) -> Array:
        """ln of the p-value of this look; 0 where there was none.

        Args:
            design: of the comparison.
            scale: tau of the confidence sequence.
        """
        settings, one_sided = design.settings, design.settings.one_sided
        z, variance = self._z(design)
        looked = self.number > 0
        z = np.where(looked, z, 0.0)
        if settings.method is Method.SEQUENTIAL:
            x = np.square(scale) / np.where(looked, variance, 1.0)
            return np.where(looked, -np.maximum(sequence.log_evidence(z, x, one_sided), 0.0), 0.0)
        if settings.method is Method.FIXED_HORIZON:
            p = stats.norm.sf(z) if one_sided else 2.0 * stats.norm.sf(np.abs(z))
        elif settings.looks is None:
            p = horizon.continuous_p_value(z, self.fraction, one_sided)
        else:
            p = horizon.scheduled_p_value(z, self.number, settings.looks, one_sided)
        return np.where(looked, np.log(np.maximum(p, _LEAST_P)), 0.0)

    def _z(self, design: Design) -> tuple[Array, Array]:
        """The distance from the null in standard errors, and the variance used for it."""
        settings, null = design.settings, design.null
        distance = self.mean[..., 1] - null.slope * self.mean[..., 0] - null.offset
        variance = self.variance[..., 1] + null.slope**2 * self.variance[..., 0]
        if settings.method is Method.FIXED_HORIZON and _is_score_test(design):
            variance = self.null_variance
        sign = settings.goal.sign if settings.one_sided else 1.0
        z = sign * distance / np.sqrt(variance)
        return sequence.normal_equivalent(z, self.degrees), variance

    def critical_value(self, design: Design, scale: Array, alpha: float) -> Array:
        """Half the width of an interval at level alpha, in standard errors."""
        settings, one_sided = design.settings, design.settings.one_sided
        if settings.method is Method.SEQUENTIAL:
            x = np.square(scale) / self.variance.sum(-1)
            z = sequence.critical_value(x, alpha, one_sided)
        elif settings.method is Method.FIXED_HORIZON:
            z = np.full_like(scale, stats.norm.isf(alpha if one_sided else alpha / 2.0))
        elif settings.looks is None:
            z = horizon.continuous_constant(alpha, one_sided) / np.sqrt(self.fraction)
        else:
            z = horizon.scheduled_bound(self.number, settings.looks, alpha, one_sided)
        return sequence.student_equivalent(z, self.degrees)

    def growth_until_rejection(self, design: Design, scale: Array, alpha: float) -> float | None:
        """By how much the data must grow until the null is rejected, if the estimate stays.

        At least 1; None where a hundredfold is not enough. For a single, sequential comparison.
        """
        z, variance = (float(value) for value in self._z(design))
        growth = np.geomspace(1.0, _FARTHEST, 2_000)
        x = growth * float(scale) ** 2 / variance
        evidence = sequence.log_evidence(z * np.sqrt(growth), x, design.settings.one_sided)
        enough = np.flatnonzero(evidence >= -np.log(alpha))
        return float(growth[enough[0]]) if enough.size else None

    def absolute(self, design: Design, scale: Array, alpha: float) -> tuple[Array, Array, Array]:
        """Effect, lower and upper bound in the metric's own units."""
        effect = self.mean[..., 1] - self.mean[..., 0]
        if design.settings.method is Method.FIXED_HORIZON and _is_score_test(design):
            # What the combined polls are worth in trials; with a single poll it is their number.
            with np.errstate(divide="ignore", invalid="ignore"):
                worth = self.mean * (1.0 - self.mean) / self.variance + 1.0
            size = np.where(self.variance > 0, worth, self.size)
            bounds = horizon.newcombe_interval(self.mean, size, alpha, design.settings.one_sided)
            return effect, *bounds
        half = self.critical_value(design, scale, alpha) * np.sqrt(self.variance.sum(-1))
        return effect, effect - half, effect + half

    def relative(self, design: Design, scale: Array, alpha: float) -> tuple[Array, Array, Array]:
        """Lift, lower and upper bound in percent; NaN where a mean is not above 0.

        The interval is the one of the logarithm of the ratio, whose variance is
        ``v_b / m_b^2 + v_a / m_a^2``; on skewed data it errs far less than the ratio's own.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(self.mean > 0, self.mean, np.nan)
            centre = np.log(mean[..., 1] / mean[..., 0])
            error = np.sqrt((self.variance / np.square(mean)).sum(-1))
        half = self.critical_value(design, scale, alpha) * error
        lift, lower, upper = (100.0 * np.expm1(v) for v in (centre, centre - half, centre + half))
        return lift, lower, upper


def _is_score_test(design: Design) -> bool:
    """Whether the variance may be taken under the null: equal proportions, requests as unit."""
    settings = design.settings
    return settings.kind.is_binary and settings.unit is Unit.REQUEST and settings.margin is None


def _welch(design: Design, summary: Summary, samples: Array) -> Array:
    """Degrees of freedom: Welch's for a mean that is looked at once, else the summary's own."""
    settings = design.settings
    once = settings.method is Method.FIXED_HORIZON and settings.kind is Kind.MEAN
    if not once or settings.unit is Unit.USER:
        return summary.degrees
    freedom = np.maximum(samples - 1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (np.square(summary.variance) / freedom).sum(-1)
        welch = np.square(summary.variance.sum(-1)) / parts
    return np.where(np.isnan(summary.degrees), welch, summary.degrees)
