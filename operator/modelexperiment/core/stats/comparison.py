"""One metric, a champion and one challenger: observe polls, ask for the result at any time.

    comparison = Comparison.start(Settings(Kind.PROPORTION, minimum_effect=Margin(relative=5)))
    for poll in polls:
        comparison = comparison.observe(poll)
        print(comparison.result())

A comparison never changes; what `observe` gives is another one. Its whole memory is a small
JSON object, so that it can be put down after one poll and taken up for the next by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelexperiment.core.stats.clusters import DOMINATING_SHARE, MINIMUM_BUCKETS, Clusters
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.design import Design, design_of
from modelexperiment.core.stats.evidence import (
    BURN_IN_EVENTS,
    BURN_IN_OBSERVATIONS,
    Evidence,
)
from modelexperiment.core.stats.looks import Look
from modelexperiment.core.stats.model import (
    Estimate,
    Increment,
    Interval,
    Kind,
    Method,
    Poll,
    Result,
    Settings,
    Unit,
    require,
)
from modelexperiment.core.stats.state import decode, encode
from modelexperiment.core.stats.stratified import POLLS_WITHOUT_SQUARES, Counts, Strata

_VERSION = 1
_ARMS = ("champion", "challenger")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What polls have shown so far about one metric of two arms.

    Attributes:
        settings: what is asked.
        evidence: what was seen.
        unlabelled: samples and sums that came without the bucket label they needed, shape (2, 2).
    """

    settings: Settings
    evidence: Evidence
    unlabelled: Array

    @classmethod
    def start(cls, settings: Settings) -> Comparison:
        """Nothing seen yet."""
        return cls(settings, Evidence.start(design_of(settings)), np.zeros((2, 2)))

    def observe(self, poll: Poll) -> Comparison:
        """With one more poll; either arm of it may be empty.

        A poll in which, say, successes exceed trials (labels came late, or the scrapes of two
        counters were apart) is neither lost nor clamped: it waits and is merged with the next.

        Raises:
            ValueError: a number is impossible for the kind of metric.
        """
        for arm, increment in zip(_ARMS, (poll.champion, poll.challenger), strict=True):
            increment.check(self.settings.kind, arm)
        if self.settings.unit is Unit.REQUEST:
            counts = _counts(poll.champion, poll.challenger)
            return replace(self, evidence=self.evidence.observe(self._design, counts))
        labelled = poll.champion_buckets is not None and poll.challenger_buckets is not None
        if not labelled or not self.settings.buckets:
            counts = _counts(poll.champion, poll.challenger)
            return replace(self, unlabelled=self.unlabelled + np.stack([counts.n, counts.s]))
        return self._observe_buckets(poll)

    def _observe_buckets(self, poll: Poll) -> Comparison:
        totals, table = [], np.zeros((2, 2, self.settings.buckets))
        sides = (poll.champion_buckets or {}, poll.challenger_buckets or {})
        for index, (arm, buckets) in enumerate(zip(_ARMS, sides, strict=True)):
            total = Increment.zero()
            for bucket, increment in sorted(buckets.items()):
                known = 0 <= bucket < self.settings.buckets
                require(known, f"{arm} bucket", bucket, f"not below {self.settings.buckets}")
                increment.check(self.settings.kind, f"{arm} bucket {bucket}")
                table[:, index, bucket] = increment.n, increment.s
                total += increment
            totals.append(total)
        counts = _counts(*totals)
        return replace(self, evidence=self.evidence.observe(self._design, counts, table))

    def new_phase(self) -> Comparison:
        """To be called when the split changes: nothing waits across the change."""
        return replace(self, evidence=self.evidence.flush(self._design))

    def result(self, alpha: float | None = None) -> Result:
        """What can be said now.

        Args:
            alpha: the level, where it is not the settings' own, as when many challengers share it.
        """
        level = self.settings.alpha if alpha is None else alpha
        require(0 < level < 0.5, "alpha", level, "not between 0 and 0.5")
        design, evidence = self._design, self.evidence
        withheld = self._withheld()
        p_value = float(np.exp(evidence.log_p)) if withheld is None else None
        absolute = relative = None
        if withheld is None and evidence.look.number > 0:
            absolute = _interval(evidence.look.absolute(design, evidence.scale, level))
            relative = _interval(evidence.look.relative(design, evidence.scale, level))
        return Result(
            *self._estimates(),
            absolute=absolute,
            relative=relative,
            p_value=p_value,
            significant=p_value is not None and p_value <= level,
            withheld=withheld,
        )

    @property
    def design_effect(self) -> float | None:
        """By how much users' requests count less than independent ones; None where not known."""
        by_request = self.evidence.strata.summary().variance.sum()
        if not self._design.buckets or not by_request > 0:
            return None
        return float(self.evidence.summary(self._design).variance.sum() / by_request)

    @property
    def dominating(self) -> dict[str, tuple[int, float]]:
        """By arm, the bucket with over 10 % of its requests, and its share."""
        clusters = self.evidence.clusters
        if not self._design.buckets:
            return {}
        found = {}
        for index, arm in enumerate(_ARMS):
            share = float(clusters.largest_share[index])
            if share > DOMINATING_SHARE:
                found[arm] = int(clusters.samples[index].argmax()), share
        return found

    @property
    def _design(self) -> Design:
        return design_of(self.settings)

    def _estimates(self) -> tuple[Estimate, Estimate]:
        evidence, waiting = self.evidence, self.evidence.pending
        samples = evidence.samples + waiting.n + self.unlabelled[0]
        values = evidence.look.mean
        if evidence.look.number == 0 or self.settings.method is Method.SEQUENTIAL:
            values = evidence.strata.summary().mean
        totals = evidence.sums + waiting.s + self.unlabelled[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(np.isnan(values), totals / samples, values)
        champion, challenger = (
            Estimate(float(n), float(value) if np.isfinite(value) else None)
            for n, value in zip(samples, values, strict=True)
        )
        return champion, challenger

    def _withheld(self) -> str | None:
        settings, evidence = self.settings, self.evidence
        if settings.unit is Unit.USER and not evidence.samples.any():
            missing = self._missing_label()
            if missing is not None:
                return missing
        for arm, (bucket, share) in self.dominating.items():
            return (
                f"Bucket {bucket} has {share:.0%} of the {arm}'s requests; where one bucket or "
                f"user dominates, no method gives an honest verdict."
            )
        if settings.method is not Method.SEQUENTIAL and not evidence.look.number:
            return self._not_reached()
        if self._design.exact:
            return None if self._tested else self._too_few("together", BURN_IN_EVENTS)
        return None if evidence.look.number else self._cold()

    @property
    def _tested(self) -> bool:
        return bool(self.evidence.log_e.any())

    def _missing_label(self) -> str | None:
        if not self.settings.buckets:
            return (
                "Users are the unit of analysis, and without hash buckets no honest variance is "
                "known; use buckets, or take requests as the unit."
            )
        if not self.unlabelled.any():
            return None
        return (
            "Users are the unit of analysis, but the counters carry no bucket label; copy the "
            "x-experiment-bucket header into one, or take requests as the unit."
        )

    def _not_reached(self) -> str:
        seen, settings = self.evidence.samples.min(), self.settings
        if settings.method is Method.GROUP_SEQUENTIAL:
            return f"The first look is not reached yet; the smaller arm has {seen:,.0f} samples."
        planned = settings.sample_size or 0
        if seen >= planned:
            return "The fixed horizon is reached, but nothing varied, so there is no verdict."
        return (
            f"The fixed horizon is not reached: the smaller arm has {seen:,.0f} of the planned "
            f"{planned:,} samples."
        )

    def _cold(self) -> str:
        evidence, kind = self.evidence, self.settings.kind
        seen = f"{evidence.samples.min():,.0f} samples"
        if self._design.buckets and (evidence.clusters.active < MINIMUM_BUCKETS).any():
            active = int(evidence.clusters.active.min())
            return f"Users of only {active} hash buckets were seen; {MINIMUM_BUCKETS} are needed."
        if kind is not Kind.MEAN:
            return self._too_few("each", BURN_IN_EVENTS)
        if (evidence.samples < BURN_IN_OBSERVATIONS).any():
            return f"The smaller arm has {seen}; {BURN_IN_OBSERVATIONS} are needed."
        if np.isnan(evidence.strata.variance).any() and not self._design.buckets:
            polls = int(evidence.strata.polls)
            return (
                f"Without a sum of squares the variance comes from the scatter between polls, "
                f"and {polls} of the {POLLS_WITHOUT_SQUARES} needed were seen."
            )
        return "All observations were equal so far, so there is nothing to judge."

    def _too_few(self, scope: str, needed: int) -> str:
        what = "successes and failures" if self.settings.kind.is_binary else "events"
        arms = "both arms together" if scope == "together" else "each arm"
        return f"There are not yet {needed} {what} in {arms}, and a poll after them."

    def to_state(self) -> dict[str, Any]:
        """The whole memory as a JSON object."""
        evidence = self.evidence
        strata, look = evidence.strata, evidence.look
        state: dict[str, Any] = {
            "version": _VERSION,
            "samples": encode(evidence.samples),
            "sums": encode(evidence.sums),
            "strata": encode(_join(strata)),
            "scale": encode(np.array([evidence.effect_scale, evidence.scale])),
            "look": encode(_join(look)),
            "logP": encode(evidence.log_p),
        }
        optional = {
            "pending": _join(evidence.pending),
            "pendingBuckets": evidence.pending_buckets,
            "unlabelled": self.unlabelled,
            "logE": evidence.log_e,
            "influence": evidence.clusters.influence,
            "bucketSamples": evidence.clusters.samples,
        }
        # What is all zero is not written.
        return state | {key: encode(value) for key, value in optional.items() if value.any()}

    @classmethod
    def from_state(cls, settings: Settings, state: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_state` wrote.

        Raises:
            ValueError: the state is not one, or not one of these settings.
        """
        version = state.get("version")
        require(version == _VERSION, "state version", version, f"not {_VERSION}")
        empty = cls.start(settings)
        evidence = empty.evidence

        def read(key: str, like: Array) -> Array:
            return decode(state, key, like.shape) if key in state else like

        def part(key: str, sizes: list[tuple[int, ...]]) -> list[Array]:
            flat = decode(state, key, [sum(max(1, *size) if size else 1 for size in sizes)])
            return _split(flat, sizes)

        scale = decode(state, "scale", [2])
        pending = evidence.pending
        if "pending" in state:
            pending = Counts(*part("pending", [(2,)] * 3))
        return cls(
            settings,
            Evidence(
                samples=decode(state, "samples", [2]),
                sums=decode(state, "sums", [2]),
                pending=pending,
                pending_buckets=read("pendingBuckets", evidence.pending_buckets),
                strata=Strata(*part("strata", [(), (), (2,), (2,), (), (3,)])),
                clusters=Clusters(
                    read("influence", evidence.clusters.influence),
                    read("bucketSamples", evidence.clusters.samples),
                ),
                log_e=read("logE", evidence.log_e),
                effect_scale=scale[0],
                scale=scale[1],
                look=Look(*part("look", [(2,), (2,), (), (), (), ()])),
                log_p=decode(state, "logP", []),
            ),
            read("unlabelled", empty.unlabelled),
        )


def _counts(champion: Increment, challenger: Increment) -> Counts:
    arms = (champion, challenger)
    # An arm that saw nothing knows its sum of squares.
    squares = [0.0 if arm.n == arm.s == 0 else np.nan if arm.q is None else arm.q for arm in arms]
    return Counts(
        np.array([float(arm.n) for arm in arms]),
        np.array([float(arm.s) for arm in arms]),
        np.array(squares),
    )


def _interval(bounds: tuple[Array, Array, Array]) -> Interval | None:
    effect, lower, upper = (float(value) for value in bounds)
    return Interval(effect, lower, upper) if np.isfinite([effect, lower, upper]).all() else None


def _join(parts: Strata | Look | Counts) -> Array:
    return np.concatenate([np.ravel(value) for value in vars(parts).values()])


def _split(flat: Array, sizes: list[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([int(np.prod(size)) for size in sizes])[:-1]
    pieces = np.split(flat, ends)
    return [piece.reshape(size) for piece, size in zip(pieces, sizes, strict=True)]
