"""A challenger's way to all traffic: by a verdict or by somebody's word, in steps or at once."""

from __future__ import annotations

from modelexperiment.core import decision, promotion, rollout
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.status import Action, Phase, RolloutStatus, Verdict


def end(draft: Draft, phase: Phase) -> None:
    """End the experiment."""
    changes: dict[str, object] = {"phase": phase, "end_time": draft.snapshot.now}
    if phase is not Phase.SUCCEEDED:
        changes["rollout"] = None
    draft.update(**changes)


def roll_out(draft: Draft, version: str, *, full: bool) -> None:
    """Send a challenger all traffic: at once, or beginning with the first step."""
    spec, now = draft.spec, draft.snapshot.now
    if full:
        last = len(spec.rollout.steps) - 1
        _promote(draft, RolloutStatus(model_version=version, step=last, since=now))
        return
    draft.update(phase=Phase.ROLLING_OUT)
    _take_step(draft, rollout.first_step(spec, version, now))


def roll_on(draft: Draft) -> None:
    """Take the step that is due, if one is; after the last one the experiment has succeeded."""
    step = draft.status.rollout
    assert step is not None
    due = rollout.next_step(draft.spec, step, draft.snapshot.now)
    if due is step or not promotion.guardrails_pass(draft.spec, draft.status):
        return
    if due is None:
        _promote(draft, step)
    else:
        _take_step(draft, due)


def follow_promote(draft: Draft, version: str) -> None:
    """Roll a challenger out because somebody says so, once its guardrails are known to pass."""
    spec = draft.spec
    if not promotion.guardrails_pass(spec, draft.status):
        return
    decided = promotion.followed(spec, draft.status, version)
    draft.remember(promoted=version)
    draft.update(decision=decided, verdict=draft.status.verdict or Verdict.INCONCLUSIVE)
    draft.tell(Reason.PROMOTE_REQUESTED, decided.reason)
    under_way = draft.status.rollout
    full = decided.action is Action.FULL_ROLLOUT
    if full or under_way is None or under_way.model_version != version:
        roll_out(draft, version, full=full)


def take_promote_back(draft: Draft) -> None:
    """Forget a promote that is not asked for any more; its rollout goes back to the split."""
    promoted, status = draft.status.memory.promoted, draft.status
    if promoted is None or draft.spec.rollout.promote == promoted:
        return
    draft.remember(promoted=None)
    if status.phase.ended or status.rollout is None or status.rollout.model_version != promoted:
        return
    paused = status.phase is Phase.PAUSED
    draft.update(phase=Phase.PAUSED if paused else Phase.RUNNING, rollout=None, decision=None)
    draft.remember(split_since=draft.snapshot.now)
    split = rollout.format_split(draft.spec.split)
    draft.tell(Reason.PROMOTE_REQUESTED, f"rollout.promote of {promoted} was taken back: {split}")


def _take_step(draft: Draft, step: RolloutStatus) -> None:
    draft.update(rollout=step)
    split = rollout.step_split(draft.spec, step)
    draft.tell(Reason.ROLLOUT_STEP, f"rollout: {rollout.format_split(split)}")


def _promote(draft: Draft, step: RolloutStatus) -> None:
    version = step.model_version
    draft.update(rollout=step)
    if draft.status.decision:
        done = decision.promoted(draft.spec, draft.status.decision, version)
        draft.update(decision=done)
    end(draft, Phase.SUCCEEDED)
    draft.tell(Reason.PROMOTED, f"{version} gets all traffic")
    how = "won" if draft.status.verdict is Verdict.CHALLENGER_BETTER else "was promoted"
    draft.tell(Reason.COMPLETED, f"{version} {how}; make it the champion of the next experiment")
