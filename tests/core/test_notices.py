"""The bodies that receivers get, as docs/alerts.md describes them."""

from __future__ import annotations

from datetime import timedelta

from modelexperiment.core.alert_records import AlertName, AlertRecord
from modelexperiment.core.notices import (
    HOLDS,
    NOTIFICATION_HOLDS,
    Notice,
    alertmanager_body,
    slack_body,
    webhook_body,
    webhook_schema,
)
from tests.core.builders import START

LABELS = {"guardrail": "errors", "model_version": "v2"}
BREACH = AlertRecord(
    name=AlertName.GUARDRAIL_BREACHED, labels=LABELS, summary="errors broke", starts_at=START
)
OVER = BREACH.model_copy(update={"ends_at": START + timedelta(minutes=7)})
VERDICT = AlertRecord(
    name=AlertName.VERDICT_REACHED,
    labels={"verdict": "ChampionBetter"},
    summary="worse",
    starts_at=START,
    ends_at=START + timedelta(hours=1),
)
NOW = START + timedelta(hours=2)


def notice(record: AlertRecord = BREACH) -> Notice:
    return Notice("fraud", "fraud-v2", record)


def test_a_webhook_gets_everything_by_name() -> None:
    assert webhook_body(notice()) == {
        "version": "1",
        "id": notice().id,
        "status": "firing",
        "alert": "GuardrailBreached",
        "severity": "critical",
        "experiment": {"namespace": "fraud", "name": "fraud-v2"},
        "labels": LABELS,
        "summary": "errors broke",
        "startsAt": "2026-03-01T12:00:00.000Z",
        "endsAt": None,
    }
    over = webhook_body(notice(OVER))
    assert (over["status"], over["endsAt"]) == ("resolved", "2026-03-01T12:07:00.000Z")


def test_the_schema_names_what_the_body_has() -> None:
    schema = webhook_schema()

    assert schema["properties"].keys() == webhook_body(notice()).keys()
    assert set(schema["required"]) == schema["properties"].keys()
    assert "additionalProperties" not in str(schema["$defs"]["ExperimentName"])
    assert all("description" in field for field in schema["properties"].values())


def test_one_occurrence_has_one_id_and_each_state_of_it_one_key() -> None:
    assert notice().id == notice(OVER).id
    assert notice().idempotency_key != notice(OVER).idempotency_key
    later = BREACH.model_copy(update={"starts_at": START + timedelta(milliseconds=1)})
    assert notice(later).id != notice().id
    assert Notice("fraud", "other", BREACH).id != notice().id


def test_a_verdict_is_news_that_never_resolves() -> None:
    assert webhook_body(notice(VERDICT))["status"] == "firing"
    assert webhook_body(notice(VERDICT))["endsAt"] is None
    assert slack_body(notice(VERDICT))["text"].startswith("[TOLD] VerdictReached")


def test_a_chat_shows_who_and_what_and_mentions_nobody() -> None:
    record = BREACH.model_copy(update={"summary": "<!channel> 5 > 2 & more"})

    body = slack_body(notice(record))

    assert body["text"] == "[FIRING] GuardrailBreached: fraud/fraud-v2"
    assert body["attachments"][0]["text"] == "&lt;!channel&gt; 5 &gt; 2 &amp; more"
    assert "<" not in str(body["attachments"][0]["fallback"])
    assert slack_body(notice(OVER))["text"].startswith("[RESOLVED]")
    assert slack_body(notice(OVER))["attachments"][0]["color"] != body["attachments"][0]["color"]


def test_alertmanager_is_told_labels_that_stay_and_an_end_that_moves() -> None:
    (first,) = alertmanager_body([notice()], NOW)
    (again,) = alertmanager_body([notice()], NOW + timedelta(minutes=1))

    assert first["labels"] == again["labels"]
    assert first["labels"] == {
        "alertname": "GuardrailBreached",
        "severity": "critical",
        "namespace": "fraud",
        "experiment": "fraud-v2",
        **LABELS,
    }
    assert first["startsAt"] == again["startsAt"] == "2026-03-01T12:00:00.000Z"
    assert first["endsAt"] == "2026-03-01T14:05:00.000Z" and timedelta(minutes=5) == HOLDS
    assert again["endsAt"] == "2026-03-01T14:06:00.000Z"
    assert alertmanager_body([notice(OVER)], NOW)[0]["endsAt"] == "2026-03-01T12:07:00.000Z"


def test_a_verdict_stays_in_alertmanager_for_long_enough_to_be_sent_on() -> None:
    (body,) = alertmanager_body([notice(VERDICT)], NOW)

    assert body["endsAt"] == "2026-03-01T14:15:00.000Z"
    assert timedelta(minutes=15) == NOTIFICATION_HOLDS
