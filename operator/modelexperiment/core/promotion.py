"""Somebody's word that a challenger is to be rolled out: `spec.rollout.promote`.

It is followed once, by the run that first sees it. What has been followed is remembered, and what
stands there when an ended experiment begins again counts as followed: a rollback is never undone
by what was asked for before it.
"""

from __future__ import annotations

from modelexperiment.core import decision
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.sample_ratio import describe
from modelexperiment.core.spec import ExperimentSpec, OnWin, Role
from modelexperiment.core.status import (
    Action,
    Decision,
    ExperimentStatus,
    GuardrailState,
    Memory,
    Phase,
    RiskLevel,
    Verdict,
)


def command(experiment: Experiment, version: str) -> str:
    """The command that rolls a challenger out."""
    to = f" --to {version}" if len(experiment.spec.challengers) > 1 else ""
    return f"kubectl mexp promote {experiment.name} -n {experiment.namespace}{to}"


def pending(spec: ExperimentSpec, memory: Memory) -> str | None:
    """The challenger whose promote is asked for and has not been followed yet."""
    asked = spec.rollout.promote
    return asked if asked != memory.promoted else None


def guardrails_pass(spec: ExperimentSpec, status: ExperimentStatus) -> bool:
    """Whether all of them do: nobody more is sent to a challenger that is not known to be well.

    Before the first poll nothing is known of a challenger that serves.
    """
    serving = any(spec.split[version] > 0 for version in spec.challengers)
    if spec.guardrails and serving and not status.guardrails:
        return False
    return all(g.state is GuardrailState.PASS for g in status.guardrails)


def waits_for_word(spec: ExperimentSpec, status: ExperimentStatus) -> bool:
    """Whether a challenger has won and is rolled out only when somebody says so."""
    won = status.verdict is Verdict.CHALLENGER_BETTER and status.rollout is None
    return won and spec.rollout.on_win is OnWin.MANUAL and not status.phase.ended


def asked_for(experiment: Experiment, decided: Decision, winner: str) -> Decision:
    """The decision of a verdict that waits for somebody's word, with the command to give it."""
    steps = [
        f"to roll {winner} out: {command(experiment, winner)} (or set rollout.promote)",
        f"to keep {experiment.spec.champion_version}: kubectl mexp stop "
        f"{experiment.name} -n {experiment.namespace}; until then the split stays",
    ]
    return decided.model_copy(update={"next_steps": steps})


def followed(spec: ExperimentSpec, status: ExperimentStatus, version: str) -> Decision:
    """The decision once a promote is followed. It says honestly what is known at that moment."""
    full = spec.rollout.on_win is OnWin.FULL
    ratio = status.sample_ratio
    found = decision.outcome(spec, status.analysis)
    primary = [e for e in status.analysis if e.role is Role.PRIMARY]
    entry = next((e for e in primary if e.model_version == version and e.absolute), None)
    known = decision.evidence(spec, entry) if entry else "too few samples for an interval yet"
    risk = RiskLevel.MEDIUM
    if ratio and ratio.mismatch:
        risk = RiskLevel.CRITICAL
        reason = (
            f"rollout.promote asks for {version} although no number can be trusted: "
            f"{describe(ratio)}"
        )
    elif status.verdict is Verdict.CHALLENGER_BETTER and found.leader == version:
        risk = RiskLevel.MEDIUM if full else RiskLevel.LOW
        reason = f"rollout.promote asks for {version}, which has won: {known}"
    else:
        reason = f"rollout.promote asks for {version} without a verdict for it: {known}"
    return Decision(
        action=Action.FULL_ROLLOUT if full else Action.GRADUAL_ROLLOUT,
        reason=reason,
        next_steps=[
            f"{version} gets all traffic now" if full else decision.rollout_path(spec, version)
        ],
        risk_level=risk,
    )


def note(experiment: Experiment, status: ExperimentStatus) -> str | None:
    """What there is to say of a promote that is not on its way, or that is waited for."""
    spec = experiment.spec
    asked = spec.rollout.promote
    if asked is None:
        return "waits for rollout.promote" if waits_for_word(spec, status) else None
    if pending(spec, status.memory) is None:
        if status.phase.ended or status.rollout:
            return None
        return (
            f"rollout.promote {asked} is of before this run and not followed: take it out, then "
            "set it anew"
        )
    if status.phase.ended:
        return f"rollout.promote {asked} is not followed: the experiment had ended before"
    if status.phase is Phase.PAUSED:
        return f"rollout.promote {asked} waits until the experiment is resumed"
    if status.phase is Phase.PENDING:
        return f"rollout.promote {asked} waits for the start"
    if status.phase is Phase.SHADOWING:
        return f"rollout.promote {asked} waits until the shadow agrees, or spec.shadow is taken out"
    return f"rollout.promote {asked} waits until every guardrail passes"
