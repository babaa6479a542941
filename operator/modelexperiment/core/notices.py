"""What the receivers of alerts are sent: the bodies, by kind of receiver. See docs/alerts.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from modelexperiment.core.alert_records import AlertName, AlertRecord, AlertState, digest
from modelexperiment.core.fields import Model, Time, format_time

# An Alertmanager forgets what is not repeated: after this time, unless it is told before.
RESEND = timedelta(minutes=1)
HOLDS = timedelta(minutes=5)
# Longer than Alertmanager waits for others of a group before it tells anybody.
NOTIFICATION_HOLDS = timedelta(minutes=15)

_SEVERITY = {
    AlertName.GUARDRAIL_BREACHED: "critical",
    AlertName.ROUTE_NOT_WRITABLE: "critical",
    AlertName.METRICS_UNREADABLE: "warning",
    AlertName.SAMPLE_RATIO_MISMATCH: "warning",
    AlertName.VERDICT_REACHED: "info",
}
_COLOURS = {"critical": "#d00000", "warning": "#e0a000", "info": "#2070c0"}
_WELL = "#208040"


@dataclass(frozen=True)
class Notice:
    """One alert of one experiment, as it is to be told."""

    namespace: str
    experiment: str
    record: AlertRecord

    @property
    def id(self) -> str:
        """The same for every attempt to tell of this occurrence of the alert."""
        return digest([self.namespace, self.experiment, self.record.id])

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt to tell just this of it."""
        return f"{self.id}-{self.record.state}"

    @property
    def severity(self) -> str:
        """critical, warning or info."""
        return _SEVERITY[self.record.name]


class ExperimentName(Model):
    """The experiment that an alert is about."""

    namespace: str
    """Its namespace."""
    name: str
    """Its name."""


class WebhookBody(Model):
    """What a webhook of spec.alerts is sent, by POST, as application/json."""

    version: Literal["1"]
    """Of this form. Fields may be added to it; another meaning is another version."""
    id: str
    """Of this occurrence of the alert, in `firing` and `resolved` alike. A delivery that was in
    doubt is repeated with the same id and status."""
    status: AlertState
    """firing or resolved. A VerdictReached is told once, as firing."""
    alert: AlertName
    """GuardrailBreached, SampleRatioMismatch, MetricsUnreadable, RouteNotWritable or
    VerdictReached."""
    severity: Literal["critical", "warning", "info"]
    """How urgent it is."""
    experiment: ExperimentName
    """The ModelExperiment."""
    labels: dict[str, str]
    """What it is about within the experiment: guardrail, model_version, verdict, where they
    apply."""
    summary: str
    """One line for people: what was wrong when it began."""
    starts_at: Time
    """When it began, RFC 3339."""
    ends_at: Time | None
    """When it was well again; null as long as it is not."""


def webhook_schema() -> dict[str, Any]:
    """The JSON schema of a webhook's body. A reader must expect further fields."""
    schema = WebhookBody.model_json_schema(by_alias=True, mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        part.pop("additionalProperties", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def webhook_body(notice: Notice) -> dict[str, Any]:
    """The body for a generic webhook."""
    record = notice.record
    body = WebhookBody.model_validate(
        {
            "version": "1",
            "id": notice.id,
            "status": record.state,
            "alert": record.name,
            "severity": notice.severity,
            "experiment": {"namespace": notice.namespace, "name": notice.experiment},
            "labels": record.labels,
            "summary": record.summary,
            "starts_at": record.starts_at,
            "ends_at": record.ends_at if record.state is AlertState.RESOLVED else None,
        }
    )
    return body.model_dump(mode="json", by_alias=True)


def slack_body(notice: Notice) -> dict[str, Any]:
    """The body for an incoming webhook of Slack, Mattermost and the like."""
    record = notice.record
    resolved = record.state is AlertState.RESOLVED
    word = "told" if record.name.notification else str(record.state)
    title = f"[{word.upper()}] {record.name}: {notice.namespace}/{notice.experiment}"
    return {
        "text": _plain(title),
        "attachments": [
            {
                "color": _WELL if resolved else _COLOURS[notice.severity],
                "fallback": _plain(f"{title}: {record.summary}"),
                "text": _plain(record.summary),
                "ts": int((record.ends_at or record.starts_at).timestamp()),
            }
        ],
    }


def _plain(text: str) -> str:
    """Text that mentions nobody and links nowhere, whatever stands in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def alertmanager_body(notices: Sequence[Notice], now: datetime) -> list[dict[str, Any]]:
    """The body for POST /api/v2/alerts."""
    return [_for_alertmanager(notice, now) for notice in notices]


def _for_alertmanager(notice: Notice, now: datetime) -> dict[str, Any]:
    record = notice.record
    holds = NOTIFICATION_HOLDS if record.name.notification else HOLDS
    resolved = record.state is AlertState.RESOLVED
    ends = record.ends_at if resolved and record.ends_at else now + holds
    return {
        "labels": {
            "alertname": str(record.name),
            "severity": notice.severity,
            "namespace": notice.namespace,
            "experiment": notice.experiment,
            **record.labels,
        },
        "annotations": {"summary": record.summary},
        "startsAt": format_time(record.starts_at),
        "endsAt": format_time(ends),
    }
