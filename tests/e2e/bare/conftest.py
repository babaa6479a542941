"""A second cluster, without the operator: here the resource and the chart stand for themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster
from localcluster.crds import wait_established
from tests.e2e.conftest import cluster

__all__ = ["cluster"]

ROOT = Path(__file__).parents[3]
CRD = "modelexperiments.experiments.mlops.dev"


@pytest.fixture(scope="module")
def crd(cluster: Cluster) -> None:
    """The resource's definition, installed without the chart."""
    cluster.apply((ROOT / "crds" / "modelexperiments.yaml").read_text())
    wait_established(cluster.kubectl, CRD)


@pytest.fixture
def no_crd(cluster: Cluster) -> Iterator[None]:
    """The resource's definition is not there before a test, nor after it."""
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")
    yield
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own."""
    name = f"bare-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
