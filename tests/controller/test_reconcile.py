"""The order of the writes, and what happens where one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from modelexperiment.controller.pace import Pace, until_poll
from modelexperiment.controller.queue import Key
from modelexperiment.controller.watched import Watched
from modelexperiment.core.snapshot import Counted, Problem, RouteSeen, Snapshot
from modelexperiment.core.status import Phase
from modelexperiment.ports import ConflictError, UnavailableError
from tests.controller.fakes import KEY, ORIGINAL, Cluster, Crash, FakeRouter

HALVES = {"v1": 50.0, "v2": 50.0}
CHAMPION = {"v1": 100.0, "v2": 0.0}
QUARTER = [{"modelVersion": "v1", "percent": 75}, {"modelVersion": "v2", "percent": 25}]
MakeCluster = Callable[..., Cluster]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> MakeCluster:
    return lambda **fields: Cluster(monkeypatch, **fields)


def failing(what: str, error: BaseException, times: int = 1) -> Callable[[str], None]:
    """Fail a kind of write this many times."""
    left = times

    def before(write: str) -> None:
        nonlocal left
        if write == what and left:
            left -= 1
            raise error

    return before


def test_the_route_is_split_only_once_it_can_be_undone(make: MakeCluster) -> None:
    cluster = make()

    assert cluster.reconcile() == 0
    assert cluster.journal == ["finalizer", "status"]
    assert cluster.router.split == CHAMPION
    assert cluster.store.status().memory.original_route == ORIGINAL

    cluster.reconcile()
    assert cluster.journal == ["finalizer", "status", "route", "status"]
    assert cluster.router.split == HALVES
    assert cluster.store.status().routed_split == HALVES
    assert cluster.store.told() == ["Started"]


def test_somebody_else_who_writes_at_the_start_only_delays_it(make: MakeCluster) -> None:
    cluster = make()
    cluster.journal.before = failing("status", ConflictError("somebody else"))

    delay = cluster.reconcile()

    assert delay is not None
    assert 0 < delay < 1
    assert cluster.router.split == CHAMPION
    assert cluster.store.told() == []
    cluster.start()


def test_an_experiment_that_waits_looks_again_soon_and_touches_nothing(
    make: MakeCluster,
) -> None:
    cluster = make(analysis={"interval": "10m"})
    cluster.production.errors["v1"] = "returns nothing"

    assert cluster.reconcile() == 5
    assert cluster.journal == ["status"]
    assert "finalizers" not in cluster.store.objects[KEY]["metadata"]
    assert cluster.store.status().phase is Phase.PENDING


def test_every_request_is_counted_once(make: MakeCluster) -> None:
    cluster = make()
    cluster.production.serve(1_000, 0)
    cluster.start()
    served = dict(cluster.production.served)
    for number in range(10):
        cluster.production.serve(100 + number, 90 + number)
        if number == 5:
            cluster.production.restart("v2")
            cluster.production.serve(3, 7)
        cluster.poll()

    assert cluster.counted() == {
        "v1": cluster.production.served["v1"] - served["v1"],
        "v2": cluster.production.served["v2"],
    }


def test_an_hour_without_an_operator_loses_nothing(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    for _ in range(720):
        cluster.production.serve(3, 2)
    cluster.operator = cluster.new_operator()
    cluster.poll()

    assert cluster.counted() == {"v1": 2_160, "v2": 1_440}


def test_an_emptied_prometheus_is_told_of_and_a_series_that_comes_back_late_counts_from_there(
    make: MakeCluster,
) -> None:
    cluster = make()
    cluster.production.serve(1_000, 500)
    cluster.start()
    cluster.production.serve(100, 50)
    cluster.poll()
    assert cluster.counted() == {"v1": 100, "v2": 50}

    cluster.production._samples.clear()
    cluster.production.serve(0, 0)
    late = {
        labels: samples.pop()
        for labels, samples in cluster.production._samples.items()
        if dict(labels)["model_version"] == "v2"
    }
    # The challenger's target is scraped two seconds after the champion's, as targets are.
    for labels, (time, value) in late.items():
        cluster.production._samples[labels].append((time + 2.0, value))
    cluster.production.time += 2.0
    for _ in range(4):
        cluster.production.serve(10, 20)
        cluster.reconcile(cluster.new_operator())

    cluster.poll()
    assert cluster.counted() == {"v1": 140, "v2": 130}
    assert cluster.store.told().count("HistoryLost") == 1
    found = cluster.store.status().condition("MetricsReady")
    assert found is not None
    assert (found.status, found.reason) == ("False", "HistoryLost")

    for _ in range(10):
        cluster.poll()
    found = cluster.store.status().condition("MetricsReady")
    assert found is not None
    assert (found.status, found.reason) == ("True", "Counting")
    assert cluster.counted() == {"v1": 140, "v2": 130}


def test_what_is_scraped_but_not_settled_is_left_for_the_next_poll(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.serve(10, 10)
    cluster.production.time += 15
    cluster.production.serve(7, 7)
    cluster.reconcile()
    assert cluster.counted() == {"v1": 10, "v2": 10}

    cluster.poll()
    assert cluster.counted() == {"v1": 17, "v2": 17}


def test_a_conflict_is_retried_at_once_and_nothing_counts_twice(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.serve(100, 100)
    cluster.production.settle()
    cluster.journal.before = failing("status", ConflictError("somebody else"))

    delay = cluster.reconcile()
    assert delay is not None
    assert 0 < delay < 1
    assert cluster.store.status().analysis == []

    cluster.reconcile()
    assert cluster.counted() == {"v1": 100, "v2": 100}


def test_two_operators_at_once_count_nothing_twice(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    pair = [cluster.new_operator(), cluster.new_operator()]

    async def both() -> None:
        await asyncio.gather(*(operator(KEY) for operator in pair))

    for _ in range(10):
        cluster.production.serve(100, 90)
        cluster.production.settle()
        asyncio.run(both())
    cluster.poll()

    assert cluster.counted() == {"v1": 1_000, "v2": 900}


@pytest.mark.parametrize("write", range(7))
def test_killed_at_any_write_it_goes_on_where_it_was(make: MakeCluster, write: int) -> None:
    cluster = make()
    cluster.production.serve(500, 0)
    cluster.production.settle()
    before = dict(cluster.production.served)
    left = write

    def die(_: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Crash

    cluster.journal.before = die
    for step in range(6):
        try:
            cluster.reconcile()
        except Crash:
            cluster.operator = cluster.new_operator()
            cluster.reconcile()
        if step >= 2:
            cluster.production.serve(10, 10)
            cluster.production.settle()
    cluster.poll()

    assert left < 0
    status = cluster.store.status()
    assert status.memory.original_route == ORIGINAL
    assert cluster.router.split == status.routed_split == HALVES
    assert cluster.counted() == {
        version: served - before[version] for version, served in cluster.production.served.items()
    }


def test_nothing_new_is_not_written(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.serve(10, 10)
    cluster.poll()
    cluster.poll()
    cluster.journal.clear()
    for _ in range(5):
        cluster.poll()

    assert cluster.journal == []


def test_between_polls_prometheus_is_not_asked(make: MakeCluster) -> None:
    cluster = make(analysis={"interval": "20s"})
    cluster.start()
    cluster.production.settle()
    cluster.production.asked.clear()

    assert cluster.reconcile() == pytest.approx(5)
    assert cluster.production.asked == []
    assert cluster.observer.polls[-1] is False


def test_a_breach_writes_the_route_before_anything_else(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5

    cluster.poll()

    assert cluster.journal == ["route", "status"]
    assert cluster.router.split == CHAMPION
    assert cluster.store.status().phase is Phase.ROLLED_BACK
    assert cluster.store.told() == ["GuardrailBreached", "RolledBack"]
    assert cluster.observer.seen == {KEY: "RolledBack"}


@pytest.mark.parametrize(
    "error", [ConflictError("somebody else"), UnavailableError("API server: 500")]
)
def test_a_rollback_reaches_the_route_even_where_the_status_can_not_be_written(
    make: MakeCluster, error: Exception
) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    cluster.journal.before = failing("status", error)

    cluster.poll()
    assert cluster.router.split == CHAMPION
    assert cluster.store.status().phase is Phase.RUNNING

    cluster.reconcile()
    assert cluster.store.status().phase is Phase.ROLLED_BACK
    assert cluster.store.told() == ["GuardrailBreached", "RolledBack"]


def test_a_rollback_that_no_status_tells_of_yet_is_not_undone_by_the_breach_being_over(
    make: MakeCluster,
) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    cluster.journal.before = failing("status", ConflictError("somebody else"))
    cluster.poll()
    # Nobody is sent to the challenger any more, so it makes no errors any more.
    cluster.production.errors["v2"] = 0.0

    cluster.poll()

    assert cluster.store.status().phase is Phase.ROLLED_BACK
    assert cluster.router.split == CHAMPION
    assert cluster.store.told() == ["GuardrailBreached", "RolledBack"]


def test_a_kill_between_route_and_status_does_not_undo_a_rollback(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    cluster.journal.before = failing("status", Crash())
    with pytest.raises(Crash):
        cluster.poll()
    assert cluster.router.split == CHAMPION
    assert cluster.store.status().phase is Phase.RUNNING
    # Nobody is sent to the challenger any more, so it makes no errors any more.
    cluster.production.errors["v2"] = 0.0
    cluster.operator = cluster.new_operator()

    cluster.poll()

    status = cluster.store.status()
    assert status.phase is Phase.ROLLED_BACK
    assert cluster.router.split == CHAMPION
    assert status.decision is not None
    assert "guardrail errors broke for v2: 0.5 is over the limit of 0.02" in status.decision.reason
    (breach,) = [g.breach for g in status.guardrails]
    assert breach is not None
    assert (breach.value, breach.limit, breach.query) == (0.5, 0.02, 'errors{version="v2"}')
    assert cluster.store.told() == ["RolledBack"]
    cluster.journal.clear()
    for _ in range(3):
        cluster.poll()
    assert cluster.journal == []


@pytest.mark.parametrize("marker", ["nonsense", "{}", '{"run":"fraud/fraud-v2/2020"}'])
def test_what_an_older_run_or_somebody_else_left_in_the_route_ends_nothing(
    make: MakeCluster, marker: str
) -> None:
    cluster = make()
    cluster.start()
    cluster.router.marker = marker

    cluster.poll()

    assert cluster.store.status().phase is Phase.RUNNING


def test_a_run_after_a_rollback_is_not_ended_by_its_marker(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    cluster.poll()
    cluster.production.errors["v2"] = 0.0
    cluster.store.edit(KEY, traffic=_traffic(90, 10))
    for _ in range(3):
        cluster.poll()

    assert cluster.store.status().phase is Phase.RUNNING
    assert cluster.router.split == {"v1": 90, "v2": 10}
    assert cluster.router.marker is None


def test_a_rollback_that_can_not_be_told_is_tried_again_every_second(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    cluster.journal.before = failing("status", UnavailableError("API server: 500"), times=9)

    delays = [cluster.poll()] + [cluster.reconcile() for _ in range(8)]

    assert delays == [1] * 9


FAILURES = [
    pytest.param(None, Problem("WriteConflict", "changed 5 times", bad_input=False), id="problem"),
    pytest.param(UnavailableError("API server: 500"), None, id="outage"),
]


@pytest.mark.parametrize(("error", "problem"), FAILURES)
def test_a_route_that_can_not_be_written_is_said_and_tried_again(
    make: MakeCluster, error: Exception | None, problem: Problem | None
) -> None:
    cluster = make()
    cluster.start()
    cluster.store.edit(KEY, traffic=_traffic(90, 10))
    cluster.router.problem = problem
    if error:
        cluster.journal.before = failing("route", error)

    assert cluster.reconcile() == 1
    condition = cluster.store.status().condition("RoutesReady")
    assert condition is not None
    assert condition.status == "False"
    assert condition.reason == (problem.reason if problem else "WriteFailed")
    assert cluster.store.status().routed_split == HALVES

    cluster.router.problem = None
    cluster.reconcile()
    assert cluster.router.split == cluster.store.status().routed_split == {"v1": 90, "v2": 10}


def _traffic(v1: float, v2: float) -> list[dict[str, object]]:
    return [{"modelVersion": "v1", "percent": v1}, {"modelVersion": "v2", "percent": v2}]


def test_a_route_that_is_wrong_waits_for_its_owner(make: MakeCluster) -> None:
    cluster = make(analysis={"interval": "20s"})
    cluster.start()
    cluster.router.problem = Problem("RouteNotFound", "no http route predict")
    cluster.store.edit(KEY, traffic=_traffic(90, 10))

    delay = cluster.reconcile()

    assert delay is not None
    assert delay > 1
    condition = cluster.store.status().condition("RoutesReady")
    assert condition is not None
    assert condition.reason == "RouteNotFound"


WAITS = Problem("NotYetObserved", "the Gateway has not answered yet", bad_input=False)
REFUSED = Problem("NotAccepted", "the Gateway says no")


def routes_ready(cluster: Cluster) -> tuple[str, str]:
    found = cluster.store.status().condition("RoutesReady")
    assert found is not None
    return str(found.status), found.reason


@pytest.mark.parametrize("pending", [WAITS, REFUSED])
def test_nothing_starts_on_a_route_that_is_not_in_force(
    make: MakeCluster, pending: Problem
) -> None:
    cluster = make()
    cluster.router.pending = pending

    cluster.reconcile()

    assert cluster.journal == ["status"]
    assert cluster.store.status().phase is Phase.PENDING
    assert routes_ready(cluster) == ("False", pending.reason)
    cluster.router.pending = None
    cluster.start()


def test_a_route_is_ready_only_once_it_is_in_force(make: MakeCluster) -> None:
    cluster = make()
    cluster.reconcile()
    cluster.router.pending, cluster.router.problem = WAITS, None
    cluster.router.split = HALVES

    assert cluster.reconcile() == 1
    assert routes_ready(cluster) == ("False", "NotYetObserved")
    assert cluster.store.status().routed_split == {}

    cluster.router.pending = None
    cluster.reconcile()
    assert routes_ready(cluster)[0] == "True"
    assert cluster.store.status().routed_split == HALVES
    assert cluster.store.told() == ["Started"]


def test_a_route_that_is_refused_later_is_told_once_and_the_count_goes_on(
    make: MakeCluster,
) -> None:
    cluster = make()
    cluster.start()
    cluster.router.pending = REFUSED
    cluster.production.serve(10, 10)

    cluster.poll()
    cluster.poll()

    assert routes_ready(cluster) == ("False", "NotAccepted")
    assert cluster.store.told() == ["ConfigInvalid"]
    assert cluster.counted() == {"v1": 10, "v2": 10}


def test_a_destination_that_goes_away_later_is_told_once_and_a_rollback_is_routed(
    make: MakeCluster,
) -> None:
    cluster = make()
    cluster.start()
    cluster.router.wrong = Problem("DestinationNotFound", "the subset is gone")

    cluster.poll()
    cluster.poll()
    assert routes_ready(cluster) == ("False", "DestinationNotFound")
    assert cluster.store.told() == ["ConfigInvalid"]

    cluster.production.errors["v2"] = 1.0
    cluster.poll()
    assert cluster.router.split == CHAMPION
    assert cluster.store.status().routed_split == CHAMPION
    assert routes_ready(cluster) == ("False", "DestinationNotFound")


def test_a_mirror_ends_with_the_deletion(make: MakeCluster) -> None:
    cluster = make(shadow={"modelVersion": "v3"})
    cluster.start()
    cluster.reconcile()
    assert cluster.router.mirrors == {"v3": 100}
    cluster.router.mirrors["theirs"] = 5.0

    cluster.store.delete(KEY)
    cluster.reconcile()

    assert cluster.router.mirrors == {"theirs": 5.0}
    assert KEY not in cluster.store.objects


def test_somebodys_edit_of_the_weights_is_put_right_between_polls(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.router.split = {"v1": 0.0, "v2": 100.0}
    cluster.reconcile()

    assert cluster.router.split == HALVES
    assert cluster.store.told() == ["RouteCorrected"]


def test_a_failed_count_keeps_its_time_and_its_samples(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.serve(10, 10)
    cluster.production.failure = UnavailableError("Prometheus can't be reached")
    cluster.poll()
    condition = cluster.store.status().condition("MetricsReady")
    assert condition is not None
    assert condition.reason == "PrometheusUnreachable"

    cluster.production.failure = None
    cluster.poll()
    assert cluster.counted() == {"v1": 10, "v2": 10}


def test_an_outage_of_the_api_server_is_waited_out_longer_and_longer(
    make: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make()
    cluster.start()
    cluster.journal.before = failing("status", UnavailableError("API server: 500"), times=7)
    cluster.production.serve(10, 10)
    with caplog.at_level(logging.WARNING):
        delays = [cluster.poll() for _ in range(7)]

    assert delays == [2, 4, 8, 10, 10, 10, 10]
    assert cluster.observer.failures == ["unavailable"] * 7
    assert caplog.records[0].getMessage() == "fraud/fraud-v2: API server: 500"

    cluster.poll()
    assert cluster.counted() == {"v1": 10, "v2": 10}


def test_deletion_restores_the_route_and_then_lets_go(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.store.delete(KEY)

    assert cluster.reconcile() is None
    assert cluster.journal == ["restore", "release"]
    assert cluster.router.destinations == ORIGINAL
    assert cluster.store.objects == {}
    assert cluster.store.told() == ["RouteRestored"]


def test_deletion_does_not_hang_where_the_route_is_gone(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.router.problem = Problem("VirtualServiceNotFound", "there is no VirtualService")
    cluster.store.delete(KEY)

    assert cluster.reconcile() is None
    assert cluster.store.objects == {}
    assert cluster.store.events[0].message == "nothing to restore: there is no VirtualService"


def test_deletion_waits_for_a_route_that_can_not_be_written_just_now(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.router.problem = Problem("WriteConflict", "changed 5 times", bad_input=False)
    cluster.store.delete(KEY)

    assert cluster.reconcile() == 2
    assert KEY in cluster.store.objects

    cluster.router.problem = None
    assert cluster.reconcile() is None
    assert cluster.store.objects == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("spec", {"traffic": []}), ("phase", "Dreaming")],
    ids=["its spec", "its status"],
)
def test_deletion_does_not_hang_where_it_can_not_be_read(
    make: MakeCluster, field: str, value: Any
) -> None:
    cluster = make()
    cluster.start()
    stored = cluster.store.objects[KEY]
    (stored if field == "spec" else stored["status"])[field] = value
    cluster.store.delete(KEY)

    assert cluster.reconcile() is None
    assert cluster.store.objects == {}
    assert cluster.store.told() == ["RouteRestored"]


def test_deletion_of_what_never_started_touches_no_route(make: MakeCluster) -> None:
    cluster = make()
    cluster.store.objects[KEY]["metadata"]["finalizers"] = ["somebody's"]
    cluster.store.delete(KEY)
    cluster.reconcile()

    assert cluster.journal == ["release"]


def test_what_is_gone_is_forgotten(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    assert cluster.observer.seen == {KEY: "Running"}
    del cluster.store.objects[KEY]

    assert cluster.reconcile() is None
    assert cluster.observer.seen == {}


@pytest.mark.parametrize(
    ("field", "value", "delay", "says"),
    [
        ("spec", {"traffic": []}, 10, "spec.traffic: list should have at least 2 items"),
        ("status", {"phase": "Dreaming"}, 2, "the status of fraud-v2 can't be read"),
    ],
)
def test_what_can_not_be_read_is_said_in_the_log_and_left_alone(
    make: MakeCluster,
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: dict[str, Any],
    delay: float,
    says: str,
) -> None:
    cluster = make()
    cluster.store.objects[KEY][field] = value
    with caplog.at_level(logging.WARNING):
        assert cluster.reconcile() == delay

    assert cluster.journal == []
    assert says in caplog.text


def test_every_event_is_a_line_in_the_log_with_the_experiments_name(
    make: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make()
    with caplog.at_level(logging.INFO, "modelexperiment"):
        cluster.start()

    record = next(r for r in caplog.records if getattr(r, "event", "") == "Started")
    assert (record.experiment, record.levelname) == ("fraud/fraud-v2", "INFO")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("interval", "expected", "seconds"),
    [
        (5, None, 5),
        (5, (3.0, 5.0), 3.25),
        (5, (4.5, 5.0), 4.75),
        (5, (4.9, 5.0), 5.15),
        (5, (0.1, 5.0), 5.35),
        (15, (1.0, 5.0), 11.25),
        (1, (0.9, 1.0), 1.15),
        (1, (0.5, 1.0), 0.75),
        (5, (10.0, 15.0), 5),
        (5, (-0.1, 5.0), 0.25),
        (5, (-1.0, 5.0), 1.0),
    ],
)
def test_the_next_poll_comes_soon_after_a_scrape(
    interval: float, expected: tuple[float, float] | None, seconds: float
) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    seen = Counted(now, now, {}, next_sample=expected)
    route = RouteSeen(None, None)

    assert until_poll(interval, Snapshot(now, 1, route, counted=seen)) == pytest.approx(seconds)


@pytest.mark.parametrize(("spread", "seconds"), [(0.0, 11.25), (2.0, 13.25), (9.0, 15.0)])
def test_a_poll_that_was_late_comes_later_after_the_scrape_but_within_the_interval(
    spread: float, seconds: float
) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    seen = Counted(now, now, {}, next_sample=(1.0, 5.0))
    snapshot = Snapshot(now, 1, RouteSeen(None, None), counted=seen)

    assert until_poll(15, snapshot, spread) == pytest.approx(seconds)


def test_a_poll_keeps_the_distance_at_which_it_was_late_and_gives_it_up_again() -> None:
    pace = Pace(due=100.0)
    for began, seconds in ((102.0, 13.25), (100.0, 13.05), (100.0, 12.87)):
        pace.took_up(began)
        now = datetime(2026, 3, 1, tzinfo=UTC)
        seen = Counted(now, now, {}, next_sample=(1.0, 5.0))
        snapshot = Snapshot(now, 1, RouteSeen(None, None), counted=seen)
        assert until_poll(15, snapshot, pace.spread) == pytest.approx(seconds)


STICKY: dict[str, Any] = {
    "assignment": {"header": "x-user-id"},
    "analysis": {"unit": "Request"},
}


@pytest.mark.parametrize("killed_at", ["route", "status"])
def test_a_kill_while_users_are_moved_leads_to_the_same_table(
    monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    cluster = Cluster(monkeypatch, **STICKY)
    cluster.start()
    before = cluster.router.table
    assert before is not None
    wanted = before.moved_to({"v1": 20.0, "v2": 80.0})
    percents = {"v1": 20, "v2": 80}
    cluster.store.edit(
        KEY, traffic=[{"modelVersion": v, "percent": p} for v, p in percents.items()]
    )

    def die(what: str) -> None:
        if what == killed_at:
            raise Crash

    cluster.journal.before = die
    with pytest.raises(Crash):
        cluster.reconcile()
    cluster.journal.before = lambda _: None
    cluster.reconcile(cluster.new_operator())

    assert cluster.router.table == wanted
    shown = cluster.store.status().assignment
    assert shown is not None
    assert shown.table == wanted


class TestAWatchThatStalls:
    """What is known of an experiment is older than what it is."""

    def test_a_poll_that_finds_nothing_to_do_asks_nobody(self, make: MakeCluster) -> None:
        cluster = make()
        cluster.start()
        cluster.poll()
        cluster.store.reads.clear()
        cluster.poll()

        assert cluster.store.reads == ["as it is known"]

    def test_what_is_to_be_counted_shows_the_edit(self, make: MakeCluster) -> None:
        cluster = make()
        cluster.start()
        cluster.store.stall()
        cluster.store.edit(KEY, traffic=QUARTER)
        cluster.production.serve(100, 100)

        cluster.poll()
        assert cluster.observer.failures == ["conflict"]
        assert cluster.router.split == HALVES
        cluster.poll()
        assert cluster.router.split == {"v1": 75.0, "v2": 25.0}
        assert cluster.counted() == {"v1": 100, "v2": 100}

    def test_no_route_is_written_for_a_spec_that_is_no_longer_there(
        self, make: MakeCluster
    ) -> None:
        cluster = make()
        cluster.start()
        cluster.store.stall()
        cluster.store.edit(KEY, stop=True)
        # Somebody has put the weights right by hand, which the old spec would undo.
        cluster.router.split = dict(CHAMPION)

        cluster.poll()
        assert cluster.journal == []
        cluster.poll()
        assert cluster.router.split == CHAMPION
        assert cluster.store.status().phase is Phase.STOPPED

    def test_a_rollback_reads_the_experiment_anew_and_is_not_held_up(
        self, make: MakeCluster
    ) -> None:
        cluster = make()
        cluster.start()
        cluster.poll()
        cluster.store.reads.clear()
        cluster.journal.clear()
        cluster.production.errors["v2"] = 1.0

        cluster.poll()
        assert cluster.store.reads == ["as it is known", "as it is"]
        assert cluster.journal == ["route", "status"]
        assert cluster.router.split == CHAMPION

    def test_a_rollback_is_not_taken_for_routed_on_hearsay(self, make: MakeCluster) -> None:
        cluster = make()
        cluster.start()
        # What is known of the route is that all goes to the champion; it has been edited since.
        hearsay = FakeRouter(cluster.journal)
        gatherer = replace(cluster.operator.gatherer, lately=hearsay)
        cluster.operator.gatherer = gatherer
        cluster.production.errors["v2"] = 1.0

        cluster.poll()
        assert cluster.journal == ["route", "status"]
        assert cluster.router.split == CHAMPION

    def test_an_experiment_starts_from_the_route_as_it_is(self, make: MakeCluster) -> None:
        cluster = make()
        hearsay = FakeRouter(cluster.journal)
        hearsay.destinations = {"route": ["of yesterday"]}
        cluster.operator.gatherer = replace(cluster.operator.gatherer, lately=hearsay)
        cluster.reconcile()

        assert cluster.store.status().memory.original_route == ORIGINAL

    def test_an_experiment_that_starts_sees_another_that_no_watch_has_told_of(
        self, make: MakeCluster
    ) -> None:
        cluster = make()
        watched, spec = Watched(), cluster.store.objects[KEY]["spec"]
        watched.put(KEY, spec)
        cluster.operator.gatherer = replace(cluster.operator.gatherer, watched=watched)
        cluster.store.create(Key("fraud", "first"), spec)
        cluster.store.objects[Key("fraud", "first")]["status"] = {
            "phase": "Running",
            "startTime": "2026-03-01T12:00:00Z",
        }

        cluster.reconcile()
        assert cluster.journal == []
        cluster.reconcile()
        found = cluster.store.status().condition("RoutesReady")
        assert cluster.journal == ["status"]
        assert found is not None
        assert "first" in found.message

    def test_an_experiment_that_was_deleted_is_not_routed(self, make: MakeCluster) -> None:
        cluster = make()
        cluster.start()
        cluster.store.stall()
        cluster.store.delete(KEY)
        cluster.production.errors["v2"] = 1.0

        cluster.poll()
        assert cluster.journal == []
        cluster.poll()
        assert cluster.journal == ["restore", "release"]
