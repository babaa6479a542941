"""Guardrails have three answers: pass, breach, and not enough data.

A threshold guardrail compares one number with its bounds at each poll. What is not a number is no
data: it is never a pass and never a breach, unless the manifest says `noData: Fail`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from urllib.parse import urlencode

from modelexperiment.core.rollout import Split
from modelexperiment.core.snapshot import Reading, Snapshot
from modelexperiment.core.spec import Analysis, ExperimentSpec, Guardrail, NoData
from modelexperiment.core.status import Breach, GuardrailState, GuardrailStatus


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
    prometheus: str = "",
) -> GuardrailStatus:
    """Judge one reading of a threshold guardrail, going on from the status before.

    `prometheus` is where people find the Prometheus that was read.
    """
    state, limit, message = _answer(guardrail, reading, champion)
    breaches, readings = _row(guardrail, state, before)
    judged = GuardrailStatus(
        name=guardrail.name,
        model_version=reading.model_version,
        state=state,
        value=rounded(reading.value),
        limit=rounded(limit),
        breaches=breaches,
        readings=readings,
        last_change=now,
        message=message,
    )
    return amended(judged, before, reading.query, prometheus, now)


def rounded(value: float | None) -> float | None:
    """The value to six significant digits."""
    return None if value is None else float(f"{value:.6g}")


def _row(
    guardrail: Guardrail, state: GuardrailState, before: GuardrailStatus | None
) -> tuple[int, str | None]:
    """The breaches so far, in a row or in the window, and the window's readings."""
    window = guardrail.failure_window
    known = before.breaches if before else 0
    readings = (before.readings if before else None) or ""
    if state is GuardrailState.INSUFFICIENT_DATA:
        # Missing data neither continues a row of breaches nor forgives it.
        return known, readings or None if window else None
    breach = state is GuardrailState.BREACH
    if window is None:
        return known + 1 if breach else 0, None
    readings = (readings + ("x" if breach else "."))[-window:]
    return readings.count("x"), readings


def amended(
    judged: GuardrailStatus,
    before: GuardrailStatus | None,
    query: str,
    prometheus: str,
    now: datetime,
) -> GuardrailStatus:
    """The answer with the time of its last change, and with the last breach."""
    since, breach = now.replace(microsecond=0), before.breach if before else None
    if before is not None and before.state is judged.state:
        since = before.last_change
    if judged.state is GuardrailState.BREACH:
        breach = Breach(
            time=now,
            value=judged.value,
            limit=judged.limit,
            query=query,
            link=graph(prometheus, query, now) if prometheus else None,
        )
    return judged.model_copy(update={"last_change": since, "breach": breach})


def graph(prometheus: str, query: str, end: datetime) -> str:
    """The address of Prometheus' graph of a query, of the quarter of an hour up to `end`."""
    asked = {
        "g0.expr": query,
        "g0.tab": "0",
        "g0.range_input": "15m",
        "g0.end_input": f"{end + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}",
    }
    return f"{prometheus}/graph?{urlencode(asked)}"


def judge_all(
    spec: ExperimentSpec, snapshot: Snapshot, before: Iterable[GuardrailStatus], split: Split
) -> list[GuardrailStatus]:
    """Judge every query of every challenger that serves; what was not read keeps its status.

    A challenger without traffic, as the others in a rollout, has no data, which is nobody's fault.
    """
    known = {(g.name, g.model_version): g for g in before}
    judged = []
    for guardrail in (g for g in spec.guardrails if not g.statistical):
        for version in (v for v in spec.challengers if split.get(v, 0.0) > 0):
            last = known.get((guardrail.name, version))
            reading = snapshot.reading(guardrail.name, version)
            if reading is not None:
                champion = snapshot.reading(guardrail.name, spec.champion_version)
                judged.append(
                    judge(guardrail, reading, champion, last, snapshot.now, snapshot.prometheus)
                )
            elif last is not None:
                judged.append(last)
    return judged


def broken(spec: ExperimentSpec, judged: Iterable[GuardrailStatus]) -> list[GuardrailStatus]:
    """Give the breaches that have lasted for their guardrail's failureLimit.

    A statistical breach needs no second one: its alpha is the promise.
    """
    limits = {g.name: 1 if g.statistical else g.failure_limit for g in spec.guardrails}
    return [
        g
        for g in judged
        if g.state is GuardrailState.BREACH and g.breaches >= limits.get(g.name, 1)
    ]


def overdue(
    analysis: Analysis,
    judged: Iterable[GuardrailStatus],
    since: datetime,
    now: datetime,
    fed: Collection[tuple[str, str]] = (),
) -> list[GuardrailStatus]:
    """Give the guardrails that have had no data for `guardrailTimeout`, counted from `since`.

    Those of (name, modelVersion) in `fed` have data, and only not enough of it yet.
    """
    timeout: timedelta = analysis.guardrail_timeout
    return [
        g
        for g in judged
        if g.state is GuardrailState.INSUFFICIENT_DATA
        and (g.name, g.model_version) not in fed
        and now - max(g.last_change, since) >= timeout
    ]
