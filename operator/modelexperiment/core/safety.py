"""What the statistical guardrails answer at a poll: pass, breach, or not enough data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelexperiment.core import stats
from modelexperiment.core.draft import Draft
from modelexperiment.core.fields import format_duration
from modelexperiment.core.guardrails import amended, rounded
from modelexperiment.core.measures import shown_query
from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Counted, Guarded, Problem
from modelexperiment.core.spec import ExperimentSpec, Guardrail, NoData, Unit
from modelexperiment.core.statistical import (
    Watch,
    alpha_of,
    bounds_of,
    observe,
    restore,
    saved,
    statistical,
    users,
    with_exposure,
)
from modelexperiment.core.status import ExperimentStatus, GuardrailState, GuardrailStatus

# Without a sample of the challenger for so long there is no data.
QUIET = timedelta(minutes=1)
# As for metrics: without any sample the time is moved on this seldom.
IDLE = timedelta(minutes=10)
NO_BUCKETS = (
    "tested by requests, though those of one user move together: alpha is not promised without "
    "spec.assignment.bucketLabel"
)
_WORST = [GuardrailState.BREACH, GuardrailState.INSUFFICIENT_DATA, GuardrailState.PASS]
Name = tuple[str, str]
"""(guardrail, modelVersion)"""


@dataclass(frozen=True)
class Answer:
    """What one bound of a guardrail says of one challenger."""

    state: GuardrailState
    message: str | None = None
    value: float | None = None
    limit: float | None = None
    p_value: float | None = None
    fed: bool = True
    """Whether data comes in, even if it is not enough yet."""


def judge(draft: Draft, split: Split) -> tuple[list[GuardrailStatus], set[Name]]:
    """Judge every statistical guardrail of every challenger that serves, by what is routed.

    Gives their status, and which of them have data. What was not read keeps its status.
    """
    before = {(g.name, g.model_version): g for g in draft.status.guardrails}
    names = [
        (guardrail, version)
        for guardrail in statistical(draft.spec)
        for version in draft.spec.challengers
        if split.get(version, 0.0) > 0
    ]
    guarded = draft.snapshot.guarded
    if isinstance(guarded, Problem):
        unknown = Answer(GuardrailState.INSUFFICIENT_DATA, guarded.message, fed=False)
        found = {(g.name, v): unknown for g, v in names}
    elif guarded is None or guarded.settled.since != counted_until(draft.status):
        last = [s for g, v in names if (s := before.get((g.name, v)))]
        # Whether there is data is judged where it was looked for.
        return last, {(g.name, v) for g, v in names}
    else:
        found = _take_in(draft, guarded, names)
    judged = [_status(draft, g, v, found[g.name, v], before.get((g.name, v))) for g, v in names]
    return judged, {name for name, answer in found.items() if answer.fed}


def _take_in(
    draft: Draft, guarded: Guarded, names: Sequence[tuple[Guardrail, str]]
) -> dict[Name, Answer]:
    """Test what is settled for good, and what is not on top of it."""
    spec, status = draft.spec, draft.status
    settled = with_exposure(spec, status, guarded.settled)
    unsettled = [with_exposure(spec, status, step) for step in guarded.unsettled]
    moves = bool(settled.samples or settled.resets) or settled.until - settled.since >= IDLE
    known = _known(draft)
    kept: dict[str, Any] = {}
    found: dict[Name, Answer] = {}
    for guardrail, version in names:
        answers = []
        for bound in bounds_of(guardrail):
            key = f"{guardrail.name}/{version}/{bound}"
            try:
                watch = restore(spec, guardrail, bound, known.get(key))
                if moves:
                    watch, _ = observe(spec, guardrail, bound, version, watch, settled)
                kept[key] = saved(spec, guardrail, watch)
                seen = _Seen(spec, guardrail, bound, version, _present(settled, guardrail, spec))
                answers.append(seen.answer(draft, watch, unsettled, settled.until))
            except ValueError as why:
                # What was known stays; with a longer poll the numbers may belong together again.
                answers.append(
                    Answer(GuardrailState.INSUFFICIENT_DATA, f"can't be tested: {why}", fed=False)
                )
        found[guardrail.name, version] = min(answers, key=lambda a: _WORST.index(a.state))
    draft.remember(
        guarded_until=settled.until if moves else settled.since,
        guardrail_tests={**known, **kept},
        history_lost=settled.history_lost or status.memory.history_lost,
    )
    return found


def _known(draft: Draft) -> dict[str, Any]:
    """The states of all tests that the spec still has."""
    saved_states: dict[str, Any] = draft.status.memory.guardrail_tests or {}
    names = {
        f"{guardrail.name}/{version}/{bound}"
        for guardrail in statistical(draft.spec)
        for version in draft.spec.challengers
        for bound in bounds_of(guardrail)
    }
    return {key: state for key, state in saved_states.items() if key in names}


def counted_until(status: ExperimentStatus) -> datetime | None:
    """Up to when guardrails count; where none ever has, from the metrics' last poll on."""
    return status.memory.guarded_until or status.counted_until


def _present(counted: Counted, guardrail: Guardrail, spec: ExperimentSpec) -> bool:
    """Whether the champion's counters are there at all, even if they stand still."""
    champion = spec.champion_version
    in_histogram = any(
        c.metric == guardrail.name and c.version == champion for c in counted.histograms
    )
    return in_histogram or (guardrail.name, champion) in counted.increments


@dataclass(frozen=True)
class _Seen:
    """One bound for one challenger."""

    spec: ExperimentSpec
    guardrail: Guardrail
    bound: str
    version: str
    present: bool

    def answer(
        self, draft: Draft, watch: Watch, steps: Iterable[Counted], until: datetime
    ) -> Answer:
        """What the test says with the steps that are not settled yet."""
        recent = stats.Poll(stats.Increment.zero(), stats.Increment.zero())
        for step in steps:
            watch, poll = observe(self.spec, self.guardrail, self.bound, self.version, watch, step)
            until = step.until
            if poll is not None:
                recent = stats.Poll(
                    recent.champion + poll.champion, recent.challenger + poll.challenger
                )
        test = watch.test
        if test is None:
            text = "waits for the champion's quantile to be known"
            return Answer(GuardrailState.INSUFFICIENT_DATA, text, fed=self.present)
        alpha = alpha_of(self.spec, self.guardrail)
        if test.breached(alpha):
            return self._breach(watch, test, recent, alpha)
        since = watch.fed or draft.status.start_time or until
        if until - since >= QUIET or watch.fed is None:
            return self._silent(since, until, recent)
        return self._kept(test)

    def _breach(
        self, watch: Watch, test: stats.GuardrailTest, recent: stats.Poll, alpha: float
    ) -> Answer:
        champion, challenger = test.estimates
        value, late = challenger.estimate, _ratio(recent.challenger)
        limit = _limit(test, champion.estimate)
        # What broke late shows in the last polls, while all polls together may still look well.
        worse = late is not None and value is not None and (late - value) * test.limit.sign > 0
        if worse:
            value, limit = late, _limit(test, _ratio(recent.champion) or champion.estimate)
        side = "over" if test.limit.sign > 0 else "under"
        allowed = "" if limit is None else f" {limit:.4g}"
        overall = "" if challenger.estimate is None else f"; {challenger.estimate:.4g} in all"
        message = (
            f"{value:.4g}{_what(self.guardrail, watch)}{' lately' if worse else ''} is {side} the "
            f"limit of{allowed} (p = {test.p_value:.2g}, alpha {alpha:.2g}{overall})"
        )
        return Answer(GuardrailState.BREACH, message, value, limit, test.p_value)

    def _silent(self, since: datetime, until: datetime, recent: stats.Poll) -> Answer:
        waited = until - since
        text = f"has had no samples for {format_duration(waited)}"
        if waited >= QUIET and self.guardrail.no_data is NoData.FAIL:
            return Answer(GuardrailState.BREACH, f"{text} (noData: Fail)", fed=False)
        # Where nobody sends anything to the champion either, it is nobody's fault.
        idle = self.present and recent.champion.n == 0
        return Answer(GuardrailState.INSUFFICIENT_DATA, text, fed=idle)

    def _kept(self, test: stats.GuardrailTest) -> Answer:
        champion, challenger = test.estimates
        compared = [challenger] if test.limit.absolute is not None else [challenger, champion]
        fewest, needed = min(arm.samples for arm in compared), self.guardrail.min_samples
        value, limit = challenger.estimate, _limit(test, champion.estimate)
        missing = test.withheld
        if fewest < needed:
            missing = f"has {fewest:.0f} of {needed} samples"
        if missing:
            return Answer(GuardrailState.INSUFFICIENT_DATA, missing, value, limit, test.p_value)
        by_user = self.spec.unit is Unit.USER and not users(self.spec)
        note = NO_BUCKETS if by_user else None
        return Answer(GuardrailState.PASS, note, value, limit, test.p_value)


def _ratio(increment: stats.Increment) -> float | None:
    return increment.s / increment.n if increment.n > 0 else None


def _limit(test: stats.GuardrailTest, champion: float | None) -> float | None:
    if test.limit.absolute is not None:
        return test.limit.absolute
    null = test.limit.null
    return None if champion is None else null.slope * champion + null.offset


def _what(guardrail: Guardrail, watch: Watch) -> str:
    if guardrail.quantile is None or not watch.edge:
        return ""
    return f" of the observations above {watch.edge['edge']:g}"


def _status(
    draft: Draft,
    guardrail: Guardrail,
    version: str,
    answer: Answer,
    before: GuardrailStatus | None,
) -> GuardrailStatus:
    now, snapshot = draft.snapshot.now, draft.snapshot
    judged = GuardrailStatus(
        name=guardrail.name,
        model_version=version,
        state=answer.state,
        value=rounded(answer.value),
        limit=rounded(answer.limit),
        breaches=int(answer.state is GuardrailState.BREACH),
        p_value=None if answer.p_value is None else float(f"{answer.p_value:.3g}"),
        last_change=now,
        message=answer.message,
    )
    query = shown_query(guardrail, version, draft.experiment.namespace)
    return amended(judged, before, query, snapshot.prometheus, now)
