"""When alerts begin and end, and what is remembered of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from modelexperiment.core import plan as planning
from modelexperiment.core.alert_records import AlertRecord, AlertState
from modelexperiment.core.alerting import (
    MOST_RECORDS,
    Report,
    Reports,
    ended,
    receivers,
    refused_receiver,
    with_alerts,
)
from modelexperiment.core.plan import Plan
from modelexperiment.core.snapshot import Problem, RouteSeen, Snapshot
from modelexperiment.core.status import Phase
from tests.core.builders import ERRORS, ORIGINAL, Life, spec, through_json

WEBHOOK = {"webhook": {"url": "https://hooks.example.com/x"}}
CHAT = {"slack": {"secretRef": {"name": "chat"}}}
DOWN = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)


class Alerted(Life):
    """A life whose status carries alerts, as the reconciler writes it."""

    def __init__(self, *alerts: dict[str, Any], **fields: object) -> None:
        fields.setdefault("guardrails", [ERRORS])
        super().__init__(alerts=list(alerts or [WEBHOOK]), **fields)
        self.reports: Reports = {}
        self.unwritable: Problem | None = None

    def decide(self, snapshot: Snapshot) -> Plan:
        before = self.status
        plan = planning.decide(self.experiment, before, snapshot)
        if self.unwritable:
            plan = planning.not_routed(plan, self.unwritable, snapshot)
        elif plan.split is not None:
            plan = planning.routed(plan, snapshot)
            self.route = RouteSeen(plan.split, ORIGINAL)
        plan = with_alerts(self.experiment.spec, before, plan, snapshot, self.reports)
        self.told += [str(e.reason) for e in plan.events if str(e.reason).startswith("Alert")]
        self.status = through_json(plan.status)
        assert self.status.memory.alerts == plan.status.memory.alerts
        return plan

    @property
    def records(self) -> list[AlertRecord]:
        return self.status.memory.alerts

    def deliver(self) -> None:
        """Everything that is to be told is told."""
        told = {record.id: record.state for record in self.records}
        self.reports = {r.id: Report(told) for r in receivers(self.experiment.spec)}

    def broken(self) -> AlertRecord:
        self.start()
        self.poll(errors=0.5)
        assert self.status.phase is Phase.ROLLED_BACK
        (record,) = self.records
        return record


def test_a_breach_begins_one_alert_that_names_guardrail_and_version() -> None:
    record = Alerted().broken()

    assert record.name == "GuardrailBreached"
    assert record.labels == {"guardrail": "errors", "model_version": "v2"}
    assert record.summary.startswith("guardrail errors broke for v2: 0.5 is over the limit of 0.02")
    assert (record.state, record.delivered) == ("firing", {})


def test_it_goes_on_as_the_same_alert_as_long_as_it_is_rolled_back() -> None:
    life = Alerted()
    first = life.broken()
    life.deliver()

    for _ in range(3):
        life.poll()

    (record,) = life.records
    assert (record.id, record.summary) == (first.id, first.summary)
    assert list(record.delivered.values()) == [AlertState.FIRING]


def test_it_ends_when_the_experiment_starts_again_and_is_forgotten_once_that_is_told() -> None:
    life = Alerted()
    life.broken()
    life.deliver()
    life.poll()
    life.edit(guardrails=[{**ERRORS, "max": 0.9}])

    life.poll(errors=0.5)
    (record,) = life.records
    assert record.state is AlertState.RESOLVED
    assert record.outstanding(receivers(life.experiment.spec)[0].id)

    life.deliver()
    life.poll(errors=0.5)
    assert life.records == []


def test_another_breach_is_another_alert_beside_the_end_of_the_first() -> None:
    life = Alerted()
    first = life.broken()
    life.edit(guardrails=[{**ERRORS, "max": 0.9}])
    life.poll(errors=0.5)

    life.poll(errors=0.95)

    assert [r.state for r in life.records] == ["resolved", "firing"]
    assert life.records[1].id != first.id
    assert life.records[1].key == first.key


def test_a_rollback_that_is_finished_later_has_its_alert() -> None:
    life = Alerted()
    life.start()
    life.now += timedelta(seconds=15)
    snapshot = life.snapshot(counted=life.counted(), readings=life.readings(0.5))
    decided = planning.decide(life.experiment, life.status, snapshot)

    again = planning.finish_rollback(life.status, decided)
    plan = with_alerts(life.experiment.spec, life.status, again, snapshot, {})

    assert [r.name for r in plan.status.memory.alerts] == ["GuardrailBreached"]


def test_without_receivers_nothing_is_remembered() -> None:
    life = Alerted()
    life.broken()
    life.edit(alerts=[])

    life.poll()

    assert life.records == []
    assert life.status.condition("AlertsDelivered") is None


def test_a_receiver_that_is_added_hears_of_what_goes_on_already() -> None:
    life = Alerted()
    life.broken()
    life.deliver()
    life.edit(alerts=[WEBHOOK, CHAT])

    life.poll()

    known, added = receivers(life.experiment.spec)
    (record,) = life.records
    assert not record.outstanding(known.id)
    assert record.outstanding(added.id)


def test_an_entry_that_stands_twice_is_one_receiver() -> None:
    found = receivers(spec(alerts=[WEBHOOK, CHAT, WEBHOOK]))

    assert [r.kind for r in found] == ["webhook", "slack"]


def test_a_mismatch_begins_an_alert_that_ends_with_the_experiment() -> None:
    life = Alerted()
    life.start()
    for _ in range(2):
        life.poll({"v1": (9000, 4500), "v2": (1000, 500)}, errors=0.0)
    assert [r.name for r in life.records] == ["SampleRatioMismatch"]
    assert "v2 got 10.00 % instead of 50.00 %" in life.records[0].summary

    life.edit(stop=True)
    life.poll(errors=0.0)

    assert [r.state for r in life.records] == ["resolved"]


def test_metrics_that_cannot_be_read_are_an_alert_after_the_guardrails_timeout() -> None:
    life = Alerted(analysis={"guardrailTimeout": "1m"}, guardrails=[])
    life.start()
    life.poll(counted=DOWN)
    life.poll(counted=DOWN, after=timedelta(seconds=59))
    assert life.records == []

    life.poll(counted=DOWN, after=timedelta(seconds=1))
    (record,) = life.records
    assert record.name == "MetricsUnreadable"
    assert record.summary == "nothing can be counted: Prometheus can't be reached"

    life.poll()
    assert [r.state for r in life.records] == ["resolved"]


def test_guardrails_without_data_are_one_alert_that_stays_with_the_rollback() -> None:
    slow = {**ERRORS, "name": "slow"}
    life = Alerted(analysis={"guardrailTimeout": "1m"}, guardrails=[ERRORS, slow])
    life.start()
    life.poll(errors="returns nothing")
    life.poll(errors="returns nothing", after=timedelta(minutes=1))
    assert life.status.phase is Phase.ROLLED_BACK
    life.poll(after=timedelta(hours=1))

    (record,) = life.records
    assert record.name == "MetricsUnreadable"
    assert record.summary == (
        "guardrail errors has no data for v2: returns nothing; the experiment is RolledBack"
    )
    assert record.state is AlertState.FIRING


def test_a_route_that_cannot_be_written_is_an_alert_after_half_a_minute() -> None:
    life = Alerted()
    life.start()
    life.unwritable = Problem("WriteFailed", "API server: 500; it is tried again", bad_input=False)
    life.poll(errors=0.0)
    life.poll(errors=0.0, after=timedelta(seconds=29))
    assert life.records == []

    life.poll(errors=0.0, after=timedelta(seconds=1))
    (record,) = life.records
    assert record.name == "RouteNotWritable"
    assert record.summary.startswith("the route is not as it should be: API server: 500")

    life.unwritable = None
    life.poll(errors=0.0)
    assert [r.state for r in life.records] == ["resolved"]


def test_a_verdict_is_told_once_and_is_never_resolved() -> None:
    life = Alerted(rollout={"onWin": "Manual"})
    life.start()
    for _ in range(2):
        life.poll({"v1": (5000, 1000), "v2": (5000, 2500)}, errors=0.0)
    (record,) = life.records
    assert (record.name, record.labels) == ("VerdictReached", {"verdict": "ChallengerBetter"})

    life.deliver()
    life.poll({"v1": (500, 100), "v2": (500, 250)}, errors=0.0)
    assert [r.id for r in life.records] == [record.id]

    life.poll(errors=0.5)
    assert [str(r.name) for r in life.records if r.ends_at is None] == [
        "VerdictReached",
        "GuardrailBreached",
    ]
    assert all(r.state is AlertState.FIRING for r in life.records)


def test_what_does_not_get_through_is_told_once_and_is_well_only_when_it_is_delivered() -> None:
    life = Alerted(WEBHOOK, CHAT)
    life.broken()
    first, second = receivers(life.experiment.spec)
    life.reports = {first.id: Report(problem="answered 500")}
    life.poll()
    life.reports = {second.id: Report(problem="answered 503")}
    life.poll()
    found = life.status.condition("AlertsDelivered")
    assert found is not None
    assert (found.status, found.reason) == ("False", "NotDelivered")
    assert found.message.startswith("spec.alerts[1].slack: answered 503")

    life.reports = {}
    life.poll()
    assert life.status.condition("AlertsDelivered") == found

    life.deliver()
    life.poll()
    well = life.status.condition("AlertsDelivered")
    assert well is not None and well.status == "True"
    assert life.told.count("AlertNotDelivered") == 1


def test_a_receiver_that_is_refused_later_is_said_and_changes_nothing_else() -> None:
    life = Alerted()
    life.start()
    refused = Problem("AlertsNotAllowed", "spec.alerts[0].webhook: its url is not allowed")

    life.poll(errors=0.0, alerts_refused=refused)

    found = life.status.condition("AlertsDelivered")
    assert found is not None
    assert (found.status, found.reason) == ("False", "AlertsNotAllowed")
    assert life.status.phase is Phase.RUNNING
    assert isinstance(life.route, RouteSeen)


def test_the_first_receiver_that_is_not_allowed_is_named_without_its_address() -> None:
    wanted = spec(alerts=[CHAT, WEBHOOK])

    assert refused_receiver(wanted, ["https://hooks.example.com"]) is None
    assert refused_receiver(spec(), []) is None
    elsewhere = refused_receiver(wanted, ["https://elsewhere.example.com"])
    assert elsewhere == Problem(
        "AlertsNotAllowed",
        "spec.alerts[1].webhook: its url is not allowed by the operator's ALERTS_ALLOWED_URLS",
    )
    nothing = refused_receiver(wanted, [])
    assert nothing is not None
    assert nothing.message.startswith("spec.alerts[0].slack: the operator allows no address")


def test_what_is_left_to_tell_of_a_deleted_experiment_is_its_alerts_end() -> None:
    life = Alerted(rollout={"onWin": "Manual"})
    life.start()
    for _ in range(2):
        life.poll({"v1": (5000, 1000), "v2": (5000, 2500)}, errors=0.0)
    life.poll(errors=0.5)

    (left,) = ended(life.records, life.now)

    assert (left.name, left.state) == ("GuardrailBreached", "resolved")


def test_a_receiver_that_never_answers_does_not_fill_the_status() -> None:
    life = Alerted()
    life.start()
    for round_ in range(MOST_RECORDS + 10):
        life.poll(errors=0.5)
        life.edit(guardrails=[{**ERRORS, "max": 0.6 + round_ / 1000}])
        life.poll(errors=0.5)
        life.edit(guardrails=[ERRORS])
        life.poll(errors=0.0)

    assert len(life.records) == MOST_RECORDS
