"""One cluster of real parts for the whole test session."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator

import pytest

from localcluster import Cluster, Gateway
from localcluster.build import build
from localcluster.catalog import missing_parts
from tests.e2e import chart
from tests.e2e.lab import Lab, OperatorProcess, eventually


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A running cluster; its parts are built first where they are missing.

    After a failed test its directory stays, for the parts' output.
    """
    if missing_parts():
        # A first build takes minutes, which nobody should wait for in silence.
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            build(sys.stderr)
    running = Cluster.start(tmp_path_factory.mktemp("cluster"))
    yield running
    running.stop(keep_logs=request.session.testsfailed > 0)


@pytest.fixture(scope="session")
def gateway(cluster: Cluster) -> Gateway:
    """An Envoy that takes its routes from istiod; it goes with the cluster."""
    return cluster.gateway("istio-ingressgateway", "istio-system", {"istio": "ingressgateway"})


@pytest.fixture(scope="session")
def operator(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator, installed by its chart and running with the chart's rights."""
    chart.install(cluster)
    running = chart.start(cluster, tmp_path_factory.mktemp("operator") / "log")
    # On a busy machine that takes longer than a test may wait for its first answer.
    eventually(lambda: "leading as" in running.log, "the operator leads", timeout=120)
    yield running
    running.stop()


@pytest.fixture
def lab(cluster: Cluster, operator: OperatorProcess) -> Iterator[Lab]:
    """A namespace of its own with two versions of a model: right in 60 and in 62 % of cases."""
    made = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {"v1": 0.60, "v2": 0.62})
    yield made
    made.close()
