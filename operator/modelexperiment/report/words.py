"""What the report says in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from modelexperiment.core import shadow
from modelexperiment.core.decision import gain, percent
from modelexperiment.core.effects import effect_of as effect_of
from modelexperiment.core.effects import leader as leader
from modelexperiment.core.effects import primaries as primaries
from modelexperiment.core.effects import reach as reach
from modelexperiment.core.effects import size as size
from modelexperiment.core.entries import MetricAnalysis, NoveltyReport
from modelexperiment.core.fields import format_duration
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import Action, ExperimentStatus, Phase, ShadowStatus, Verdict


@dataclass(frozen=True)
class Headline:
    """The decision in a few words."""

    text: str
    tone: str
    """good, bad, warn or calm: the page's colour and sign."""


def headline(spec: ExperimentSpec, status: ExperimentStatus) -> Headline:
    """What a manager needs to know, in one line."""
    champion, best = spec.champion_version, leader(spec, status)
    version = best.model_version if best else spec.challengers[0]
    decision = status.decision
    if decision and decision.action is Action.ROLLBACK:
        return Headline(f"Rolled back: {champion} serves everybody", "bad")
    if status.sample_ratio and status.sample_ratio.mismatch:
        return Headline("No verdict: the versions did not get their shares", "warn")
    if status.phase is Phase.PENDING:
        return Headline("Not started yet", "calm")
    if status.phase is Phase.SHADOWING:
        return Headline(f"Not live yet: {_copied(status, version)} gets copies only", "calm")
    if status.phase is Phase.STOPPED:
        return Headline(f"Stopped: {champion} serves everybody", "calm")
    if decision is None or decision.action is Action.EXTEND_TEST:
        paused = "Paused, without a verdict" if status.phase is Phase.PAUSED else ""
        return Headline(paused or "No verdict yet: keep testing", "calm")
    if status.shadow and status.start_time is None:
        return Headline(f"Keep {champion}: {_copied(status, version)} never went live", "calm")
    if decision.action is Action.KEEP_CHAMPION:
        return Headline(f"Keep {champion}: {_why_kept(status.verdict, version)}", "calm")
    return Headline(_won(status.phase, version), "good")


def _copied(status: ExperimentStatus, version: str) -> str:
    return status.shadow.model_version if status.shadow else version


def compared(found: ShadowStatus) -> list[str]:
    """What is known of the shadow's answers, in sentences."""
    said = []
    if found.state is not None:
        said.append(f"{found.model_version} {shadow.answer(found)}.")
    if found.distribution is not None:
        said.append(
            f"Of its {shadow.apart(found.distribution)}; reported only, nothing is decided from it."
        )
    return said or [f"{found.model_version} gets copies; nothing has been compared yet."]


def _why_kept(verdict: Verdict | None, version: str) -> str:
    reasons = {
        Verdict.CHALLENGER_BETTER: f"{version} is better, but by too little to be worth it",
        Verdict.CHAMPION_BETTER: f"{version} is worse",
        Verdict.NO_DIFFERENCE: "no difference that matters",
    }
    return reasons.get(verdict, "no verdict in the time given") if verdict else "no verdict"


def _won(phase: Phase, version: str) -> str:
    if phase is Phase.SUCCEEDED:
        return f"{version} won and serves everybody"
    if phase is Phase.ROLLING_OUT:
        return f"{version} is better, and is being rolled out"
    return f"{version} is better: roll it out"


def number(value: float | None) -> str:
    """A value in the metric's own units."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def p_value(value: float | None) -> str:
    """A p-value for people."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def p_is(value: float | None) -> str:
    """The same within a sentence: p = 0.03, p < 0.0001."""
    said = p_value(value)
    return f"p {said}" if said.startswith("<") else f"p = {said}"


def level(spec: ExperimentSpec) -> str:
    """The intervals' confidence."""
    return f"{100 * (1 - spec.analysis.alpha):g} %"


def in_a_sentence(spec: ExperimentSpec, entry: MetricAnalysis) -> str:
    """The effect in plain words."""
    found, relative = effect_of(entry)
    name, version = spec.primary.name, entry.model_version
    if found is None:
        return f"There are too few samples for an effect of {version} on {name} yet."
    higher = "higher" if found.effect >= 0 else "lower"
    amount = percent(abs(found.effect)).lstrip("+") if relative else f"{abs(found.effect):.3g}"
    better = (gain(spec, entry) or 0.0) > 0
    judged = ""
    if entry.significant:
        judged = ", which is " + ("an improvement" if better else "worse")
    return (
        f"{name} of {version} is {amount} {higher} than {spec.champion_version}'s{judged}; "
        f"the {level(spec)} interval reaches from {reach(found, relative)} and holds at every look."
    )


def moment(value: datetime | None) -> str:
    """A time for people, in UTC."""
    return "–" if value is None else value.strftime("%Y-%m-%d %H:%M:%S UTC")


def lasted(status: ExperimentStatus) -> str:
    """How long the experiment has been counting."""
    if status.start_time is None or status.counted_until is None:
        return "–"
    return format_duration(status.counted_until - status.start_time)


def novelty(version: str, found: NoveltyReport) -> str:
    """Whether the effect changes from block to block."""
    seen = f"over {found.blocks} {found.block}s, {p_is(found.p_value)}"
    if found.drift == "steady":
        return f"The effect of {version} shows no change {seen}."
    return (
        f"The effect of {version} is {found.drift} {seen}: wait until it settles, "
        "for the average so far tells little of what will last."
    )


def users_moved(spec: ExperimentSpec, shares: dict[str, list[float | None]]) -> str:
    """How many users the changes of the split have moved, at least."""
    if spec.assignment is None:
        return "Every request is routed at random; no user is held to a version."
    rows = list(zip(*shares.values(), strict=True))
    moved = sum(
        sum(max(0.0, (new or 0.0) - (old or 0.0)) for old, new in zip(one, next_, strict=True))
        for one, next_ in pairwise(rows)
    )
    if moved < 0.005:
        return "The split has not changed: no user was moved to another version."
    return f"Changes of the split have moved {moved:.4g} % of the users to another version."
