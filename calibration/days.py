"""Healthy days: how often guardrails with default settings roll back what does no harm."""

from __future__ import annotations

import numpy as np

from calibration.report import Row
from modelexperiment.core.stats import GuardrailTest, Increment, Kind, Limit, Margin, Poll
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.e_process import Bernoulli, log_factors, unit_nodes
from modelexperiment.core.stats.guardrails import COUNT_SCALE
from modelexperiment.core.stats.threshold import (
    StartTimeMixture,
    beta_binomial_log_evidence,
)
from modelexperiment.core.stats.threshold import log_factors as absolute_factors

ALPHA = 0.01
# What the manifest's default interval of 15 s gives.
POLLS = 5_760
_NODES = COUNT_SCALE * unit_nodes(one_sided=True, sign=1.0)


class Days:
    """Many days at once: each poll is drawn for all of them, and judged as `GuardrailTest` does."""

    def __init__(self, limit: Limit, days: int) -> None:
        self.limit = limit
        self.mixture = StartTimeMixture.start((days,))
        self.seen = np.zeros((2, days, 2))
        self.peak = np.zeros(days)

    def observe(self, n: Array, s: Array) -> None:
        """One more poll of every day; n and s have the shape (days, 2)."""
        past, self.seen = self.seen, self.seen + np.stack([n, s])
        edge = self.limit.absolute
        if edge is not None:
            self.mixture = self.mixture.add(
                absolute_factors(Bernoulli, n[:, 1], s[:, 1], edge, _NODES)
            )
            total, bad = self.seen[:, :, 1]
            early = beta_binomial_log_evidence(total, bad, edge)
            late = self.mixture.log_evidence
            self.peak = np.maximum(self.peak, np.logaddexp(late, early) - np.log(2.0))
            return
        total, bad = past.sum(-1)
        if not total.all():
            return
        base = (bad + 0.5) / (total + 1.0)
        self.mixture = self.mixture.add(log_factors(Bernoulli, n, s, base, _NODES, self.limit.null))
        self.peak = np.maximum(self.peak, self.mixture.log_evidence)


def played(
    limit: Limit, rates: tuple[float, float], sizes: tuple[int, int], days: int, polls: int
) -> Array:
    """The most evidence (ln) that each of so many days ever gave against what is allowed."""
    rng, found = np.random.default_rng(21), Days(limit, days)
    single = GuardrailTest.start(limit)
    for poll in range(polls):
        swing = 1 + 0.5 * np.sin(2 * np.pi * poll / polls)
        n = 1 + rng.poisson(np.array(sizes) * swing, (days, 2)).astype(float)
        # Errors swing as well, in both arms alike, and never past the rates given.
        s = rng.binomial(n.astype(int), np.array(rates) * (0.75 + 0.25 * swing / 1.5)).astype(float)
        found.observe(n, s)
        if poll < 50:
            arms = (Increment(float(a), float(b)) for a, b in zip(n[0], s[0], strict=True))
            single = single.observe(Poll(*arms))
            # What is measured is what judges.
            assert abs(single.log_peak - found.peak[0]) < 1e-9
    return found.peak


def healthy_days() -> list[Row]:
    """False rollbacks over 1,000 days, of a healthy challenger and of one at the very limit."""
    rows, runs = [], 1_000
    absolute, relative = (
        Limit(Kind.PROPORTION, maximum=0.02),
        Limit(Kind.PROPORTION, max_increase=Margin(relative=50)),
    )
    for limit, rates, polls, label in (
        (absolute, (0.01, 0.01), POLLS, "1 % errors, limit 2 %, polls of 15 s"),
        (absolute, (0.02, 0.02), POLLS, "errors up to the limit of 2 %, polls of 15 s"),
        (relative, (0.01, 0.01), 288, "1 % errors, 50 % more allowed, polls of 5 min"),
        (relative, (0.01, 0.015), 288, "50 % more errors, as allowed, polls of 5 min"),
    ):
        each = 15 if polls == POLLS else 300
        peak = played(limit, rates, (9 * each, each), runs, polls)
        alarms = float((peak >= -np.log(ALPHA)).mean())
        question = "days with a false rollback, alpha .01"
        rows.append(Row(f"a day: {label}", question, alarms, ALPHA, runs=runs))
    return rows
