"""Does each arm get the share of traffic that it should? (sample ratio mismatch, SRM)

A split that is not the configured one means that something loses or adds requests in one arm,
and then no effect can be trusted. Two tests, both valid at every look:

- requests routed at random: the multinomial e-process of Lindon and Malek, "Anytime-valid
  inference for multinomial count data", NeurIPS 2022, with a Dirichlet mixture around the
  configured shares, ``ln E = ln B(k th0 + x) - ln B(k th0) - sum x_i ln th0_i``; a phase with
  other shares is another factor of the same product;
- sticky users: their requests move together, so that healthy experiments would be flagged. There
  each arm's surplus over its share is summed by hash bucket, and the scatter of the buckets is
  its variance: ``z = sum_k u_k / sqrt(B/(B-1) sum_k u_k^2)``, u_k = n_ik - th_i n_k, with the
  confidence sequence and Student's t. It is honest but weak: with 4,000 users of uneven
  activity it finds 20 % of an arm lost two times in three, and 10 % hardly ever. So compare what
  the proxy sent with what the servers counted, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from modelexperiment.core.stats.clusters import MINIMUM_BUCKETS, shorten
from modelexperiment.core.stats.confidence_sequence import Array, log_evidence, normal_equivalent
from modelexperiment.core.stats.model import require
from modelexperiment.core.stats.state import decode, encode

CONCENTRATION = 1_000.0
# The part of an arm's requests whose loss the test by buckets is tuned to: of fewer lost, the
# scatter of users hides most.
_USUAL_LOSS = 0.2


def log_multinomial_evidence(
    counts: Array, shares: Array, concentration: float = CONCENTRATION
) -> Array:
    """ln E against the configured shares, over the last axis.

    With k = 100, (1560, 1440) against (.5, .5) has E = 1.830333.
    """
    prior = concentration * shares
    gained = special.gammaln(prior + counts).sum(-1) - special.gammaln(prior).sum(-1)
    total = special.gammaln(prior.sum(-1) + counts.sum(-1)) - special.gammaln(prior.sum(-1))
    return np.asarray(gained - total - special.xlogy(counts, shares).sum(-1))


@dataclass(frozen=True, eq=False)
class SampleRatio:
    """What was seen of the split.

    Attributes:
        names: of the arms.
        shares: configured now, shape (A,), summing to 1.
        counts: of requests in this phase, shape (A,).
        past: of requests in earlier phases, shape (A,).
        past_expected: what the shares promised in earlier phases, shape (A,).
        past_log_e: ln E of earlier phases.
        surplus: by arm but the last and bucket, over all phases, shape (A - 1, B); all arms sum
            to zero. B is 0 for requests.
        log_p: ln of the p-value, which never rises.
    """

    names: tuple[str, ...]
    shares: Array
    counts: Array
    past: Array
    past_expected: Array
    past_log_e: float
    surplus: Array
    log_p: float

    @classmethod
    def start(cls, shares: Mapping[str, float], buckets: int = 0) -> SampleRatio:
        """Nothing seen yet.

        Args:
            shares: of each arm by name; they are divided by their sum.
            buckets: number of hash buckets of sticky users; 0 where requests are the unit.

        Raises:
            ValueError: there are less than two arms, a share is negative or not finite, or all
                are zero.
        """
        require(len(shares) > 1, "arms", sorted(shares), "not at least two")
        names = tuple(sorted(shares))
        zero = np.zeros(len(names))
        surplus = np.zeros((len(names) - 1, buckets))
        return cls(names, _shares(names, shares), zero, zero, zero, 0.0, surplus, 0.0)

    def new_phase(self, shares: Mapping[str, float]) -> SampleRatio:
        """With other shares from now on; the arms stay the same."""
        require(tuple(sorted(shares)) == self.names, "arms", sorted(shares), f"not {self.names}")
        return replace(
            self,
            shares=_shares(self.names, shares),
            counts=np.zeros_like(self.counts),
            past=self.past + self.counts,
            past_expected=self.past_expected + self.shares * self.counts.sum(),
            past_log_e=self.past_log_e + self._phase_log_e(),
        )

    def observe(self, counts: Mapping[str, float]) -> SampleRatio:
        """With more requests, by the name of the arm; an arm left out had none.

        Raises:
            ValueError: an arm is unknown, or a count is no whole number from 0 up.
        """
        self._check_names(counts)
        added = np.array([_count(name, counts.get(name, 0.0)) for name in self.names])
        seen = replace(self, counts=self.counts + added)
        if self.surplus.shape[1]:
            return seen
        return replace(seen, log_p=min(self.log_p, -(self.past_log_e + seen._phase_log_e())))

    def observe_buckets(self, counts: Mapping[str, Mapping[int, float]]) -> SampleRatio:
        """With more requests of sticky users, by the name of the arm and the hash bucket.

        Raises:
            ValueError: an arm or bucket is unknown, or a count is no whole number from 0 up.
        """
        self._check_names(counts)
        table = np.zeros((len(self.names), self.surplus.shape[1]))
        for name, buckets in counts.items():
            for bucket, value in buckets.items():
                known = 0 <= bucket < table.shape[1]
                require(known, f"{name} bucket", bucket, f"not below {table.shape[1]}")
                table[self.names.index(name), bucket] = _count(f"{name} bucket {bucket}", value)
        seen = replace(
            self,
            counts=self.counts + table.sum(-1),
            surplus=shorten(self.surplus + (table - self.shares[:, None] * table.sum(0))[:-1]),
        )
        return replace(seen, log_p=min(self.log_p, seen._bucket_log_p()))

    @property
    def p_value(self) -> float:
        """Anytime-valid: alarm once it is at most alpha, however often it is looked at."""
        return math.exp(min(self.log_p, 0.0))

    @property
    def observed(self) -> dict[str, float]:
        """The share of each arm over all phases; empty before any request."""
        return self._portion(self.past + self.counts)

    @property
    def expected(self) -> dict[str, float]:
        """The share of each arm that the configured shares promised over all phases."""
        return self._portion(self.past_expected + self.shares * self.counts.sum())

    def _portion(self, counts: Array) -> dict[str, float]:
        total = counts.sum()
        if not total:
            return {}
        return {n: float(c / total) for n, c in zip(self.names, counts, strict=True)}

    def _phase_log_e(self) -> float:
        """An arm that should get nothing but got something is a mismatch beyond doubt."""
        used = self.shares > 0
        if self.counts[~used].any():
            return 745.0
        return float(log_multinomial_evidence(self.counts[used], self.shares[used]))

    def _bucket_log_p(self) -> float:
        """The smallest ln p over the arms, times how many tests they are."""
        surplus = np.concatenate([self.surplus, -self.surplus.sum(0, keepdims=True)])
        active = float((surplus != 0).any(0).sum())
        if active < MINIMUM_BUCKETS:
            return 0.0
        sizes = (self.past + self.counts).sum()
        share = (self.past_expected + self.shares * self.counts.sum()) / sizes
        error2 = active / (active - 1.0) * np.square(surplus).sum(-1)
        varies = error2 > 0
        z = np.where(varies, surplus.sum(-1) / np.sqrt(np.where(varies, error2, 1.0)), 0.0)
        width2 = np.square(_USUAL_LOSS * share * (1.0 - share) * sizes)
        information = np.where(varies, width2 / np.where(varies, error2, 1.0), 0.0)
        t = normal_equivalent(z, np.full_like(z, active - 1.0))
        evidence = float(log_evidence(t, information, one_sided=False).max())
        tests = 1 if len(self.names) == 2 else len(self.names)
        return math.log(tests) - evidence

    def _check_names(self, counts: Mapping[str, Any]) -> None:
        for name in counts:
            require(name in self.names, "arm", name, f"not one of {list(self.names)}")

    def to_state(self) -> dict[str, Any]:
        """The whole memory as a JSON object."""
        state: dict[str, Any] = {
            "arms": list(self.names),
            "shares": encode(self.shares),
            "counts": encode(self.counts),
            "past": encode(self.past),
            "pastExpected": encode(self.past_expected),
            "log": encode(np.array([self.past_log_e, self.log_p])),
        }
        return state | ({"surplus": encode(self.surplus)} if self.surplus.size else {})

    @classmethod
    def from_state(cls, state: Mapping[str, Any], buckets: int = 0) -> SampleRatio:
        """The sample ratio that `to_state` wrote.

        Raises:
            ValueError: the state is not one, or has another number of buckets.
        """
        names = state.get("arms")
        if not isinstance(names, list) or len(names) < 2:
            raise ValueError(f"state arms is {names!r:.60}, not a list of at least two names")
        size = len(names)
        logs = decode(state, "log", [2])
        surplus = np.zeros((size - 1, buckets))
        if buckets:
            surplus = decode(state, "surplus", surplus.shape)
        return cls(
            names=tuple(str(name) for name in names),
            shares=decode(state, "shares", [size]),
            counts=decode(state, "counts", [size]),
            past=decode(state, "past", [size]),
            past_expected=decode(state, "pastExpected", [size]),
            past_log_e=float(logs[0]),
            surplus=surplus,
            log_p=float(logs[1]),
        )


def _shares(names: tuple[str, ...], shares: Mapping[str, float]) -> Array:
    for name, share in shares.items():
        fine = math.isfinite(share) and share >= 0
        require(fine, f"share of {name}", share, "not a number from 0 up")
    total = sum(shares.values())
    require(total > 0, "shares", dict(shares), "not above 0 together")
    return np.array([shares[name] / total for name in names])


def _count(name: str, value: float) -> float:
    whole = math.isfinite(value) and value >= 0 and float(value).is_integer()
    require(whole, f"count of {name}", value, "not a whole number from 0 up")
    return float(value)
