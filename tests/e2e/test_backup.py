"""Experiments that come back from a backup go on where they were, as docs/operations.md says."""

from __future__ import annotations

import json

import pytest

from tests.e2e.counting import counted_exactly, started
from tests.e2e.lab import Lab, OperatorProcess

pytestmark = pytest.mark.e2e

KEPT = ("name", "namespace", "labels", "annotations", "finalizers")


def test_a_restored_experiment_goes_on_with_its_counts_and_its_original_route(
    lab: Lab, operator: OperatorProcess
) -> None:
    original = lab.fetch("virtualservice", "fraud")["spec"]
    before = started(lab)
    lab.send(300)
    counted_exactly(lab, before)
    start = lab.status()["startTime"]
    operator.stop()
    try:
        saved = lab.fetch("mexp", "fraud-v2")
        saved["metadata"] = {k: v for k, v in saved["metadata"].items() if k in KEPT}
        name = ("mexp", "fraud-v2", "-n", lab.namespace)
        none = '{"metadata": {"finalizers": null}}'
        lab.cluster.kubectl("patch", *name, "--type=merge", "-p", none)
        lab.cluster.kubectl("delete", *name, "--ignore-not-found")
        lab.send(100)

        lab.apply(saved)
        status = json.dumps({"status": saved["status"]})
        patch = ("--subresource=status", "--type=merge", "-p", status)
        lab.cluster.kubectl("patch", *name, *patch)
    finally:
        operator.start()
    counted_exactly(lab, before)
    assert lab.status()["startTime"] == start
    lab.delete_experiments()
    assert lab.fetch("virtualservice", "fraud")["spec"] == original
