"""Which alerts there are: from what the status says now, and the records of what was told.

An alert is about a state, not about a moment: whatever order writes, failures and restarts come
in, it begins once, when the status first says that something is wrong, and ends once, when the
status says so no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from modelexperiment.core import conditions, guardrails
from modelexperiment.core.addresses import is_allowed
from modelexperiment.core.alert_records import AlertName, AlertRecord, AlertState, digest
from modelexperiment.core.conditions import ConditionType, condition
from modelexperiment.core.events import Event, Reason
from modelexperiment.core.plan import Plan
from modelexperiment.core.sample_ratio import describe
from modelexperiment.core.snapshot import Problem, Snapshot
from modelexperiment.core.spec import Alert, Endpoint, ExperimentSpec
from modelexperiment.core.status import (
    Condition,
    ConditionStatus,
    ExperimentStatus,
    GuardrailState,
    GuardrailStatus,
    Phase,
    Verdict,
)

# A route that can't be written is tried again at once: what goes by in this time is no alert.
ROUTE_GRACE = timedelta(seconds=30)
# So that a receiver that never answers does not fill the status with what is over.
MOST_RECORDS = 64


@dataclass(frozen=True)
class Receiver:
    """One entry of spec.alerts."""

    id: str
    """The same as long as the entry is; another entry is another receiver."""
    where: str
    """The entry as the manifest names it. Its address may be a secret, and is never shown."""
    kind: str
    """alertmanager, slack or webhook."""
    endpoint: Endpoint


@dataclass(frozen=True)
class Report:
    """What has become of the deliveries to one receiver."""

    told: Mapping[str, AlertState] = field(default_factory=dict)
    """By an alert's id, what was delivered."""
    problem: str = ""
    """Why nothing can be delivered for some time, in one line without any address."""


Reports = Mapping[str, Report]
"""By a receiver's id."""


@dataclass(frozen=True)
class _Trouble:
    name: AlertName
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)


def receivers(spec: ExperimentSpec) -> list[Receiver]:
    """The receivers of an experiment, each once."""
    found = {r.id: r for r in (_receiver(i, a) for i, a in enumerate(spec.alerts))}
    return list(found.values())


def _receiver(index: int, alert: Alert) -> Receiver:
    kinds = {"alertmanager": alert.alertmanager, "slack": alert.slack, "webhook": alert.webhook}
    kind, endpoint = next((kind, e) for kind, e in kinds.items() if e is not None)
    return Receiver(digest(alert.dump())[:8], f"spec.alerts[{index}].{kind}", kind, endpoint)


def refused_receiver(spec: ExperimentSpec, allowed: Sequence[str]) -> Problem | None:
    """The first receiver that the platform does not allow, if it can be told from the manifest."""
    for receiver in receivers(spec):
        url = receiver.endpoint.url
        if not allowed:
            text = "the operator allows no address; its ALERTS_ALLOWED_URLS is empty"
        elif url is not None and not is_allowed(url, allowed):
            text = "its url is not allowed by the operator's ALERTS_ALLOWED_URLS"
        else:
            continue
        return Problem("AlertsNotAllowed", f"{receiver.where}: {text}")
    return None


def with_alerts(
    spec: ExperimentSpec, before: ExperimentStatus, plan: Plan, snapshot: Snapshot, reports: Reports
) -> Plan:
    """The plan with the alerts that follow from its status, and whether they get through."""
    to = receivers(spec)
    records: list[AlertRecord] = []
    if to:
        found = list(_troubles(spec, plan.status, snapshot))
        known = [_acknowledged(record, to, reports) for record in before.memory.alerts]
        records = _advance(known, found, to, snapshot.now)
    status = plan.status.model_copy(
        update={
            "memory": plan.status.memory.model_copy(update={"alerts": records}),
            "conditions": _with_condition(plan.status, records, to, reports, snapshot),
        }
    )
    return replace(plan, status=status, events=(*plan.events, *_lost(before, status)))


def ended(records: Iterable[AlertRecord], now: datetime) -> list[AlertRecord]:
    """What is left to tell once the experiment is gone: that nothing is wrong with it any more."""
    return [
        r if r.ends_at else r.model_copy(update={"ends_at": _to_milliseconds(now)})
        for r in records
        if not r.name.notification
    ]


def _acknowledged(record: AlertRecord, to: Sequence[Receiver], reports: Reports) -> AlertRecord:
    """The record with what was delivered since, and without receivers that are gone."""
    ids = [receiver.id for receiver in to]
    heard = {r: state for r in ids if (state := reports.get(r, Report()).told.get(record.id))}
    kept = {r: state for r, state in record.delivered.items() if r in ids}
    return record.model_copy(update={"delivered": {**kept, **heard}})


def _advance(
    known: Sequence[AlertRecord],
    found: Sequence[_Trouble],
    to: Sequence[Receiver],
    now: datetime,
) -> list[AlertRecord]:
    """Begin, keep, end and forget."""
    wrong = {_key(trouble): trouble for trouble in found}
    records = []
    for record in known:
        if record.ends_at is None and record.key not in wrong:
            record = record.model_copy(update={"ends_at": _to_milliseconds(now)})
        if record.ends_at is None or any(record.outstanding(r.id) for r in to):
            records.append(record)
    going_on = {record.key for record in records if record.ends_at is None}
    records += [
        AlertRecord(
            name=trouble.name,
            labels=dict(trouble.labels),
            summary=trouble.summary,
            starts_at=_to_milliseconds(now),
        )
        for key, trouble in wrong.items()
        if key not in going_on
    ]
    over = [record for record in records if record.ends_at is not None]
    dropped = over[: max(0, len(records) - MOST_RECORDS)]
    return [record for record in records if record not in dropped]


def _key(trouble: _Trouble) -> tuple[str, tuple[tuple[str, str], ...]]:
    return str(trouble.name), tuple(sorted(trouble.labels.items()))


def _to_milliseconds(now: datetime) -> datetime:
    """As precise as a time in a status is, so that it is the same once it has been written."""
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _troubles(
    spec: ExperimentSpec, status: ExperimentStatus, snapshot: Snapshot
) -> Iterator[_Trouble]:
    """Yield what the status says is wrong, or is news."""
    if not status.phase.started:
        return
    yield from _breaches(spec, status)
    yield from _unreadable(spec, status, snapshot)
    yield from _mismatch(status)
    yield from _unwritable(status, snapshot)
    if status.verdict not in (None, Verdict.INCONCLUSIVE):
        why = status.decision.reason if status.decision else ""
        labels = {"verdict": str(status.verdict)}
        yield _Trouble(AlertName.VERDICT_REACHED, f"{status.verdict}: {why}", labels)


def _breaches(spec: ExperimentSpec, status: ExperimentStatus) -> Iterator[_Trouble]:
    """Yield the breaches that ended the experiment; the status keeps them until it starts again."""
    if status.phase is not Phase.ROLLED_BACK:
        return
    champion = spec.champion_version
    for broken in guardrails.broken(spec, status.guardrails):
        summary = (
            f"guardrail {broken.name} broke for {broken.model_version}: {broken.message}; "
            f"{champion} gets everything"
        )
        labels = {"guardrail": broken.name, "model_version": broken.model_version}
        yield _Trouble(AlertName.GUARDRAIL_BREACHED, summary, labels)


def _unreadable(
    spec: ExperimentSpec, status: ExperimentStatus, snapshot: Snapshot
) -> Iterator[_Trouble]:
    """Yield one trouble for all that has had no data for `guardrailTimeout`."""
    late = _late(spec, status, snapshot.now)
    if late:
        more = f", and {len(late) - 1} more" if len(late) > 1 else ""
        text = f"guardrail {late[0].name} has no data for {late[0].model_version}{more}: "
        text += f"{late[0].message}; the experiment is {status.phase}"
        yield _Trouble(AlertName.METRICS_UNREADABLE, text)
        return
    found = status.condition(ConditionType.METRICS_READY)
    patience = spec.analysis.guardrail_timeout
    if not status.phase.ended and _false_for(found, patience, snapshot.now):
        assert found is not None
        text = f"nothing can be counted: {found.message}"
        yield _Trouble(AlertName.METRICS_UNREADABLE, text)


def _late(spec: ExperimentSpec, status: ExperimentStatus, now: datetime) -> list[GuardrailStatus]:
    """The guardrails without data for too long; of a rolled back experiment, those at its end."""
    if status.phase.ended and status.phase is not Phase.ROLLED_BACK:
        return []
    end = (status.end_time or now) if status.phase.ended else now
    since = status.start_time or end
    silent = [g for g in status.guardrails if g.state is GuardrailState.INSUFFICIENT_DATA]
    return guardrails.overdue(spec.analysis, silent, since, end)


def _mismatch(status: ExperimentStatus) -> Iterator[_Trouble]:
    ratio = status.sample_ratio
    if ratio and ratio.mismatch and not status.phase.ended:
        text = f"{describe(ratio)}: the verdict is frozen"
        yield _Trouble(AlertName.SAMPLE_RATIO_MISMATCH, text)


def _unwritable(status: ExperimentStatus, snapshot: Snapshot) -> Iterator[_Trouble]:
    found = status.condition(ConditionType.ROUTES_READY)
    if snapshot.unsupported is None and _false_for(found, ROUTE_GRACE, snapshot.now):
        assert found is not None
        text = f"the route is not as it should be: {found.message}"
        yield _Trouble(AlertName.ROUTE_NOT_WRITABLE, text)


def _false_for(found: Condition | None, patience: timedelta, now: datetime) -> bool:
    if found is None or found.status is not ConditionStatus.FALSE:
        return False
    return now - found.last_transition_time >= patience


def _with_condition(
    status: ExperimentStatus,
    records: Sequence[AlertRecord],
    to: Sequence[Receiver],
    reports: Reports,
    snapshot: Snapshot,
) -> list[Condition]:
    """The conditions with AlertsDelivered, which is there as long as the spec has receivers."""
    type_, now = ConditionType.ALERTS_DELIVERED, snapshot.now
    if not to:
        return [c for c in status.conditions if c.type != type_]
    failing = [(r.where, p) for r in to if (p := reports.get(r.id, Report()).problem)]
    old = status.condition(type_)
    waiting = any(record.outstanding(r.id) for record in records for r in to)
    if snapshot.alerts_refused:
        problem = snapshot.alerts_refused
        found = condition(type_, False, problem.reason, problem.message, now)
    elif failing:
        message = f"{failing[0][0]}: {failing[0][1]}; it is tried again without end"
        found = condition(type_, False, "NotDelivered", message, now)
    elif waiting and old and old.reason == "NotDelivered":
        # What an operator that has just started has not tried yet is not known to be well.
        found = old
    else:
        message = "no receiver has failed; alerts are delivered as they come"
        found = condition(type_, True, "Delivering", message, now)
    return conditions.merge(status.conditions, [found], status.observed_generation)


def _lost(before: ExperimentStatus, after: ExperimentStatus) -> Iterator[Event]:
    """Tell once that alerts do not get through."""
    old = before.condition(ConditionType.ALERTS_DELIVERED)
    new = after.condition(ConditionType.ALERTS_DELIVERED)
    if new is None or new.status is not ConditionStatus.FALSE:
        return
    if old is None or (old.status, old.reason) != (new.status, new.reason):
        yield Event(Reason.ALERT_NOT_DELIVERED, new.message)
