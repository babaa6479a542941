"""Guardrails: is a challenger doing harm? Asked at every poll, with a bounded false-alarm rate.

A guardrail is a limit: an absolute one, or one against the champion with a margin. Its test
collects evidence that the limit is broken; while it is kept, the evidence ever reaches 1/alpha with
probability at most alpha, whenever and however often one looks. Counts (proportions, bucket
exceedances, rates) are tested exactly, means by the normal approximation of each poll.

With users as the unit, evidence comes from hash buckets (see `clusters`) and a confidence sequence
without a start-time mixture, since requests of the same users are no evidence of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelexperiment.core.stats.arms import bucket_counts, request_counts
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.e_process import NODES, unit_nodes
from modelexperiment.core.stats.e_process import log_factors as two_arm_factors
from modelexperiment.core.stats.evidence import BURN_IN_OBSERVATIONS, PATIENCE, Evidence
from modelexperiment.core.stats.limits import Limit
from modelexperiment.core.stats.model import Estimate, Kind, Poll, Unit, require
from modelexperiment.core.stats.state import (
    decode,
    encode,
    evidence_from_state,
    evidence_to_state,
)
from modelexperiment.core.stats.stratified import Counts
from modelexperiment.core.stats.threshold import (
    StartTimeMixture,
    beta_binomial_log_evidence,
    gaussian_log_factors,
    log_factors,
)

# How far beyond the limit a breach is expected: log odds (or log ratios) for counts, standard
# deviations for means. Doubled errors are 0.7, fivefold ones 1.6.
COUNT_SCALE = 1.0
MEAN_SCALE = 0.5
_VERSION = 1
_LARGEST = 700.0


@dataclass(frozen=True, eq=False)
class GuardrailTest:
    """Evidence that one challenger breaks one limit.

    Attributes:
        limit: what is allowed.
        seen: samples, sums and sums of squares around each poll's mean, of both arms.
        pending: increments that wait to be merged with the next poll's.
        mixture: the evidence of requests.
        evidence: that of users; None where requests are the unit.
        polls: how many were counted.
        log_peak: ln of the most evidence there ever was.
    """

    limit: Limit
    seen: Counts
    pending: Counts
    polls: int
    mixture: StartTimeMixture
    evidence: Evidence | None
    log_peak: float

    @classmethod
    def start(cls, limit: Limit) -> GuardrailTest:
        """Nothing seen yet."""
        users = limit.unit is Unit.USER
        return cls(
            limit=limit,
            seen=Counts.zeros(()),
            pending=Counts.zeros(()),
            polls=0,
            mixture=StartTimeMixture.start(),
            evidence=Evidence.start(limit.design()) if users else None,
            log_peak=0.0,
        )

    def observe(self, poll: Poll) -> GuardrailTest:
        """With one more poll; for an absolute limit the champion's part is not looked at.

        Raises:
            ValueError: a number is impossible for the kind of metric.
        """
        if self.limit.absolute is not None:
            # The test by buckets wants two arms; against a number the other one has no say.
            other, buckets = poll.challenger, poll.challenger_buckets
            poll = Poll(other, other, buckets, buckets)
        if self.evidence is not None:
            return self._observe_users(poll, self.evidence)
        pending = self.pending + request_counts(poll, self.limit.kind)
        # A mean's variance in a poll needs two samples of each arm.
        least = 1.0 if self.limit.kind is Kind.MEAN else 0.0
        enough = bool((pending.n > least).all() or pending.n.max() >= PATIENCE)
        waiting = replace(self, pending=pending)
        return waiting._count() if enough else waiting

    def new_phase(self) -> GuardrailTest:
        """To be called when the split changes: nothing waits across the change."""
        if self.evidence is not None:
            return replace(self, evidence=self.evidence.flush(self.limit.design()))
        return self._count()

    def _observe_users(self, poll: Poll, evidence: Evidence) -> GuardrailTest:
        split = bucket_counts(poll, self.limit.kind, self.limit.buckets)
        if split is None:
            return self
        evidence = evidence.observe(self.limit.design(), *split)
        return replace(self, evidence=evidence, log_peak=-float(evidence.log_p))

    def _count(self) -> GuardrailTest:
        """With what is pending counted, where its numbers can belong together."""
        poll = self.pending
        if not poll.n.any() or not poll.consistent(self.limit.kind):
            return self
        residual = _residual(poll) if self.limit.kind is Kind.MEAN else np.zeros(2)
        seen = Counts(self.seen.n + poll.n, self.seen.s + poll.s, self.seen.q + residual)
        factors = self._factors(poll, seen) if (poll.n > 0).all() else None
        tested = replace(
            self,
            seen=seen,
            pending=Counts.zeros(()),
            polls=self.polls + 1,
            mixture=self.mixture if factors is None else self.mixture.add(factors),
        )
        return replace(tested, log_peak=max(self.log_peak, tested.log_evidence))

    def _factors(self, poll: Counts, seen: Counts) -> Array | None:
        """ln factors of this poll by effect; None while there is nothing to test with."""
        limit, past = self.limit, self.seen
        nodes = unit_nodes(one_sided=True, sign=limit.sign)
        if limit.kind is Kind.MEAN:
            return self._mean_factors(poll, seen, MEAN_SCALE * nodes)
        nodes = COUNT_SCALE * nodes
        if limit.absolute is not None:
            return log_factors(limit.family, poll.n[1], poll.s[1], limit.absolute, nodes)
        total, events = float(past.n.sum()), float(past.s.sum())
        if total == 0:
            return None
        base = (events + 0.5) / (total + (1.0 if limit.kind.is_binary else 0.0))
        return two_arm_factors(limit.family, poll.n, poll.s, np.asarray(base), nodes, limit.null)

    def _mean_factors(self, poll: Counts, seen: Counts, nodes: Array) -> Array | None:
        """Against a limit on a mean, with the variance within all polls so far.

        This poll's own part of it is counted: what breaks late may also vary more.
        """
        if (self.seen.n < BURN_IN_OBSERVATIONS).any() or (poll.n < 2).any():
            return None
        variance = seen.q / np.maximum(seen.n - self.polls - 1.0, 1.0)
        if not (variance > 0).all():
            return None
        null, mean = self.limit.null, poll.s / poll.n
        excess = mean[1] - null.slope * mean[0] - null.offset
        error2 = variance[1] / poll.n[1] + null.slope**2 * variance[0] / poll.n[0]
        return gaussian_log_factors(
            np.asarray(excess), np.asarray(error2), nodes * math.sqrt(variance[1])
        )

    @property
    def log_evidence(self) -> float:
        """ln of the evidence now that the limit is broken."""
        if self.evidence is not None:
            return -float(self.evidence.log_p)
        late = float(self.mixture.log_evidence)
        limit = self.limit
        if limit.absolute is None or not limit.kind.is_binary:
            return late
        n, s, edge = self.seen.n[1], self.seen.s[1], limit.absolute
        if limit.sign < 0:
            s, edge = n - s, 1.0 - edge
        early = float(beta_binomial_log_evidence(np.asarray(n), np.asarray(s), edge))
        return float(np.logaddexp(late, early)) - math.log(2.0)

    @property
    def e_value(self) -> float:
        """The evidence now that the limit is broken; 1 stands for none either way."""
        return math.exp(min(self.log_evidence, _LARGEST))

    @property
    def p_value(self) -> float:
        """Anytime-valid; it never rises."""
        return math.exp(-self.log_peak)

    def breached(self, alpha: float) -> bool:
        """Whether the limit counts as broken, with false alarms at a rate of at most alpha."""
        require(0 < alpha < 1, "alpha", alpha, "not between 0 and 1")
        return self.log_peak >= -math.log(alpha)

    @property
    def estimates(self) -> tuple[Estimate, Estimate]:
        """Samples and values of champion and challenger, all polls together."""
        seen = self.seen if self.evidence is None else self.evidence
        n, s = (seen.n, seen.s) if isinstance(seen, Counts) else (seen.samples, seen.sums)
        champion, challenger = (
            Estimate(float(size), float(total / size) if size > 0 else None)
            for size, total in zip(n, s, strict=True)
        )
        return champion, challenger

    @property
    def withheld(self) -> str | None:
        """One sentence that says why there is no evidence yet, or None."""
        if self.evidence is not None:
            if self.evidence.look.number > 0:
                return None
            return "Too few users' hash buckets, or too few events in them, were seen."
        if self.mixture.polls > 0:
            return None
        if self.limit.kind is Kind.MEAN:
            if np.isnan(self.seen.q).any():
                return "The guardrail on a mean needs the sum of squares."
            return f"Each arm needs {BURN_IN_OBSERVATIONS} samples, and a poll after them."
        if self.limit.absolute is not None:
            return "No samples were seen yet."
        return "The first poll with both arms sets the base; evidence starts with the second."

    def to_state(self) -> dict[str, Any]:
        """The whole memory as a JSON object."""
        if self.evidence is not None:
            return {"version": _VERSION} | evidence_to_state(self.evidence)
        seen = np.stack([self.seen.n, self.seen.s, self.seen.q])
        pending = np.stack([self.pending.n, self.pending.s, self.pending.q])
        state: dict[str, Any] = {
            "version": _VERSION,
            "seen": encode(seen),
            "polls": [self.polls, self.mixture.polls],
            "logPeak": encode(np.array([self.log_peak])),
        }
        if pending.any():
            state["pending"] = encode(pending)
        if self.mixture.polls:
            state["logM"] = encode(self.mixture.log_m)
        return state

    @classmethod
    def from_state(cls, limit: Limit, state: Mapping[str, Any]) -> GuardrailTest:
        """The test that `to_state` wrote.

        Raises:
            ValueError: the state is not one, or not one of this limit.
        """
        version = state.get("version")
        require(version == _VERSION, "state version", version, f"not {_VERSION}")
        empty = cls.start(limit)
        if empty.evidence is not None:
            evidence = evidence_from_state(limit.design(), state)
            return replace(empty, evidence=evidence, log_peak=-float(evidence.log_p))
        polls, tested = decode(state, "polls", [2])
        pending = empty.pending
        if "pending" in state:
            pending = Counts(*decode(state, "pending", [3, 2]))
        log_m = decode(state, "logM", [NODES]) if tested else empty.mixture.log_m
        return replace(
            empty,
            seen=Counts(*decode(state, "seen", [3, 2])),
            pending=pending,
            polls=int(polls),
            mixture=StartTimeMixture(log_m, int(tested)),
            log_peak=float(decode(state, "logPeak", [1])[0]),
        )


def _residual(poll: Counts) -> Array:
    """The sum of squares around each arm's mean."""
    size = np.maximum(poll.n, 1.0)
    return np.asarray(np.maximum(poll.q - np.square(poll.s) / size, 0.0))
