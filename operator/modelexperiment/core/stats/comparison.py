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

from modelexperiment.core.stats.arms import ARMS, bucket_counts, request_counts
from modelexperiment.core.stats.clusters import DOMINATING_SHARE, MINIMUM_BUCKETS
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.design import Design, design_of
from modelexperiment.core.stats.evidence import (
    BURN_IN_EVENTS,
    BURN_IN_OBSERVATIONS,
    Evidence,
)
from modelexperiment.core.stats.model import (
    Estimate,
    Interval,
    Kind,
    Method,
    Poll,
    Result,
    Settings,
    Unit,
    require,
)
from modelexperiment.core.stats.state import (
    decode,
    encode,
    evidence_from_state,
    evidence_to_state,
)
from modelexperiment.core.stats.stratified import POLLS_WITHOUT_SQUARES

_VERSION = 1


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
        settings, evidence = self.settings, self.evidence
        counts = request_counts(poll, settings.kind)
        if settings.unit is Unit.REQUEST:
            return replace(self, evidence=evidence.observe(self._design, counts))
        split = bucket_counts(poll, settings.kind, settings.buckets)
        if split is None:
            return replace(self, unlabelled=self.unlabelled + np.stack([counts.n, counts.s]))
        return replace(self, evidence=evidence.observe(self._design, *split))

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

    def samples_at_verdict(self, alpha: float | None = None) -> float | None:
        """Samples of the smaller arm at which the verdict falls, if the estimate stays as it is.

        None where that is not known yet, or farther away than a hundred times the present size.
        """
        level = self.settings.alpha if alpha is None else alpha
        design, evidence = self._design, self.evidence
        if self.settings.method is not Method.SEQUENTIAL:
            return float(design.planned_samples)
        if self._withheld() is not None or not evidence.look.number:
            return None
        growth = evidence.look.growth_until_rejection(design, evidence.scale, level)
        return None if growth is None else growth * float(evidence.samples.min())

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
        for index, arm in enumerate(ARMS):
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
        if settings.method is not Method.SEQUENTIAL and not evidence.look.number:
            return self._not_reached()
        if self._design.exact:
            return None if evidence.log_e.any() else self._untested()
        if not evidence.look.number:
            return self._cold()
        for arm, (bucket, share) in self.dominating.items():
            return (
                f"Bucket {bucket} has {share:.0%} of the {arm}'s requests; where one bucket or "
                f"user dominates, no method gives an honest verdict."
            )
        return None

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
        planned = self._design.planned_samples
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
            return f"There are not yet {BURN_IN_EVENTS} {self._events} in each arm."
        if (evidence.samples < BURN_IN_OBSERVATIONS).any():
            return f"The smaller arm has {seen}; {BURN_IN_OBSERVATIONS} are needed."
        if np.isnan(evidence.strata.variance).any() and not self._design.buckets:
            polls = int(evidence.strata.polls)
            return (
                f"Without a sum of squares the variance comes from the scatter between polls, "
                f"and {polls} of the {POLLS_WITHOUT_SQUARES} needed were seen."
            )
        return "All observations were equal so far, so there is nothing to judge."

    def _untested(self) -> str:
        if not np.isnan(self.evidence.effect_scale):
            return "The first poll sets the base of the test; the verdict begins with the next one."
        return (
            f"There are not yet {BURN_IN_EVENTS} {self._events} in both arms together, which set "
            f"the base of the test."
        )

    @property
    def _events(self) -> str:
        return "successes and failures" if self.settings.kind.is_binary else "events"

    def to_state(self) -> dict[str, Any]:
        """The whole memory as a JSON object; what is all zero is not written."""
        state = {"version": _VERSION} | evidence_to_state(self.evidence)
        if self.unlabelled.any():
            state["unlabelled"] = encode(self.unlabelled)
        return state

    @classmethod
    def from_state(cls, settings: Settings, state: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_state` wrote.

        Raises:
            ValueError: the state is not one, or not one of these settings.
        """
        version = state.get("version")
        require(version == _VERSION, "state version", version, f"not {_VERSION}")
        evidence = evidence_from_state(design_of(settings), state)
        missing = "unlabelled" not in state
        unlabelled = np.zeros((2, 2)) if missing else decode(state, "unlabelled", (2, 2))
        return cls(settings, evidence, unlabelled)


def _interval(bounds: tuple[Array, Array, Array]) -> Interval | None:
    effect, lower, upper = (float(value) for value in bounds)
    return Interval(effect, lower, upper) if np.isfinite([effect, lower, upper]).all() else None
