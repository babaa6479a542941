"""A rollback survives a kill, an API server that refuses writes, and a storm of conflicts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
import yaml

from localcluster import Cluster
from localcluster.startup import APISERVER_CERTIFICATE
from tests.e2e.lab import HOST, Lab, OperatorProcess, Traffic, eventually

pytestmark = pytest.mark.e2e

ROLE = "modelexperiment"
CHAMPION = [("v1", 100), ("v2", 0)]


@contextmanager
def refused(cluster: Cluster, *resources: str) -> Iterator[None]:
    """While this lasts, the API server refuses the operator's writes to these resources."""
    before = json.loads(cluster.kubectl("get", "clusterrole", ROLE, "-o", "json"))
    rules = []
    for rule in before["rules"]:
        writes = {"patch", "update"} & set(rule["verbs"])
        kept = [r for r in rule["resources"] if r not in resources]
        rules.append({**rule, "resources": kept})
        if writes and len(kept) < len(rule["resources"]):
            lost = [r for r in rule["resources"] if r in resources]
            rules.append({**rule, "resources": lost, "verbs": ["get", "list", "watch"]})
    patch = json.dumps({"rules": [rule for rule in rules if rule["resources"]]})
    cluster.kubectl("patch", "clusterrole", ROLE, "--type=merge", "-p", patch)
    try:
        yield
    finally:
        patch = json.dumps({"rules": before["rules"]})
        cluster.kubectl("patch", "clusterrole", ROLE, "--type=merge", "-p", patch)


def running(lab: Lab) -> None:
    """Start an experiment whose guardrail passes."""
    lab.apply(lab.experiment(guardrails=[lab.error_guardrail()]))
    lab.wait_phase("Running")
    eventually(lambda: lab.guardrail_state("errors") == "Pass", "a pass first")


def test_a_kill_before_any_status_tells_of_it_does_not_undo_a_rollback(
    cluster: Cluster, lab: Lab, operator: OperatorProcess
) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 100):
        running(lab)
        with refused(cluster, "modelexperiments/status"):
            time.sleep(1)
            challenger.failing = 0.8
            lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=15)
            operator.kill()
            challenger.failing = 0.0
            assert lab.status()["phase"] == "Running"
            operator.start()
            for _ in range(30):
                assert lab.gateway.route_weights("predict").get("v2", 0) == 0
                time.sleep(0.1)
        status = lab.wait_phase("RolledBack")
    assert lab.destinations() == CHAMPION
    assert "guardrail errors broke for v2" in status["decision"]["reason"]
    breach = status["guardrails"][0]["breach"]
    assert breach["value"] > breach["limit"] == 0.05
    assert 'version="v2"' in breach["query"]
    assert "RolledBack" in dict(lab.events())


def test_a_rollback_outlasts_a_minute_of_refused_writes(cluster: Cluster, lab: Lab) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 100):
        running(lab)
        with refused(cluster, "modelexperiments/status", "virtualservices"):
            time.sleep(1)
            challenger.failing = 0.8
            time.sleep(10)
            # It is decided, and may be over by now.
            challenger.failing = 0.0
            time.sleep(50)
            assert lab.destinations() == [("v1", 90), ("v2", 10)]
        lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=6)
        lab.wait_phase("RolledBack", timeout=6)


class Storm:
    """Somebody who edits the VirtualService's annotations all the time."""

    def __init__(self, lab: Lab, per_second: float) -> None:
        cluster = lab.cluster
        kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = "Bearer " + kubeconfig["users"][0]["user"]["token"]
        self._session.headers["Content-Type"] = "application/merge-patch+json"
        self._session.verify = str(cluster.directory / APISERVER_CERTIFICATE)
        self._url = (
            f"{cluster.apiserver_url}/apis/networking.istio.io/v1/namespaces/{lab.namespace}"
            f"/virtualservices/{HOST}"
        )
        self._pause, self._stop, self.edits = 1 / per_second, threading.Event(), 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            body: Any = {"metadata": {"annotations": {"storm": str(self.edits)}}}
            answer = self._session.patch(self._url, data=json.dumps(body), timeout=10)
            # It may lose to the operator, too.
            self.edits += answer.status_code == 200

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_rollback_gets_through_a_storm_of_edits(lab: Lab) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 100):
        running(lab)
        with Storm(lab, 50) as storm:
            challenger.failing = 0.8
            eventually(lambda: challenger.first_failure, "a bad response")
            lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=15)
            seconds = time.time() - (challenger.first_failure or 0.0)
            lab.wait_phase("RolledBack", timeout=6)
        assert storm.edits > 20
    assert seconds <= 6
    annotations = lab.fetch("virtualservice", HOST)["metadata"]["annotations"]
    assert annotations["team.example/owner"] == "risk"
