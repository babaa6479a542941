"""The operator where one of the two kinds of routes is not installed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, catalog
from localcluster.crds import wait_established
from tests.e2e.bare.conftest import CRD, ROOT
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_crd")]

CHART = str(ROOT / "helm" / "modelexperiment")
NAME = "ab-modelexperiment"
HTTP_ROUTES = "httproutes.gateway.networking.k8s.io"


@pytest.fixture
def no_http_routes(cluster: Cluster) -> Iterator[None]:
    """The Gateway API's HTTPRoute is not there during a test."""
    cluster.kubectl("delete", "crd", HTTP_ROUTES)
    yield
    cluster.apply(*(file.read_text() for file in catalog.crd_files() if "httproutes" in file.name))
    wait_established(cluster.kubectl, HTTP_ROUTES)


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Lab]:
    """A model behind a VirtualService."""
    made = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {"v1": 0.60, "v2": 0.62})
    yield made
    made.close()


@pytest.fixture(params=["everywhere", "in its namespace"])
def operator(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    lab: Lab,
    namespace: str,
    tmp_path: Path,
    no_http_routes: None,
) -> Iterator[OperatorProcess]:
    settings, watched = ["--set", "replicas=0"], {}
    if request.param == "in its namespace":
        settings += ["--set", f"watchNamespaces={{{lab.namespace}}}"]
        watched = {"WATCH_NAMESPACES": lab.namespace}
    cluster.helm("install", "ab", CHART, "-n", namespace, *settings)
    wait_established(cluster.kubectl, CRD)
    running = OperatorProcess(
        cluster.service_account_kubeconfig(namespace, NAME),
        tmp_path / "log",
        POD_NAMESPACE=namespace,
        PROMETHEUS_URL=cluster.prometheus_url,
        **watched,
    )
    yield running
    lab.delete_experiments()
    running.stop()
    cluster.helm("uninstall", "ab", "-n", namespace)


def test_the_other_kind_works_and_the_missing_one_is_said(
    lab: Lab, operator: OperatorProcess
) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment())
        lab.apply(lab.experiment("other", route={"gatewayAPI": {"httpRoute": "fraud"}}))
        lab.wait_phase("Running")
        lab.wait_split(v1=90, v2=10)
    eventually(
        lambda: lab.condition("RoutesReady", "other").get("reason") == "HTTPRouteNotFound",
        "a condition that says so",
    )
    # An edit is still seen at once: the watch of the other kind is open.
    edit = '[{"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 5}]'
    where = ("virtualservice", "fraud", "-n", lab.namespace)
    lab.cluster.kubectl("patch", *where, "--type=json", "-p", edit)
    eventually(lambda: lab.destinations() == [("v1", 90), ("v2", 10)], "the split again", 5)
    assert "Unresolved resources cannot be served" in operator.log
    assert "raceback" not in operator.log
