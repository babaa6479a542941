"""What the reconciler tells its observer, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelexperiment.core.snapshot import Problem
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.ports import ConflictError, UnavailableError
from tests.controller.fakes import KEY, Cluster

MakeCluster = Callable[..., Cluster]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> MakeCluster:
    return lambda **fields: Cluster(monkeypatch, **fields)


def failing(cluster: Cluster, what: str, error: BaseException, times: int = 1) -> None:
    """Fail the next writes of a kind."""
    left = times

    def before(write: str) -> None:
        nonlocal left
        if write == what and left:
            left -= 1
            raise error

    cluster.journal.before = before


def slow_route(cluster: Cluster, seconds: float) -> None:
    """Let every write of the route take this long."""

    def before(write: str) -> None:
        if write == "route":
            cluster.production.time += seconds

    cluster.journal.before = before


def test_an_experiment_is_told_of_before_the_first_poll_of_a_new_operator(
    make: MakeCluster,
) -> None:
    cluster = make()
    cluster.start()
    cluster.observer.seen.clear()
    cluster.observer.history.clear()
    cluster.production.failure = RuntimeError("the poll never ends")

    with pytest.raises(RuntimeError):
        cluster.reconcile(cluster.new_operator())

    assert cluster.observer.history == ["Running"]
    assert cluster.observer.failures == ["unexpected"]


def test_seconds_from_the_poll_that_saw_the_breach_to_the_written_route(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    slow_route(cluster, 0.75)

    cluster.poll()

    assert cluster.observer.rollbacks == [pytest.approx(0.75)]
    cluster.poll()
    assert len(cluster.observer.rollbacks) == 1


def test_a_rollback_counts_until_the_route_could_be_written(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    failing(cluster, "route", UnavailableError("API server: 500"))

    cluster.poll()
    assert cluster.observer.rollbacks == []
    assert cluster.observer.writes[-2:] == ["no route", "status"]

    cluster.production.time += 3
    cluster.reconcile()
    assert cluster.observer.rollbacks == [pytest.approx(3)]


def test_a_rollback_whose_status_is_written_later_counts_once(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.production.errors["v2"] = 0.5
    failing(cluster, "status", ConflictError("somebody else"))

    cluster.poll()
    cluster.reconcile()

    assert cluster.store.status().phase == "RolledBack"
    assert len(cluster.observer.rollbacks) == 1
    assert cluster.observer.failures == ["conflict"]


def test_a_split_that_changes_is_no_rollback(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    cluster.router.problem = Problem("WriteConflict", "changed", bad_input=False)
    cluster.store.edit(KEY, paused=True)
    cluster.poll()

    assert cluster.observer.rollbacks == []


def test_lag_is_from_due_to_done(make: MakeCluster) -> None:
    cluster = make(analysis={"interval": "10s"})
    cluster.start()
    due = cluster.production.time + (cluster.reconcile() or 0)
    cluster.observer.lags.clear()
    cluster.production.time = due + 2.5

    cluster.reconcile()

    assert cluster.observer.lags == [pytest.approx(2.5)]


def test_writes_and_failures_are_counted(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    assert cluster.observer.writes == ["status", "route", "status"]

    failing(cluster, "status", UnavailableError("API server: 500"))
    cluster.production.errors["v2"] = 0.5
    cluster.poll()
    assert cluster.observer.failures == ["unavailable"]

    cluster.store.edit(KEY, traffic=[])
    cluster.reconcile()
    assert cluster.observer.failures == ["unavailable", "unreadable"]


def test_the_observed_status_is_the_written_one(make: MakeCluster) -> None:
    cluster = make()
    cluster.start()
    statuses: list[ExperimentStatus] = []
    cluster.observer.observe = lambda key, status, champion: statuses.append(status)  # type: ignore[method-assign]
    cluster.production.serve(500, 500)
    cluster.poll()

    assert statuses[-1].dump() == cluster.store.status().dump()
