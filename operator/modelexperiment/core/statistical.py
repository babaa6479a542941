"""Statistical guardrails: is a bound broken, by counts that are tested at every poll?

Each bound of a guardrail has a test of its own for each challenger. The guardrail's alpha is
divided by the number of all of them (Bonferroni), so that a harmless experiment is rolled back at
most at the rate that the manifest allows. What is settled is tested for good and remembered; what
came after it is tested on top, and forgotten again: a late sample may still change it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from modelexperiment.core import edges, stats
from modelexperiment.core.analysis import margin_of
from modelexperiment.core.exposure import SETTLING, exposed
from modelexperiment.core.measures import bucket_label, kind_of
from modelexperiment.core.rollout import wanted_split
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, Guardrail, Unit
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tally import Arms

BOUNDS = ("max", "min", "maxIncrease")
# The statistics by buckets need so many.
_LEAST_BUCKETS = 24


def statistical(spec: ExperimentSpec) -> list[Guardrail]:
    """The guardrails that are tested on counts."""
    return [guardrail for guardrail in spec.guardrails if guardrail.statistical]


def bounds_of(guardrail: Guardrail) -> list[str]:
    """Which bounds it has, as the manifest names them."""
    given = {"max": guardrail.max, "min": guardrail.min, "maxIncrease": guardrail.max_increase}
    return [bound for bound in BOUNDS if given[bound] is not None]


def alpha_of(spec: ExperimentSpec, guardrail: Guardrail) -> float:
    """The level of each of its tests, so that all tests together keep to the guardrails' alpha."""
    bounds = sum(len(bounds_of(one)) for one in statistical(spec))
    return guardrail.alpha / (bounds * len(spec.challengers))


def users(spec: ExperimentSpec) -> int:
    """Into how many hash buckets the counters split users; 0 where requests are the unit."""
    buckets = spec.assignment.buckets if spec.assignment and bucket_label(spec) else 0
    return buckets if spec.unit is Unit.USER and buckets >= _LEAST_BUCKETS else 0


def limit_for(
    spec: ExperimentSpec, guardrail: Guardrail, bound: str, margin: float = 0.0
) -> stats.Limit:
    """The statistics library's limit; `margin` is what a quantile's increase allows.

    Raises:
        ValueError: the bound is impossible for the kind of metric.
    """
    kind, buckets = stats.Kind(kind_of(guardrail)), users(spec)
    unit = stats.Unit.USER if buckets else stats.Unit.REQUEST
    if guardrail.quantile is not None:
        # Of a quantile, the share of observations above an edge is tested.
        share = 1 - guardrail.quantile.quantile
        if bound == "maxIncrease":
            increase = stats.Margin(absolute=margin)
            return stats.Limit(kind, max_increase=increase, unit=unit, buckets=buckets)
        name = "maximum" if bound == "max" else "minimum"
        return stats.Limit(kind, unit=unit, buckets=buckets, **{name: share})  # type: ignore[arg-type]
    if bound == "max":
        return stats.Limit(kind, maximum=guardrail.max, unit=unit, buckets=buckets)
    if bound == "min":
        return stats.Limit(kind, minimum=guardrail.min, unit=unit, buckets=buckets)
    increase = margin_of(guardrail.max_increase) or stats.Margin(absolute=0.0)
    return stats.Limit(kind, max_increase=increase, unit=unit, buckets=buckets)


def unreadable(spec: ExperimentSpec) -> str | None:
    """What of the statistical guardrails can't be tested, as one line, if anything."""
    for guardrail in statistical(spec):
        where = f"spec.guardrails[{guardrail.name}]"
        if guardrail.mean is not None and guardrail.mean.sum_squares is None and not users(spec):
            return (
                f"{where}.mean.sumSquares: is needed to test a mean; without such a counter, give "
                "the mean as a query"
            )
        for bound in bounds_of(guardrail):
            try:
                limit_for(spec, guardrail, bound)
            except ValueError as why:
                return f"{where}.{bound}: {why}"
    return None


@dataclass(frozen=True)
class Watch:
    """One bound of one guardrail for one challenger: its test, and what the test needs."""

    test: stats.GuardrailTest | None
    """None while it is not known at which edge of the histogram to test."""
    edge: Mapping[str, Any] | None = None
    """Of a quantile: see `edges`."""
    fed: datetime | None = None
    """When there were samples of the challenger's last."""

    def to_state(self) -> dict[str, Any]:
        """As JSON, without what it was made from."""
        return {
            **({"test": self.test.to_state()} if self.test else {}),
            **({"edge": self.edge} if self.edge else {}),
            **({"fed": self.fed.timestamp()} if self.fed else {}),
        }


def fingerprint(spec: ExperimentSpec, guardrail: Guardrail) -> str:
    """A short name for what is tested: where it changes, the test starts anew."""
    tested = guardrail.dump()
    for name in ("alpha", "minSamples", "failureLimit", "failureWindow", "noData"):
        tested.pop(name, None)
    text = json.dumps([tested, spec.champion_version, users(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def restore(spec: ExperimentSpec, guardrail: Guardrail, bound: str, state: Any) -> Watch:
    """The watch that `saved` wrote, or a fresh one where there is none of this guardrail."""
    known: Mapping[str, Any] = state or {}
    if known.get("print") != fingerprint(spec, guardrail):
        known = {}
    edge = known.get("edge")
    if guardrail.quantile is not None and "edge" not in (edge or {}):
        limit = None
    else:
        limit = limit_for(spec, guardrail, bound, (edge or {}).get("margin", 0.0))
    test = None
    if limit is not None:
        state = known.get("test")
        known_test = stats.GuardrailTest.from_state(limit, state) if state else None
        test = known_test or stats.GuardrailTest.start(limit)
    fed = known.get("fed")
    return Watch(test, edge, datetime.fromtimestamp(fed, UTC) if fed else None)


def saved(spec: ExperimentSpec, guardrail: Guardrail, watch: Watch) -> dict[str, Any]:
    """The watch as the status keeps it."""
    return {"print": fingerprint(spec, guardrail), **watch.to_state()}


def observe(
    spec: ExperimentSpec,
    guardrail: Guardrail,
    bound: str,
    challenger: str,
    watch: Watch,
    seen: Counted,
) -> tuple[Watch, stats.Poll | None]:
    """With one more poll, and what the test made of it.

    Raises:
        ValueError: a number is impossible for the kind of metric.
    """
    arms = seen.arms
    if guardrail.quantile is not None:
        edge, above = edges.exceedances(spec, guardrail, bound, watch.edge, seen)
        if watch.test is None and edge and "edge" in edge:
            limit = limit_for(spec, guardrail, bound, edge.get("margin", 0.0))
            watch = replace(watch, test=stats.GuardrailTest.start(limit))
        watch = replace(watch, edge=edge)
        if above is None:
            return watch, None
        arms = above
    poll = _poll(arms, guardrail.name, spec.champion_version, challenger, by_bucket=users(spec) > 0)
    if poll.challenger.n > 0:
        watch = replace(watch, fed=seen.until)
    assert watch.test is not None
    return replace(watch, test=watch.test.observe(poll)), poll


_NOTHING = stats.Increment.zero()


def _poll(arms: Arms, name: str, champion: str, challenger: str, *, by_bucket: bool) -> stats.Poll:
    one, other = (name, champion), (name, challenger)
    found = arms.increments.get(one, _NOTHING), arms.increments.get(other, _NOTHING)
    if not by_bucket:
        return stats.Poll(*found)
    return stats.Poll(*found, arms.buckets.get(one, {}), arms.buckets.get(other, {}))


def with_exposure(spec: ExperimentSpec, status: ExperimentStatus, seen: Counted) -> Counted:
    """The poll with the exposure of rates: each version's share of the split, and the seconds.

    Of a poll that reaches back to another split no share is known: its events are not compared.
    """
    rates = {guardrail.name for guardrail in statistical(spec) if guardrail.rate}
    if not rates:
        return seen
    since = _split_since(status)
    known = since is None or seen.since - since >= SETTLING
    split = (wanted_split(spec, status) or {}) if known else {}
    seconds = (seen.until - seen.since).total_seconds()
    exposure = {
        (rate, version): percent / 100 * seconds
        for rate in rates
        for version, percent in split.items()
        if percent > 0
    }
    arms = exposed(seen.arms, rates, exposure, users(spec))
    return replace(seen, increments=arms.increments, buckets=arms.buckets)


def _split_since(status: ExperimentStatus) -> datetime | None:
    return status.rollout.since if status.rollout else status.memory.split_since
