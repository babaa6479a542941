"""The operator with a Role in one namespace and no right outside of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster
from localcluster.crds import wait_established
from tests.e2e.bare.conftest import CRD, ROOT
from tests.e2e.lab import Lab, OperatorProcess, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_crd")]

CHART = str(ROOT / "helm" / "modelexperiment")
NAME = "ab-modelexperiment"


@pytest.fixture
def labs(cluster: Cluster) -> Iterator[tuple[Lab, Lab]]:
    """A model in the namespace that is served, and one in another."""
    both = [
        Lab(cluster, f"{kind}-{uuid.uuid4().hex[:8]}", {"v1": 0.60, "v2": 0.62})
        for kind in ("served", "other")
    ]
    yield both[0], both[1]
    for lab in both:
        lab.close()


@pytest.fixture
def operator(
    cluster: Cluster, labs: tuple[Lab, Lab], namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    served = labs[0].namespace
    settings = ("--set", "replicas=0", "--set", f"watchNamespaces={{{served}}}")
    cluster.helm("install", "ab", CHART, "-n", namespace, *settings)
    wait_established(cluster.kubectl, CRD)
    running = OperatorProcess(
        cluster.service_account_kubeconfig(namespace, NAME),
        tmp_path / "log",
        POD_NAMESPACE=namespace,
        WATCH_NAMESPACES=served,
        PROMETHEUS_URL=cluster.prometheus_url,
    )
    yield running
    # While it runs, since it has the route of each to restore.
    for lab in labs:
        lab.delete_experiments()
    running.stop()
    cluster.helm("uninstall", "ab", "-n", namespace)


def test_a_whole_experiment_with_no_right_outside_its_namespace(
    labs: tuple[Lab, Lab], operator: OperatorProcess
) -> None:
    served, other = labs
    for lab in labs:
        lab.apply(lab.experiment())

    eventually(lambda: served.status().get("phase") == "Running", "it runs")
    eventually(lambda: served.gateway.route_weights("predict") == {"v1": 90, "v2": 10}, "split")
    # To uninstall the operator is to end it: the traffic stays as it is.
    operator.stop()
    assert served.gateway.route_weights("predict") == {"v1": 90, "v2": 10}
    assert served.destinations() == [("v1", 90), ("v2", 10)]
    operator.start()
    served.delete_experiments()
    eventually(lambda: served.gateway.route_weights("predict") == {"v1": 100}, "restored")

    assert other.status() == {}
    assert other.gateway.route_weights("predict") == {"v1": 100}
    assert "orbidden" not in operator.log
