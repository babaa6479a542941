"""From polls to evidence: everything about one comparison that a poll changes.

The same code serves one running experiment, with arrays of shape (), and a simulation of
thousands, with arrays of shape (runs,). What does not change from poll to poll is in `Design`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modelexperiment.core.stats.clusters import MINIMUM_BUCKETS, Clusters
from modelexperiment.core.stats.confidence_sequence import Array, Flags
from modelexperiment.core.stats.design import Design
from modelexperiment.core.stats.e_process import NODES, log_factors, mean_evidence
from modelexperiment.core.stats.looks import Look
from modelexperiment.core.stats.model import Kind, Method
from modelexperiment.core.stats.stratified import Counts, Strata, Summary

BURN_IN_EVENTS = 10
BURN_IN_OBSERVATIONS = 100
# A poll with less than two samples in an arm waits for the next ones, but only while waiting
# cannot pair hours of one arm with a minute of the other.
PATIENCE = 1_000


@dataclass(frozen=True)
class Evidence:
    """What polls have shown so far.

    Attributes:
        samples: counted into the sums, shape (..., 2).
        sums: successes, events or the sum of a mean, shape (..., 2).
        pending: increments that wait to be merged with the next poll's.
        pending_buckets: the same by bucket, samples and sums, shape (..., 2, 2, B); B may be 0.
        strata: the effect, poll by poll.
        clusters: the buckets' influence; B is 0 where requests are the unit.
        log_e: ln of the e-process for each effect, shape (..., 31).
        effect_scale: tau of the effects of the e-process; NaN before it has started.
        scale: tau of the confidence sequence in the metric's own units; NaN before burn-in.
        look: what the verdict rests on.
        log_p: ln of the p-value, which never rises.
    """

    samples: Array
    sums: Array
    pending: Counts
    pending_buckets: Array
    strata: Strata
    clusters: Clusters
    log_e: Array
    effect_scale: Array
    scale: Array
    look: Look
    log_p: Array

    @classmethod
    def start(cls, design: Design, shape: tuple[int, ...] = ()) -> Evidence:
        """Nothing seen yet."""
        buckets = design.buckets
        base = np.full(shape, design.settings.baseline or np.nan)
        return cls(
            samples=np.zeros((*shape, 2)),
            sums=np.zeros((*shape, 2)),
            pending=Counts.zeros(shape),
            pending_buckets=np.zeros((*shape, 2, 2, buckets)),
            strata=Strata.zeros(shape),
            clusters=Clusters.zeros(shape, buckets),
            log_e=np.zeros((*shape, NODES if design.exact else 0)),
            effect_scale=design.effect_scale(base) if design.exact else np.full(shape, np.nan),
            scale=np.full(shape, np.nan),
            look=Look.none(shape),
            log_p=np.zeros(shape),
        )

    def observe(self, design: Design, poll: Counts, buckets: Array | None = None) -> Evidence:
        """With one more poll.

        Args:
            design: of the comparison.
            poll: increments of both arms.
            buckets: their samples and sums by bucket, shape (..., 2, 2, B), in this order.
        """
        kind = design.settings.kind
        pending = self.pending + poll
        held = self.pending_buckets if buckets is None else self.pending_buckets + buckets
        least = 0.0 if kind is Kind.RATE else 1.0
        enough = (pending.n > least).all(-1) | (pending.n.max(-1) >= PATIENCE)
        return self._settle(design, pending, held, enough & pending.consistent(kind))

    def flush(self, design: Design) -> Evidence:
        """With what is pending counted now, as far as it can be: the split is about to change."""
        ready = self.pending.consistent(design.settings.kind)
        return self._settle(design, self.pending, self.pending_buckets, ready)

    def _settle(self, design: Design, pending: Counts, held: Array, ready: Flags) -> Evidence:
        kind = design.settings.kind
        batch = pending.where(ready)
        keep = ready[..., None, None, None]
        n, s = np.moveaxis(np.where(keep, held, 0.0), -3, 0)
        counted = replace(
            self,
            samples=self.samples + batch.n,
            sums=self.sums + batch.s,
            pending=pending.where(~ready),
            pending_buckets=np.where(keep, 0.0, held),
            strata=self.strata.add(batch, kind),
            clusters=self.clusters.add(n, s) if design.buckets else self.clusters,
            log_e=self._test(design, batch) if design.exact else self.log_e,
        )
        return counted._judge(design)

    def _test(self, design: Design, batch: Counts) -> Array:
        """The e-process after this batch, with the alternative chosen from what was before."""
        started = ~np.isnan(self.effect_scale) & (self.samples.sum(-1) > 0)
        base = design.pooled_value(self.samples, self.sums)
        nodes = np.where(started, self.effect_scale, 1.0)[..., None] * design.nodes
        gain = log_factors(design.family, batch.n, batch.s, base, nodes, design.null)
        return np.asarray(self.log_e + np.where(started[..., None], gain, 0.0))

    def _judge(self, design: Design) -> Evidence:
        summary = self.summary(design)
        warm = self.warm(design, summary)
        look = self.look.update(design, summary, self.strata.weight, self.samples, warm)
        sigma2 = self.strata.weight * summary.variance.sum(-1)
        first = np.isnan(self.scale) & warm & (sigma2 > 0)
        scale = np.where(first, design.scale(sigma2, summary.mean[..., 0]), self.scale)
        if design.exact:
            log_p = -mean_evidence(self.log_e)
        elif design.settings.method is Method.SEQUENTIAL:
            log_p = np.where(np.isnan(scale) | ~warm, 0.0, look.log_p(design, scale))
        else:
            log_p = look.log_p(design, scale)
        return replace(
            self,
            look=look,
            scale=scale,
            effect_scale=self._effect_scale(design),
            log_p=np.minimum(self.log_p, log_p),
        )

    def _effect_scale(self, design: Design) -> Array:
        """Fixed once, as soon as the pooled value is known roughly; the next poll uses it."""
        if not design.exact:
            return self.effect_scale
        base = design.pooled_value(self.samples, self.sums)
        fix = self._known(design) & np.isnan(self.effect_scale)
        return np.where(fix, design.effect_scale(base), self.effect_scale)

    def summary(self, design: Design) -> Summary:
        """The arms' values and variances now."""
        summary = self.strata.summary()
        if design.exact:
            return self._cautious(design, summary)
        if not design.buckets:
            return summary
        variance = self.clusters.variance(self.strata.weight)
        return replace(
            summary,
            variance=variance,
            null_variance=variance.sum(-1),
            degrees=self.clusters.degrees,
        )

    def _cautious(self, design: Design, summary: Summary) -> Summary:
        """With a variance that is not taken for small because an arm has seen few events.

        An arm without a single error has no variance of its own. As long as an arm has less than
        ten events, the variance is at least the one that both arms' events together give it.
        """
        few = ~self._enough(design).all(-1)
        lack = np.maximum(summary.null_variance - summary.variance.sum(-1), 0.0)
        extra = np.where(few, lack, 0.0)[..., None] / 2.0
        return replace(summary, variance=summary.variance + extra)

    def _enough(self, design: Design) -> Flags:
        """Whether each arm has what a normal approximation needs, shape (..., 2)."""
        kind = design.settings.kind
        if kind is Kind.MEAN:
            return self.samples >= BURN_IN_OBSERVATIONS
        enough = self.sums >= BURN_IN_EVENTS
        if kind.is_binary:
            enough &= self.samples - self.sums >= BURN_IN_EVENTS
        if design.buckets:
            enough &= self.clusters.active >= MINIMUM_BUCKETS
        return enough

    def warm(self, design: Design, summary: Summary) -> Flags:
        """Whether there is enough to show an interval, shape (...)."""
        enough = self._known(design) if design.exact else self._enough(design).all(-1)
        with np.errstate(invalid="ignore"):
            return np.asarray(enough & (summary.variance.sum(-1) > 0))

    def _known(self, design: Design) -> Flags:
        """Whether both arms together have enough events to know their pooled value roughly."""
        events, total = self.sums.sum(-1), self.samples.sum(-1)
        known = events >= BURN_IN_EVENTS
        if design.settings.kind.is_binary:
            known = known & (total - events >= BURN_IN_EVENTS)
        return np.asarray(known)
