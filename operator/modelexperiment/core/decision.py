"""From numbers to words: the verdict, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelexperiment.core.measures import tested_exactly
from modelexperiment.core.spec import Effect, ExperimentSpec, Goal, OnWin, Role
from modelexperiment.core.status import (
    Action,
    Decision,
    MetricAnalysis,
    RiskLevel,
    SamplePlan,
    Verdict,
)

FULL_ROLLOUT_LIFT = 20.0
GRADUAL_ROLLOUT_LIFT = 5.0


@dataclass(frozen=True)
class Outcome:
    """The verdict, the challenger that it is about, and whether it is final."""

    verdict: Verdict
    leader: str | None
    """The challenger that does best on the primary metric, if any has been seen."""
    reason: str


def gain(spec: ExperimentSpec, entry: MetricAnalysis) -> float | None:
    """The relative effect in percent, positive where it is an improvement."""
    if entry.relative is None:
        return None
    return entry.relative.effect * (1 if spec.primary.goal is Goal.INCREASE else -1)


def _effect_gain(spec: ExperimentSpec, entry: MetricAnalysis) -> float | None:
    if entry.absolute is None:
        return None
    return entry.absolute.effect * (1 if spec.primary.goal is Goal.INCREASE else -1)


def within(entry: MetricAnalysis, smallest: Effect | None) -> bool:
    """Whether the whole interval lies within the smallest effect worth acting on."""
    if smallest is None:
        return False
    interval = entry.relative if smallest.relative is not None else entry.absolute
    bound = smallest.relative if smallest.relative is not None else smallest.absolute
    if interval is None or bound is None:
        return False
    return -bound <= interval.lower and interval.upper <= bound


def outcome(spec: ExperimentSpec, analysis: Sequence[MetricAnalysis]) -> Outcome:
    """Give the verdict of the primary metric over all challengers."""
    primary = [entry for entry in analysis if entry.role is Role.PRIMARY]
    seen = [(g, entry) for entry in primary if (g := _effect_gain(spec, entry)) is not None]
    if not seen:
        waiting = "too few samples for an interval yet"
        reason = next((e.withheld for e in primary if e.withheld), waiting)
        return Outcome(Verdict.INCONCLUSIVE, None, reason)
    seen.sort(key=lambda pair: -pair[0])
    best, leader = seen[0]
    everyone = [entry for _, entry in seen]
    name = leader.model_version
    if leader.significant and best > 0 and not leader.withheld:
        return Outcome(Verdict.CHALLENGER_BETTER, name, evidence(spec, leader))
    complete = len(seen) == len(primary) and not any(e.withheld for e in everyone)
    if complete and all(e.significant and g < 0 for g, e in seen):
        return Outcome(Verdict.CHAMPION_BETTER, name, evidence(spec, leader))
    if complete and all(
        within(e, spec.primary.minimum_effect) or (e.significant and g < 0) for g, e in seen
    ):
        return Outcome(
            Verdict.NO_DIFFERENCE,
            name,
            f"the whole interval of {spec.primary.name} lies within minimumEffect",
        )
    reason = leader.withheld or evidence(spec, leader)
    return Outcome(Verdict.INCONCLUSIVE, name, reason)


def moved_back(
    spec: ExperimentSpec, found: Outcome, analysis: Sequence[MetricAnalysis]
) -> str | None:
    """Why a verdict that had to wait can't be given now, although its p-value stays as low.

    The p-value is the least so far. While minDuration lasts, or another challenger is awaited, the
    effect may move back; nobody should act on an interval that says "perhaps none". Of an exact
    test that tells nothing: it finds some effects sooner than its interval does.
    """
    better = (Verdict.CHALLENGER_BETTER, Verdict.CHAMPION_BETTER)
    if found.verdict not in better or tested_exactly(spec, spec.primary):
        return None
    primary = [entry for entry in analysis if entry.role is Role.PRIMARY]
    for entry in primary:
        about = found.verdict is Verdict.CHAMPION_BETTER or entry.model_version == found.leader
        if about and entry.absolute and entry.absolute.lower < 0 < entry.absolute.upper:
            return f"{found.reason} was reached earlier, and the interval includes 0 again"
    return None


def evidence(spec: ExperimentSpec, entry: MetricAnalysis) -> str:
    """Give one clause with the effect, its interval and the p-value."""
    interval = entry.relative or entry.absolute
    assert interval is not None
    show = percent if entry.relative else "{:+.3g}".format
    size = (
        f"{spec.primary.name} of {entry.model_version} {show(interval.effect)} "
        f"({100 * (1 - spec.analysis.alpha):g} % interval {show(interval.lower)} to "
        f"{show(interval.upper)})"
    )
    p = entry.corrected_p_value
    return size if p is None else f"{size}, p = {p:.2g}"


def percent(value: float) -> str:
    """A signed number of percent, with as many decimals as one reads."""
    # Adding nothing turns -0.0 into 0.0.
    return f"{value:+.0f} %" if abs(value) >= 99.5 else f"{round(value, 1) + 0.0:+.1f} %"


def _lift_action(spec: ExperimentSpec, entry: MetricAnalysis) -> Action:
    """What a won experiment leads to where the spec leaves it open: by the size of the lift."""
    lift = gain(spec, entry)
    if lift is not None and lift > FULL_ROLLOUT_LIFT:
        return Action.FULL_ROLLOUT
    if (lift is not None and lift > GRADUAL_ROLLOUT_LIFT) or _over_minimum(spec, entry, lift):
        return Action.GRADUAL_ROLLOUT
    return Action.KEEP_CHAMPION


def _over_minimum(spec: ExperimentSpec, entry: MetricAnalysis, lift: float | None) -> bool:
    smallest = spec.primary.minimum_effect
    if smallest is None:
        return False
    if smallest.relative is not None:
        return lift is not None and lift >= smallest.relative
    return (_effect_gain(spec, entry) or 0.0) >= (smallest.absolute or 0.0)


_RISK = {
    Action.FULL_ROLLOUT: RiskLevel.MEDIUM,
    Action.GRADUAL_ROLLOUT: RiskLevel.LOW,
    Action.KEEP_CHAMPION: RiskLevel.LOW,
    Action.EXTEND_TEST: RiskLevel.LOW,
    Action.ROLLBACK: RiskLevel.CRITICAL,
}


def decision(
    spec: ExperimentSpec, found: Outcome, analysis: Sequence[MetricAnalysis], plan: SamplePlan
) -> Decision:
    """Say what follows from a verdict, with next steps that name numbers."""
    if found.verdict is Verdict.CHALLENGER_BETTER:
        return _won(spec, found, analysis)
    if found.verdict is Verdict.INCONCLUSIVE:
        return _make(Action.EXTEND_TEST, found.reason, [more_samples(spec, plan)])
    champion = spec.champion_version
    steps = [f"{champion} keeps all traffic; the challengers' deployments can be removed"]
    if found.verdict is Verdict.NO_DIFFERENCE:
        steps.append("choose by cost or latency if the challenger is wanted all the same")
    return _make(Action.KEEP_CHAMPION, found.reason, steps)


def _won(spec: ExperimentSpec, found: Outcome, analysis: Sequence[MetricAnalysis]) -> Decision:
    entry = next(e for e in analysis if e.role is Role.PRIMARY and e.model_version == found.leader)
    chosen = {
        OnWin.FULL: Action.FULL_ROLLOUT,
        OnWin.GRADUAL: Action.GRADUAL_ROLLOUT,
        OnWin.MANUAL: Action.GRADUAL_ROLLOUT,
    }
    on_win = spec.rollout.on_win
    action = chosen[on_win] if on_win else _lift_action(spec, entry)
    reason = found.reason
    if action is Action.KEEP_CHAMPION:
        reason += "; significant, but too small to be worth a rollout"
        steps = ["to roll out all the same, apply the experiment anew with rollout.onWin Gradual"]
    elif on_win is OnWin.MANUAL:
        # Who asks for a decision knows the command's words: see `promotion`.
        steps = [f"set rollout.promote to {found.leader} to roll it out"]
    elif action is Action.FULL_ROLLOUT:
        steps = [f"{found.leader} gets all traffic now"]
    else:
        steps = [rollout_path(spec, entry.model_version)]
    return _make(action, reason, steps)


def rollout_path(spec: ExperimentSpec, version: str) -> str:
    """Say which steps a gradual rollout takes."""
    share = spec.split.get(version, 0.0)
    left = [step for step in spec.rollout.steps if step > share] or [100]
    path = ", ".join(f"{step:g}" for step in left)
    return f"{version} is rolled out to {path} %; guardrails stay on"


def rolled_back(reason: str, challenger: str) -> Decision:
    """The decision after a guardrail broke."""
    steps = [
        f"look at {challenger}'s errors and latency at the time of the breach",
        "change the spec to start again: the route stays with the champion until then",
    ]
    return _make(Action.ROLLBACK, reason, steps)


def promoted(spec: ExperimentSpec, before: Decision, version: str) -> Decision:
    """The decision once the challenger has all traffic: what is left to do for people."""
    steps = [
        f"make {version} the champion of your manifests, the route's own among them",
        f"then delete the experiment, which puts the route back as it was (to "
        f"{spec.champion_version}), and apply the route's manifest again",
        f"{spec.champion_version}'s deployment can be removed after that, once nobody wants it",
        "guardrails end with the experiment: keep alerts of your own",
    ]
    return before.model_copy(update={"next_steps": steps})


def timed_out(spec: ExperimentSpec, found: Outcome) -> Decision:
    """The decision when maxDuration has passed without a verdict."""
    reason = f"no verdict within analysis.maxDuration; at the end: {found.reason}"
    steps = ["raise minimumEffect, the challengers' percent or maxDuration to try again"]
    return _make(Action.KEEP_CHAMPION, reason, steps)


def not_let_live(spec: ExperimentSpec, why: str) -> Decision:
    """The decision where the shadow gate has kept the challengers from going live."""
    steps = [
        f"all traffic has stayed with {spec.champion_version}: no challenger has served anybody",
        "look at where the answers differ; a corrected version, another shadow.maxDivergence or "
        "longer analysis.maxDuration starts the experiment again",
    ]
    return _make(Action.KEEP_CHAMPION, why, steps)


def _make(action: Action, reason: str, steps: list[str]) -> Decision:
    return Decision(action=action, reason=reason, next_steps=steps, risk_level=_RISK[action])


def more_samples(spec: ExperimentSpec, plan: SamplePlan) -> str:
    """Say how many samples are still needed, and how long that takes."""
    if plan.samples_needed is None:
        return plan.message or "wait for more samples"
    missing = max(0, plan.samples_needed - plan.samples_so_far)
    if missing == 0:
        return (
            f"the planned {plan.samples_needed:,} samples per arm are there; the effect is smaller "
            "than minimumEffect or the numbers are noisier than planned: wait, or stop"
        )
    text = f"{missing:,} more samples per arm"
    if plan.arrival_rate:
        per_day = plan.arrival_rate * 24
        days = missing / per_day
        span = f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"
        if days * 24 < 1:
            span = f"{days * 24 * 60:.0f} minutes"
        text += f", about {span} at {per_day:,.0f} a day"
    return text
