"""Every manifest that stands in the documentation, applied to a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcluster import Cluster
from tests.docs.pages import manifests

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("crd")]

# What is shown for other systems, whose kinds this cluster doesn't have.
FOREIGN = ("argoproj.io", "toolkit.fluxcd.io", "monitoring.coreos.com")
SHOWN = {where: m for where, m in manifests() if not any(f in m["apiVersion"] for f in FOREIGN)}


@pytest.mark.parametrize("given", SHOWN.values(), ids=SHOWN)
def test_is_accepted(cluster: Cluster, namespace: str, given: dict[str, Any]) -> None:
    # The namespace of the page need not exist here.
    moved = {**given, "metadata": {**given["metadata"], "namespace": namespace}}
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=json.dumps(moved))
