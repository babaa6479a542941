"""Guardrails have three answers: pass, breach, and not enough data.

A threshold guardrail compares one number with its bounds at each poll. What is not a number is no
data: it is never a pass and never a breach, unless the manifest says `noData: Fail`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Reading, Snapshot
from modelexperiment.core.spec import Analysis, ExperimentSpec, Guardrail, NoData
from modelexperiment.core.status import GuardrailState, GuardrailStatus


def bounds(guardrail: Guardrail, champion: float | None) -> tuple[float | None, float | None]:
    """Give (min, max) for a challenger, with `maxIncrease` worked out from the champion's value."""
    upper = guardrail.max
    increase = guardrail.max_increase
    if increase is not None and champion is not None:
        allowed = (
            champion + abs(champion) * increase.relative / 100
            if increase.relative is not None
            else champion + (increase.absolute or 0.0)
        )
        upper = allowed if upper is None else min(upper, allowed)
    return guardrail.min, upper


def _answer(
    guardrail: Guardrail, reading: Reading, champion: Reading | None
) -> tuple[GuardrailState, float | None, str | None]:
    """Give the state, the limit that was compared, and why."""
    value = reading.value
    missing = reading.missing or (reading.error.message if reading.error else "")
    if value is None:
        # An error of Prometheus is nobody's breach; an empty answer may be, where the manifest
        # says so.
        if guardrail.no_data is NoData.FAIL and reading.error is None:
            return GuardrailState.BREACH, None, f"{missing} (noData: Fail)"
        return GuardrailState.INSUFFICIENT_DATA, None, missing
    champion_value = champion.value if champion else None
    lower, upper = bounds(guardrail, champion_value)
    if upper is not None and value > upper:
        return GuardrailState.BREACH, upper, f"{value:.4g} is over the limit of {upper:.4g}"
    if lower is not None and value < lower:
        return GuardrailState.BREACH, lower, f"{value:.4g} is under the limit of {lower:.4g}"
    if upper is None and guardrail.max_increase is not None:
        return GuardrailState.INSUFFICIENT_DATA, None, "the champion has no value to compare with"
    return GuardrailState.PASS, upper if upper is not None else lower, None


def judge(
    guardrail: Guardrail,
    reading: Reading,
    champion: Reading | None,
    before: GuardrailStatus | None,
    now: datetime,
) -> GuardrailStatus:
    """Judge one reading of a threshold guardrail, going on from the status before."""
    state, limit, message = _answer(guardrail, reading, champion)
    in_a_row = (before.breaches if before else 0) + 1 if state is GuardrailState.BREACH else 0
    if state is GuardrailState.INSUFFICIENT_DATA and before:
        # Missing data neither continues a row of breaches nor forgives it.
        in_a_row = before.breaches
    changed = before is None or before.state is not state
    return GuardrailStatus(
        name=guardrail.name,
        model_version=reading.model_version,
        state=state,
        value=None if reading.value is None else float(f"{reading.value:.6g}"),
        limit=None if limit is None else float(f"{limit:.6g}"),
        breaches=in_a_row,
        last_change=now.replace(microsecond=0) if changed or not before else before.last_change,
        message=message,
    )


def judge_all(
    spec: ExperimentSpec, snapshot: Snapshot, before: Iterable[GuardrailStatus], split: Split
) -> list[GuardrailStatus]:
    """Judge every guardrail of every challenger that serves; what was not read keeps its status.

    A challenger without traffic, as the others in a rollout, has no data, which is nobody's fault.
    """
    known = {(g.name, g.model_version): g for g in before}
    judged = []
    for guardrail in spec.guardrails:
        for version in (v for v in spec.challengers if split.get(v, 0.0) > 0):
            last = known.get((guardrail.name, version))
            reading = snapshot.reading(guardrail.name, version)
            if reading is not None:
                champion = snapshot.reading(guardrail.name, spec.champion_version)
                judged.append(judge(guardrail, reading, champion, last, snapshot.now))
            elif last is not None:
                judged.append(last)
    return judged


def broken(spec: ExperimentSpec, judged: Iterable[GuardrailStatus]) -> list[GuardrailStatus]:
    """Give the breaches that have lasted for their guardrail's failureLimit."""
    limits = {g.name: g.failure_limit for g in spec.guardrails}
    return [
        g
        for g in judged
        if g.state is GuardrailState.BREACH and g.breaches >= limits.get(g.name, 1)
    ]


def overdue(
    analysis: Analysis, judged: Iterable[GuardrailStatus], since: datetime, now: datetime
) -> list[GuardrailStatus]:
    """Give the guardrails that have had no data for `guardrailTimeout`, counted from `since`."""
    timeout: timedelta = analysis.guardrail_timeout
    return [
        g
        for g in judged
        if g.state is GuardrailState.INSUFFICIENT_DATA
        and now - max(g.last_change, since) >= timeout
    ]
