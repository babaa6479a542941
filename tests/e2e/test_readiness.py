"""Only versions with ready endpoints get traffic; another's share stays with the champion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcluster.manifests import model_service
from tests.e2e.lab import HOST, Lab, Manifest, Traffic, eventually
from tests.e2e.test_sticky import wait_for
from tests.e2e.users import ask, users

pytestmark = pytest.mark.e2e

SOME = users(200)


def model(lab: Lab, *versions: str) -> Manifest:
    """The model's ServiceEntry with the endpoints of these versions."""
    ports = {v: lab.servers[v].port for v in versions}
    return model_service(lab.namespace, f"{HOST}.{lab.namespace}.svc.cluster.local", ports)[0]


def test_users_of_a_version_that_is_gone_go_to_the_champion_and_return(lab: Lab) -> None:
    analysis = {"interval": "1s", "unit": "Request"}
    traffic = [{"modelVersion": "v1", "percent": 60}, {"modelVersion": "v2", "percent": 40}]
    lab.apply(
        lab.experiment(assignment={"header": "x-user-id"}, analysis=analysis, traffic=traffic)
    )
    lab.wait_phase("Running", timeout=90)
    wait_for(lab, v1=60, v2=40)
    before = ask(lab, SOME)

    lab.cluster.apply(model(lab, "v1"))
    wait_for(lab, v1=100)
    away = ask(lab, SOME)

    assert {got.version for got in away.values()} == {"v1"}
    assert {u: got.bucket for u, got in away.items()} == {u: g.bucket for u, g in before.items()}
    condition = eventually(
        lambda: (c := lab.condition("RoutesReady"))["status"] == "False" and c, "it is said"
    )
    assert condition["reason"] == "ArmNotReady"
    assert "lists no endpoint with version=v2; its 40 % stay with v1" in condition["message"]

    lab.cluster.apply(model(lab, "v1", "v2"))
    wait_for(lab, v1=60, v2=40)
    assert ask(lab, SOME) == before
    eventually(lambda: lab.condition("RoutesReady")["status"] == "True", "it is well again")
    told = [reason for reason, _ in lab.events()]
    assert {"ArmNotReady", "ArmReady"} <= set(told)
    assert "RouteCorrected" not in told


def pod(namespace: str, version: str) -> Manifest:
    """A Pod that nothing runs: its status is what the test says."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"scoring-{version}",
            "namespace": namespace,
            "labels": {"app": "scoring", "version": version},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "model", "image": "model"}],
        },
    }


def scoring(namespace: str) -> list[Manifest]:
    """A Service with a selector, its subsets, and a route of its own."""
    istio: dict[str, Any] = {"apiVersion": "networking.istio.io/v1"}
    metadata = {"name": "scoring", "namespace": namespace}
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    route = [{"destination": {"host": "scoring", "subset": "v1"}}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "scoring"}, "ports": [{"name": "http", "port": 80}]},
        },
        istio
        | {
            "kind": "DestinationRule",
            "metadata": metadata,
            "spec": {"host": "scoring", "subsets": subsets},
        },
        istio
        | {
            "kind": "VirtualService",
            "metadata": metadata,
            "spec": {
                "hosts": ["scoring.example.com"],
                "gateways": ["edge"],
                "http": [{"name": "score", "route": route}],
            },
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**metadata, "name": "default"}},
        pod(namespace, "v1"),
        pod(namespace, "v2"),
    ]


def test_a_version_behind_a_service_gets_its_share_while_a_pod_of_it_is_ready(lab: Lab) -> None:
    def ready(version: str, status: str) -> None:
        patch = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        name = f"scoring-{version}"
        where = ("pod", name, "-n", lab.namespace, "--subresource=status")
        lab.cluster.kubectl("patch", *where, "-p", json.dumps(patch))

    def weights() -> dict[str, int]:
        return lab.gateway.route_weights("score")

    lab.cluster.apply(*scoring(lab.namespace))
    ready("v1", "True")
    ready("v2", "False")
    route = {"istio": {"virtualService": "scoring", "httpRoute": "score", "host": "scoring"}}
    with Traffic(lab, 20):
        lab.apply(lab.experiment(route=route))
        waiting = eventually(lambda: lab.condition("RoutesReady"), "the condition")
        assert waiting["reason"] == "ArmNotReady"
        assert (
            "none of 1 Pods of Service scoring with app=scoring, version=v2" in (waiting["message"])
        )
        assert lab.status()["phase"] == "Pending"
        assert weights() == {"v1": 100}

        ready("v2", "True")
        lab.wait_phase("Running", timeout=60)
        eventually(lambda: weights() == {"v1": 90, "v2": 10}, "the split")

        ready("v2", "False")
        eventually(lambda: weights() == {"v1": 100}, "v1 alone", 10)
        eventually(lambda: lab.status()["summary"]["split"] == "v1 100 / v2 0", "it is said")
        condition = lab.condition("RoutesReady")
        assert (condition["status"], condition["reason"]) == ("False", "ArmNotReady")
        assert "its 10 % stay with v1 until it has ready endpoints" in condition["message"]

        ready("v2", "True")
        eventually(lambda: weights() == {"v1": 90, "v2": 10}, "the split again", 10)
        eventually(lambda: lab.condition("RoutesReady")["status"] == "True", "it is well again")
    assert lab.status()["phase"] == "Running"
