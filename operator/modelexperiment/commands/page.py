"""An experiment's status as a page that is read in ten seconds, and many as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from modelexperiment.core import promotion, shadow
from modelexperiment.core.conditions import ConditionType
from modelexperiment.core.crd import COLUMNS
from modelexperiment.core.decision import percent
from modelexperiment.core.fields import format_duration
from modelexperiment.core.manifest import ManifestError, parse_experiment
from modelexperiment.core.rollout import format_split
from modelexperiment.core.status import (
    Condition,
    ConditionStatus,
    ExperimentStatus,
    GuardrailState,
    GuardrailStatus,
    Interval,
    MetricAnalysis,
    Phase,
)

Object = Mapping[str, Any]
Row = Sequence[str]

_GREEN, _YELLOW, _RED, _BOLD = "32", "33", "31", "1"
_PHASES = {
    Phase.SUCCEEDED: _GREEN,
    Phase.RUNNING: _GREEN,
    Phase.ROLLING_OUT: _GREEN,
    Phase.ROLLED_BACK: _RED,
    Phase.PENDING: _YELLOW,
    Phase.SHADOWING: _YELLOW,
    Phase.PAUSED: _YELLOW,
}
_STATES = {
    GuardrailState.PASS: _GREEN,
    GuardrailState.BREACH: _RED,
    GuardrailState.INSUFFICIENT_DATA: _YELLOW,
}


class Page:
    """Writes one experiment's status for people, as of `now`; colours are ANSI's."""

    def __init__(self, seen: Object, now: datetime, *, colours: bool = False) -> None:
        self._seen = seen
        self._metadata: Object = seen["metadata"]
        self._status = status_of(seen)
        self._now = now
        self._colours = colours

    def text(self) -> str:
        """The whole page, without a line break at its end."""
        parts = [
            self._head(),
            self._decision(),
            self._shadow(),
            self._metrics(),
            self._guardrails(),
            self._sample_ratio(),
            self._conditions(),
        ]
        return "\n".join(line for part in parts for line in part)

    def _paint(self, text: str, colour: str | None) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and colour else text

    def _title(self, text: str) -> str:
        return self._paint(text, _BOLD)

    def _age(self, since: datetime | None) -> str:
        # Another machine's clock may be ahead of this one's.
        return format_duration(max(self._now - since, timedelta(0))) if since else ""

    def _head(self) -> list[str]:
        status, metadata = self._status, self._metadata
        phase = self._paint(str(status.phase), _PHASES.get(status.phase))
        name = self._title(f"{metadata['namespace']}/{metadata['name']}")
        words = [f"{name}  {phase}"]
        if status.routed:
            words.append(format_split(status.routed_split))
        if status.end_time:
            words.append(f"ended {self._age(status.end_time)} ago")
        elif status.start_time:
            words.append(f"for {self._age(status.start_time)}")
        if status.summary.eta and not status.phase.ended:
            words.append(f"ETA {status.summary.eta}")
        if status.counted_until and not status.phase.ended:
            words.append(f"counted up to {self._age(status.counted_until)} ago")
        lines = ["  ".join(words)]
        newest, known = metadata.get("generation", 0), status.observed_generation or 0
        if known < newest:
            text = f"the operator has seen generation {known} of the spec, not yet {newest}"
            lines.append(self._paint(text, _YELLOW))
        note = note_of(self._seen)
        return lines + ([self._paint(note, _YELLOW)] if note else [])

    def _decision(self) -> list[str]:
        status = self._status
        if status.decision is None:
            return []
        verdict = f"{status.verdict}: " if status.verdict else ""
        head = f"{status.decision.action} ({status.decision.risk_level} risk)"
        lines = [f"{self._title('Decision')}  {head}", f"  {verdict}{status.decision.reason}"]
        return lines + [f"  - {step}" for step in status.decision.next_steps]

    def _shadow(self) -> list[str]:
        found = self._status.shadow
        if found is None:
            return []
        lines = [f"{self._title('Shadow')}  {found.model_version}"]
        if found.state:
            lines = [f"{lines[0]} {shadow.answer(found)}"]
        if found.distribution:
            lines.append(f"  {shadow.apart(found.distribution)}")
        return lines

    def _metrics(self) -> list[str]:
        if not self._status.analysis:
            return []
        header = (
            "METRIC", "VERSION", "CHAMPION", "CHALLENGER", "EFFECT", "INTERVAL", "P", "SAMPLES", ""
        )  # fmt: skip
        rows = [_metric_row(entry) for entry in self._status.analysis]
        return [self._title("Metrics"), *_table([header, *rows])]

    def _guardrails(self) -> list[str]:
        found = self._status.guardrails
        if not found:
            return []
        header = ("GUARDRAIL", "VERSION", "STATE", "VALUE", "LIMIT", "SINCE", "")
        lines = _table([header, *(self._guardrail_row(g) for g in found)])
        return [self._title("Guardrails"), lines[0], *self._states(found, lines[1:])]

    def _guardrail_row(self, guardrail: GuardrailStatus) -> Row:
        return (
            guardrail.name,
            guardrail.model_version,
            str(guardrail.state),
            _number(guardrail.value),
            _number(guardrail.limit),
            self._age(guardrail.last_change),
            guardrail.message or "",
        )

    def _states(self, found: Sequence[GuardrailStatus], lines: Sequence[str]) -> list[str]:
        return [
            # Painted once the widths are known: the codes have none.
            line.replace(f"  {g.state} ", f"  {self._paint(str(g.state), _STATES[g.state])} ", 1)
            for g, line in zip(found, lines, strict=True)
        ]

    def _sample_ratio(self) -> list[str]:
        ratio = self._status.sample_ratio
        if ratio is None or not ratio.observed:
            return []
        shares = ", ".join(
            f"{version} {100 * ratio.observed.get(version, 0.0):.2f} % of {100 * share:.2f} %"
            for version, share in ratio.expected.items()
        )
        word = "mismatch" if ratio.mismatch else "as it should be"
        painted = self._paint(word, _RED if ratio.mismatch else _GREEN)
        return [f"{self._title('Sample ratio')}  {painted}: {shares}  (p = {ratio.p_value:.2g})"]

    def _conditions(self) -> list[str]:
        said = set()
        if self._status.decision is not None:
            said.add(ConditionType.VERDICT_REACHED)
        if self._status.phase is not Phase.PENDING:
            # That it goes on is nothing to look at.
            said.add(ConditionType.COMPLETE)
        unlike = (c for c in self._status.conditions if c.status is not ConditionStatus.TRUE)
        bad = [c for c in unlike if c.type not in said]
        if not bad:
            return []
        return [self._title("Not True"), *(self._condition(c) for c in bad)]

    def _condition(self, found: Condition) -> str:
        colour = _RED if found.status is ConditionStatus.FALSE else _YELLOW
        head = self._paint(f"{found.type} {found.status}", colour)
        age = self._age(found.last_transition_time)
        return f"  {head}  {found.reason}, {age}: {found.message}"


def status_of(seen: Object) -> ExperimentStatus:
    """The status; an empty one before the operator has written any."""
    return ExperimentStatus.model_validate(seen.get("status") or {})


def note_of(seen: Object) -> str | None:
    """What there is to say of a promote that is not on its way, or that is waited for."""
    try:
        return promotion.note(parse_experiment(seen), status_of(seen))
    except ManifestError:
        # Of another version of the operator; the rest of the page is as true as before.
        return None


def _metric_row(entry: MetricAnalysis) -> Row:
    shown = entry.relative or entry.absolute
    size = percent if entry.relative else "{:+.3g}".format
    p = entry.corrected_p_value if entry.corrected_p_value is not None else entry.p_value
    note = "significant" if entry.significant else entry.withheld or ""
    return (
        f"{entry.metric} ({entry.role})",
        entry.model_version,
        _number(entry.champion.estimate),
        _number(entry.challenger.estimate),
        size(shown.effect) if shown else "",
        _interval(shown, size) if shown else "",
        "" if p is None else f"{p:.2g}",
        f"{entry.champion.samples:,.0f} / {entry.challenger.samples:,.0f}",
        note,
    )


def _interval(found: Interval, size: Any) -> str:
    return f"[{size(found.lower)}, {size(found.upper)}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return [f"  {'  '.join(cells)}".rstrip() for cells in padded]


def listing(items: Sequence[Object], now: datetime, *, namespaces: bool = False) -> str:
    """The columns of `kubectl get` of many experiments."""
    columns = [(name, path) for name, _, path, wide in COLUMNS if not wide]
    header = ["NAMESPACE"] * namespaces + ["NAME", *(name.upper() for name, _ in columns)]
    rows = [header]
    for item in items:
        metadata = item["metadata"]
        cells = [_cell(item, path, now) for _, path in columns]
        rows.append([metadata["namespace"]] * namespaces + [metadata["name"], *cells])
    return "\n".join(line[2:] for line in _table(rows))


def _cell(item: Object, path: str, now: datetime) -> str:
    found: Any = item
    for key in path.lstrip(".").split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        return ""
    if path.endswith("Timestamp"):
        return format_duration(max(now - datetime.fromisoformat(found), timedelta(0)))
    return str(found)
