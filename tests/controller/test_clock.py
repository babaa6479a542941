"""A node whose clock is wrong, or is put right by a step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelexperiment.controller.clock import Clock
from modelexperiment.controller.reconcile import Reconciler
from modelexperiment.core.status import Phase
from tests.controller.fakes import KEY, URL, Cluster

HOUR = 3_600.0


class Node:
    """A machine's two clocks: one that can be set, and one that only goes on."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.steady = 17.0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def seconds(time: datetime) -> float:
    return time.timestamp()


def test_until_it_has_heard_a_prometheus_it_goes_by_the_nodes_clock() -> None:
    node = Node(1_000.0)
    clock = node.clock()
    node.pass_(5)

    assert clock.now(URL) == clock.now(None) == datetime.fromtimestamp(1_005.0, UTC)


def test_a_step_of_the_nodes_clock_is_no_time() -> None:
    node = Node(1_000.0)
    clock = node.clock()
    clock.heard(URL, 990.0)
    node.pass_(5)
    node.wall += HOUR

    assert seconds(clock.now(URL)) == 995.0
    assert seconds(clock.now("http://other:9090")) == 1_005.0


def nodes_operator(cluster: Cluster, node: Node) -> Reconciler:
    """The cluster's operator, on a node with clocks of its own."""
    operator = cluster.new_operator()
    operator.gatherer = replace(operator.gatherer, clock=node.clock())
    return operator


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_step_changes_no_count_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, step: float, restarted: bool
) -> None:
    cluster = Cluster(monkeypatch)
    node = Node(cluster.production.time)
    cluster.operator = nodes_operator(cluster, node)
    cluster.start()
    # A guardrail that has just stopped giving numbers: `guardrailTimeout` begins to run.
    cluster.production.errors["v2"] = "returns nothing"
    cluster.production.serve(10, 10)
    cluster.poll()
    cluster.store.edit(KEY, traffic=_split(60, 40))
    cluster.reconcile()
    since = cluster.store.status().memory.split_since
    node.wall += step
    if restarted:
        cluster.operator = nodes_operator(cluster, node)
    for _ in range(3):
        cluster.production.serve(10, 10)
        cluster.poll()

    status = cluster.store.status()
    assert status.phase is Phase.RUNNING
    assert cluster.counted() == {"v1": 40, "v2": 40}
    # The phase of the count that the edit began, in the samples' own time.
    assert since is not None
    assert abs(seconds(since) - cluster.production.time) < 120
    assert "RolledBack" not in cluster.store.told()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_guardrail_without_data_is_given_up_in_time_whatever_the_nodes_clock_says(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    cluster = Cluster(monkeypatch)
    node = Node(cluster.production.time)
    cluster.operator = nodes_operator(cluster, node)
    cluster.start()
    cluster.production.errors["v2"] = "returns nothing"
    cluster.poll()
    node.wall += step
    began = cluster.production.time
    while cluster.store.status().phase is Phase.RUNNING:
        cluster.poll()
        assert cluster.production.time - began < 400

    assert cluster.store.status().phase is Phase.ROLLED_BACK
    assert cluster.production.time - began >= 270


def _split(champion: float, challenger: float) -> list[dict[str, object]]:
    return [
        {"modelVersion": "v1", "percent": champion},
        {"modelVersion": "v2", "percent": challenger},
    ]
