"""What is compared of a shadow is counted as all counters are, and killed operators lose none."""

from __future__ import annotations

import pytest

from modelexperiment.core.status import ExperimentStatus, Phase, ShadowState
from modelexperiment.ports import UnavailableError
from tests.controller.fakes import KEY, ORIGINAL, Cluster, Crash

CHAMPION = {"v1": 100.0, "v2": 0.0}
HALVES = {"v1": 50.0, "v2": 50.0}
# Of what is served of v2, half counts as a disagreement here.
GATE = {
    "modelVersion": "v2",
    "maxDivergence": 0.7,
    "comparisons": "labelled_total",
    "disagreements": "correct_total",
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An experiment that shadows, with its mirror in the route."""
    made = Cluster(monkeypatch, shadow=GATE)
    made.reconcile()
    made.reconcile()
    assert status(made).phase == "Shadowing"
    return made


def status(cluster: Cluster) -> ExperimentStatus:
    return cluster.store.status()


def compared(cluster: Cluster) -> tuple[float | None, float | None]:
    found = status(cluster).shadow
    assert found is not None
    return found.comparisons, found.disagreements


def test_the_original_route_is_known_before_anything_is_mirrored(cluster: Cluster) -> None:
    assert cluster.journal == ["finalizer", "status", "route", "status"]
    assert status(cluster).memory.original_route == ORIGINAL
    assert (cluster.router.split, cluster.router.mirrors) == (CHAMPION, {"v2": 100})


def test_comparisons_add_up_exactly_also_over_a_restart_of_who_counts(cluster: Cluster) -> None:
    cluster.production.serve(0, 10)
    cluster.poll()
    assert compared(cluster) == (10, 5)

    cluster.production.restart("v2")
    cluster.production.serve(0, 4)
    cluster.poll()
    assert compared(cluster) == (14, 7)
    assert status(cluster).phase is Phase.SHADOWING
    assert cluster.router.split == CHAMPION


def test_it_goes_live_without_its_mirror(cluster: Cluster) -> None:
    cluster.production.serve(0, 200)
    cluster.poll()

    found = status(cluster)
    assert (found.phase, compared(cluster)) == (Phase.RUNNING, (200, 100))
    assert found.start_time is not None
    assert (cluster.router.split, cluster.router.mirrors) == (HALVES, {})
    assert cluster.store.told() == ["Shadowing", "ShadowPassed", "Started"]


@pytest.mark.parametrize("write", ["route", "status"])
def test_a_kill_as_it_goes_live_is_finished_by_the_next(cluster: Cluster, write: str) -> None:
    cluster.production.serve(0, 200)

    def dies(what: str) -> None:
        if what == write:
            raise Crash

    cluster.journal.before = dies
    with pytest.raises(Crash):
        cluster.poll()
    assert status(cluster).phase == "Shadowing"
    cluster.journal.before = lambda _: None
    cluster.operator = cluster.new_operator()
    cluster.production.serve(0, 20)
    cluster.poll()

    assert (status(cluster).phase, compared(cluster)) == (Phase.RUNNING, (220, 110))
    assert (cluster.router.split, cluster.router.mirrors) == (HALVES, {})


def test_an_outage_of_prometheus_counts_nothing_and_loses_nothing(cluster: Cluster) -> None:
    cluster.production.failure = UnavailableError("no answer")
    cluster.production.serve(0, 100)
    cluster.poll()
    found = status(cluster)
    assert (found.phase, compared(cluster)) == (Phase.SHADOWING, (0, 0))
    agrees = found.condition("ShadowAgrees")
    assert agrees is not None
    assert (agrees.status, agrees.reason) == ("Unknown", "PrometheusUnreachable")

    cluster.production.failure = None
    cluster.poll()
    assert compared(cluster) == (100, 50)


def test_a_counter_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, shadow={**GATE, "disagreements": "other_total"})
    cluster.reconcile()
    cluster.production.serve(0, 200)
    cluster.poll()

    found = status(cluster)
    assert (found.phase, compared(cluster)) == (Phase.SHADOWING, (0, 0))
    assert found.shadow is not None
    assert found.shadow.state is ShadowState.INSUFFICIENT_DATA
    agrees = found.condition("ShadowAgrees")
    assert agrees is not None
    assert agrees.message.startswith("spec.shadow.disagreements: other_total matches no series")


def test_a_deletion_while_it_shadows_restores_the_route(cluster: Cluster) -> None:
    cluster.router.mirrors["theirs"] = 5.0
    cluster.store.delete(KEY)
    cluster.reconcile()

    assert cluster.router.mirrors == {"theirs": 5.0}
    assert KEY not in cluster.store.objects
