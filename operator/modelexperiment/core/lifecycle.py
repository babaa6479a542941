"""The phases of an experiment: what edits mean, and how it ends; `starting.py` has its start."""

from __future__ import annotations

from modelexperiment.core import (
    analysis,
    decision,
    placement,
    promotion,
    ramp,
    readiness,
    rollout,
    shadow,
    starting,
)
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.fields import format_duration
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import ExperimentSpec, OnWin, TimeoutAction
from modelexperiment.core.status import (
    Action,
    Decision,
    ExperimentStatus,
    GuardrailStatus,
    Phase,
    RoutedArm,
    SamplePlan,
    Verdict,
)


def take_edits(draft: Draft) -> None:
    """See what an edit of the spec means for an experiment that has started."""
    ramp.take_promote_back(draft)
    spec, status = draft.spec, draft.status
    if status.phase.ended:
        starting.start_again(draft)
        return
    # What is edited while it runs is asked from now on: its end is an answer to that.
    draft.remember(purpose=starting.purpose(spec))
    shadow.take_edit(draft)
    if status.shadowing:
        # Neither the split nor the metrics count yet.
        return
    # What an arm that is not ready leaves to the champion changes the shares as an edit does.
    split = readiness.routable(spec, spec.split, draft.snapshot.not_ready)
    if not rollout.same_split(_split_of(status.memory.split), split):
        before = rollout.format_split(_split_of(status.memory.split))
        draft.tell(
            Reason.SPLIT_CHANGED,
            f"{before} became {rollout.format_split(split)}: a new phase of the count",
        )
        draft.remember(split=starting.arms(split), split_since=draft.snapshot.now)
    placement.take_redraw(draft)
    _start_changed_metrics_anew(draft)


def _start_changed_metrics_anew(draft: Draft) -> None:
    """Forget what was seen of a metric that is now another one, or that is gone."""
    spec, known = draft.spec, draft.status.memory.fingerprints
    prints = {m.name: analysis.fingerprint(spec, m) for m in spec.metrics}
    if known == prints:
        return
    for name, value in prints.items():
        if known.get(name, value) != value:
            draft.tell(Reason.METRIC_RESTARTED, f"metric {name} has changed and starts anew")
    kept = {name for name, value in prints.items() if known.get(name) == value}
    saved: dict[str, object] = draft.status.memory.comparisons or {}
    edges: dict[str, object] = draft.status.memory.edges or {}
    blocks: dict[str, object] = draft.status.memory.novelty or {}
    draft.remember(
        fingerprints=prints,
        edges={name: edge for name, edge in edges.items() if name in kept} or None,
        comparisons={key: state for key, state in saved.items() if key.split("/")[0] in kept},
        novelty={key: state for key, state in blocks.items() if key.split("/")[0] in kept},
    )
    # A verdict from the old numbers would be one about a question that nobody asks any more.
    draft.update(analysis=[e for e in draft.status.analysis if e.metric in kept], plan=None)


def _split_of(arms: list[RoutedArm]) -> rollout.Split:
    return {arm.model_version: arm.percent for arm in arms}


def stop_or_pause(draft: Draft) -> None:
    """Follow spec.stop and spec.paused."""
    spec, status = draft.spec, draft.status
    if spec.stop:
        ramp.end(draft, Phase.STOPPED)
        draft.tell(Reason.COMPLETED, f"stopped: {spec.champion_version} gets everything")
    elif spec.paused and status.phase is not Phase.PAUSED:
        draft.update(phase=Phase.PAUSED)
    elif not spec.paused and status.phase is Phase.PAUSED and not draft.guardrail_late:
        draft.update(phase=_paused_in(status))


def _paused_in(status: ExperimentStatus) -> Phase:
    """The phase that a pause goes back to."""
    if status.shadowing:
        return Phase.SHADOWING
    return Phase.ROLLING_OUT if status.rollout else Phase.RUNNING


def roll_back(draft: Draft, broken: GuardrailStatus) -> None:
    """Send everything back to the champion because a guardrail broke."""
    why = f"guardrail {broken.name} broke for {broken.model_version}: {broken.message}"
    ramp.end(draft, Phase.ROLLED_BACK)
    draft.update(decision=decision.rolled_back(why, broken.model_version))
    link = f"; see {broken.breach.link}" if broken.breach and broken.breach.link else ""
    draft.tell(Reason.GUARDRAIL_BREACHED, why + link)
    draft.tell(Reason.ROLLED_BACK, f"{draft.spec.champion_version} gets everything: {why}")


def give_up_on_guardrail(draft: Draft, late: GuardrailStatus) -> None:
    """Follow analysis.onGuardrailTimeout for a guardrail that has had no data for too long."""
    timeout = format_duration(draft.spec.analysis.guardrail_timeout)
    why = (
        f"guardrail {late.name} has had no data for {late.model_version} "
        f"for over {timeout} ({late.message})"
    )
    draft.guardrail_late = True
    if draft.spec.analysis.on_guardrail_timeout is TimeoutAction.PAUSE:
        if draft.status.phase is not Phase.PAUSED:
            draft.update(phase=Phase.PAUSED)
            draft.tell(Reason.GUARDRAIL_BREACHED, f"paused: {why}")
        return
    ramp.end(draft, Phase.ROLLED_BACK)
    draft.update(decision=decision.rolled_back(why, late.model_version))
    draft.tell(Reason.ROLLED_BACK, f"{draft.spec.champion_version} gets everything: {why}")


def conclude(draft: Draft) -> None:
    """Reach a verdict, and follow it."""
    asked = promotion.pending(draft.spec, draft.status.memory)
    if asked:
        ramp.follow_promote(draft, asked)
        return
    if draft.status.phase is Phase.ROLLING_OUT:
        ramp.roll_on(draft)
        return
    counted = draft.snapshot.counted
    if not isinstance(counted, Counted):
        return
    spec, status = draft.spec, draft.status
    # By the counters' clock, the one that startTime is from.
    elapsed = counted.until - (status.start_time or counted.until)
    over = elapsed >= spec.analysis.max_duration
    if status.sample_ratio and status.sample_ratio.mismatch:
        if over:
            why = "the arms did not get their shares, so that no verdict could be given"
            _give_up(draft, decision.Outcome(Verdict.INCONCLUSIVE, None, why))
        return
    found = decision.outcome(spec, status.analysis)
    patience = max(spec.analysis.min_duration, spec.primary.delay)
    if found.verdict is not Verdict.INCONCLUSIVE and elapsed < patience:
        waits = f"no verdict before {format_duration(patience)}"
        found = decision.Outcome(Verdict.INCONCLUSIVE, found.leader, waits)
    elif found.verdict is not draft.before.verdict:
        moved = decision.moved_back(spec, found, status.analysis)
        found = decision.Outcome(Verdict.INCONCLUSIVE, found.leader, moved) if moved else found
    plan = status.plan or SamplePlan(samples_so_far=0)
    decided = decision.decision(spec, found, status.analysis, plan)
    if _waits_for_word(spec, found):
        decided = promotion.asked_for(draft.experiment, decided, found.leader or "")
    draft.update(verdict=found.verdict, decision=decided)
    if found.verdict is not Verdict.INCONCLUSIVE:
        _follow(draft, found, decided)
    elif over:
        _give_up(draft, found)


def _waits_for_word(spec: ExperimentSpec, found: decision.Outcome) -> bool:
    won = found.verdict is Verdict.CHALLENGER_BETTER
    return won and spec.rollout.on_win is OnWin.MANUAL


def _give_up(draft: Draft, found: decision.Outcome) -> None:
    late = decision.timed_out(draft.spec, found)
    draft.update(verdict=found.verdict, decision=late)
    ramp.end(draft, Phase.CHAMPION_KEPT)
    draft.tell(Reason.COMPLETED, late.reason)


def _follow(draft: Draft, found: decision.Outcome, decided: Decision) -> None:
    spec = draft.spec
    if draft.before.verdict is not found.verdict:
        draft.tell(Reason.VERDICT_REACHED, f"{found.verdict}: {found.reason}")
    if found.verdict is not Verdict.CHALLENGER_BETTER or not found.leader:
        _keep(draft)
        return
    if spec.rollout.on_win is OnWin.MANUAL:
        return
    if decided.action is Action.KEEP_CHAMPION:
        _keep(draft)
    else:
        ramp.roll_out(draft, found.leader, full=decided.action is Action.FULL_ROLLOUT)


def _keep(draft: Draft) -> None:
    ramp.end(draft, Phase.CHAMPION_KEPT)
    draft.tell(Reason.COMPLETED, f"{draft.spec.champion_version} keeps all traffic")
