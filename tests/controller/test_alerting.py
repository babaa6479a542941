"""Delivery: what is left to tell, to whom, and what happens where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.controller import alerting
from modelexperiment.controller.alerting import Courier
from modelexperiment.controller.queue import Key
from modelexperiment.core.alert_records import AlertName, AlertRecord, AlertState
from modelexperiment.core.alerting import Receiver, receivers
from modelexperiment.core.notices import Notice
from modelexperiment.core.status import Phase
from modelexperiment.ports import ConflictError, UnavailableError
from tests.controller.fakes import KEY, Cluster, Crash, FakeAlerter, FakeObserver
from tests.core.builders import ERRORS, START, spec

WEBHOOK = {"webhook": {"url": "https://hooks.example.com/x"}}
ALERTMANAGER = {"alertmanager": {"url": "http://alertmanager:9093"}}
BREACH = AlertRecord(name=AlertName.GUARDRAIL_BREACHED, summary="broke", starts_at=START)
OVER = BREACH.model_copy(update={"ends_at": START + timedelta(minutes=1)})
VERDICT = AlertRecord(name=AlertName.VERDICT_REACHED, summary="better", starts_at=START)


class World:
    """A courier that runs, with short pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *to: dict[str, Any]) -> None:
        monkeypatch.setattr(alerting, "FIRST_RETRY", 0.001)
        monkeypatch.setattr(alerting, "LONGEST_RETRY", 0.01)
        self.to = receivers(spec(alerts=list(to)))
        self.alerter = FakeAlerter()
        self.observer = FakeObserver()
        self.woken: list[Key] = []
        self.courier = Courier(self.alerter, self.observer, self.woken.append)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        """Let a story happen while the courier delivers."""

        async def both() -> None:
            delivering = asyncio.create_task(self.courier.run())
            try:
                await asyncio.wait_for(story(), 20)
            finally:
                delivering.cancel()
                await asyncio.gather(delivering, return_exceptions=True)

        asyncio.run(both())

    def take(self, *records: AlertRecord) -> None:
        self.courier.take(KEY, self.to, records)

    async def until(self, check: Callable[[], object]) -> None:
        while not check():
            await asyncio.sleep(0.005)


def test_what_the_status_says_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, WEBHOOK)

    async def story() -> None:
        world.take(BREACH)
        world.take(BREACH)
        await world.until(lambda: world.woken)
        world.take(BREACH)
        await asyncio.sleep(0.05)

    world.run(story)

    assert world.alerter.told() == [("webhook", "GuardrailBreached", "firing")]
    assert world.observer.deliveries == [("webhook", True)]
    (report,) = world.courier.reports(KEY).values()
    assert report.told == {BREACH.id: AlertState.FIRING}
    assert world.woken == [KEY]


def test_what_was_delivered_by_an_earlier_operator_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, WEBHOOK, ALERTMANAGER)
    webhook, alertmanager = world.to
    known = BREACH.told({webhook.id: AlertState.FIRING, alertmanager.id: AlertState.FIRING})

    async def story() -> None:
        world.take(known)
        await world.until(lambda: world.alerter.sent)
        await asyncio.sleep(0.05)

    world.run(story)

    # An Alertmanager would forget what it does not hear of again.
    assert world.alerter.told() == [("alertmanager", "GuardrailBreached", "firing")]
    assert world.woken == []


def test_the_end_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, WEBHOOK)

    async def story() -> None:
        world.take(BREACH)
        await world.until(lambda: world.woken)
        world.take(OVER)
        await world.until(lambda: len(world.alerter.sent) == 2)

    world.run(story)

    assert [state for _, _, state in world.alerter.told()] == ["firing", "resolved"]


def test_alertmanager_is_told_again_of_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "RESEND", timedelta(milliseconds=5))
    world = World(monkeypatch, ALERTMANAGER)

    async def story() -> None:
        world.take(BREACH, VERDICT)
        await world.until(lambda: len(world.alerter.sent) >= 5)
        world.take(OVER, VERDICT)
        await world.until(lambda: world.alerter.told()[-1][2] == "resolved")
        await asyncio.sleep(0.05)

    world.run(story)

    told = [name for _, name, _ in world.alerter.told()]
    assert told.count("VerdictReached") == 1
    assert world.alerter.told()[-1] == ("alertmanager", "GuardrailBreached", "resolved")


def test_it_is_tried_again_and_said_once_and_well_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = World(monkeypatch, WEBHOOK)
    world.alerter.problem = "answered 500"

    async def story() -> None:
        world.take(BREACH)
        await world.until(lambda: len(world.observer.deliveries) >= 8)
        (report,) = world.courier.reports(KEY).values()
        assert report.problem == "answered 500"
        world.alerter.problem = ""
        await world.until(lambda: world.alerter.sent)
        await world.until(lambda: len(world.woken) == 2)

    world.run(story)

    (report,) = world.courier.reports(KEY).values()
    assert report.problem == ""
    said = [r.getMessage() for r in caplog.records if "alerts" in r.getMessage()]
    assert said == [
        "fraud/fraud-v2: spec.alerts[0].webhook: alerts are not delivered: answered 500",
        "fraud/fraud-v2: spec.alerts[0].webhook: alerts are delivered again",
    ]


class Hanging(FakeAlerter):
    """Never answers for one kind of receiver."""

    async def send(self, receiver: Receiver, namespace: str, notices: Sequence[Notice]) -> None:
        if receiver.kind == "webhook":
            await asyncio.Event().wait()
        await super().send(receiver, namespace, notices)


def test_a_receiver_that_hangs_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, WEBHOOK, ALERTMANAGER)
    world.courier = Courier(Hanging(), world.observer, world.woken.append)

    async def story() -> None:
        world.take(BREACH)
        await world.until(lambda: world.woken)

    world.run(story)


def test_a_receiver_that_is_gone_from_the_spec_hears_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, WEBHOOK)
    world.alerter.problem = "answered 500"

    async def story() -> None:
        world.take(BREACH)
        await world.until(lambda: world.observer.deliveries)
        world.to = []
        world.take()
        await asyncio.sleep(0.05)
        world.alerter.problem = ""
        await asyncio.sleep(0.05)

    world.run(story)

    assert world.alerter.sent == []
    assert world.courier.reports(KEY) == {}


def test_the_end_of_a_deleted_experiments_alert_is_still_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, WEBHOOK)

    async def story() -> None:
        world.take(BREACH)
        await world.until(lambda: world.alerter.sent)
        world.alerter.problem = "answered 500"
        world.courier.part(KEY, world.to, [OVER])
        world.courier.forget(KEY)
        world.take()
        await world.until(lambda: ("webhook", False) in world.observer.deliveries)
        world.alerter.problem = ""
        await world.until(lambda: len(world.alerter.sent) == 2)

    world.run(story)

    assert world.alerter.told()[-1] == ("webhook", "GuardrailBreached", "resolved")


def test_the_end_is_given_up_where_nobody_is_there_to_hear_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, WEBHOOK)
    world.alerter.problem = "there is no Secret chat"

    async def story() -> None:
        world.courier.part(KEY, world.to, [OVER])
        await world.until(lambda: "the end of an alert is not delivered" in caplog.text)
        attempts = len(world.observer.deliveries)
        await asyncio.sleep(0.05)
        assert len(world.observer.deliveries) == attempts == alerting.LAST_ATTEMPTS

    world.run(story)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An experiment that is about to be rolled back."""
    cluster = Cluster(monkeypatch, alerts=[WEBHOOK])
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    return cluster


def reconcile_and_deliver(cluster: Cluster, *then: Callable[[], None]) -> None:
    """One reconcile, and the deliveries that follow, in one loop; and again after each of `then`.

    A courier serves one loop, as in the operator.
    """

    async def both() -> None:
        running = asyncio.create_task(cluster.courier.run())
        for before in (lambda: None, *then):
            before()
            await cluster.operator(KEY)
            await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(both())


def test_route_then_status_then_the_alert(broken: Cluster) -> None:
    broken.production.settle()

    reconcile_and_deliver(broken)

    assert broken.journal == ["route", "status"]
    assert broken.alerter.told() == [("webhook", "GuardrailBreached", "firing")]
    broken.reconcile()
    (record,) = broken.store.status().memory.alerts
    assert list(record.delivered.values()) == ["firing"]


def test_a_kill_between_status_and_delivery_loses_nothing(broken: Cluster) -> None:
    broken.poll()
    assert broken.store.status().phase is Phase.ROLLED_BACK
    assert broken.alerter.sent == []

    broken.operator = broken.new_operator()
    reconcile_and_deliver(broken)

    assert broken.alerter.told() == [("webhook", "GuardrailBreached", "firing")]


def test_a_kill_between_delivery_and_report_tells_it_again_under_the_same_key(
    broken: Cluster,
) -> None:
    broken.production.settle()
    reconcile_and_deliver(broken)

    broken.operator = broken.new_operator()
    reconcile_and_deliver(broken)
    broken.reconcile()
    broken.operator = broken.new_operator()
    reconcile_and_deliver(broken)

    keys = [notice.idempotency_key for _, notice in broken.alerter.sent]
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize("error", [ConflictError("somebody"), Crash(), UnavailableError("down")])
def test_a_rollback_whose_status_is_not_written_is_told_once_it_is(
    broken: Cluster, error: BaseException
) -> None:
    failed = False

    def fail_once(write: str) -> None:
        nonlocal failed
        if write == "status" and not failed:
            failed = True
            raise error

    broken.journal.before = fail_once
    try:
        broken.poll()
    except Crash:
        broken.operator = broken.new_operator()
    assert broken.alerter.sent == []

    broken.production.settle()
    reconcile_and_deliver(broken)

    assert broken.alerter.told() == [("webhook", "GuardrailBreached", "firing")]


def test_a_receiver_that_hangs_does_not_hold_up_the_rollback(broken: Cluster) -> None:
    broken.courier = Courier(Hanging(), broken.observer, lambda _: None)
    broken.operator.courier = broken.courier
    broken.production.settle()

    reconcile_and_deliver(broken)
    broken.reconcile()

    assert broken.router.split == {"v1": 100.0, "v2": 0.0}
    assert broken.store.status().phase is Phase.ROLLED_BACK


def test_deleting_a_rolled_back_experiment_ends_its_alert(broken: Cluster) -> None:
    broken.production.settle()

    reconcile_and_deliver(broken, lambda: broken.store.delete(KEY))

    assert KEY not in broken.store.objects
    assert [state for _, _, state in broken.alerter.told()] == ["firing", "resolved"]


def test_a_receiver_that_is_not_allowed_keeps_the_experiment_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, alerts=[{"webhook": {"url": "https://elsewhere.example.com"}}])

    cluster.reconcile()

    status = cluster.store.status()
    found = status.condition("RoutesReady")
    assert found is not None
    assert (status.phase, found.reason) == (Phase.PENDING, "AlertsNotAllowed")
    assert "elsewhere" not in str(status.dump())


def test_an_edit_to_one_that_is_not_allowed_goes_on_counting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, alerts=[WEBHOOK], guardrails=[ERRORS])
    cluster.start()
    cluster.store.edit(KEY, alerts=[{"webhook": {"url": "https://elsewhere.example.com"}}])
    cluster.production.serve(10, 12)

    cluster.poll()

    assert cluster.counted() == {"v1": 10, "v2": 12}
    assert "AlertNotDelivered" in cluster.store.told()
