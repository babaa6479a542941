"""A Gateway API HTTPRoute: split as asked, only once it is accepted, and nothing else touched."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from modelexperiment.adapters.rollback_marker import MARKER
from tests.e2e.gateway_lab import GatewayLab
from tests.e2e.lab import OperatorProcess, Traffic, eventually
from tests.e2e.users import Found, ask, keyed, predicted, table, users

pytestmark = pytest.mark.e2e

SOME = users(1_500)


@pytest.fixture
def lab(cluster: Cluster, operator: OperatorProcess) -> Iterator[GatewayLab]:
    """A namespace of its own with two versions of a model behind an HTTPRoute."""
    made = GatewayLab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {"v1": 0.60, "v2": 0.62})
    yield made
    made.close()


def untouched(http_route: dict[str, Any]) -> str:
    """All of an HTTPRoute but the weights, what the server counts, and the controllers' status."""
    rest = copy.deepcopy(http_route)
    rest.pop("status", None)
    rest["spec"]["rules"][1].pop("backendRefs")
    for field in ("resourceVersion", "generation", "managedFields"):
        rest["metadata"].pop(field, None)
    # A rollback leaves its reason there, until the next write of the route.
    rest["metadata"]["annotations"].pop(MARKER, None)
    return json.dumps(rest, sort_keys=False)


def test_a_rule_is_split_ramped_rolled_back_and_restored(lab: GatewayLab) -> None:
    original = lab.fetch("httproute", "fraud")
    guarded = {"guardrails": [lab.error_guardrail()]}
    with Traffic(lab, 50):
        lab.apply(lab.experiment(**guarded))
        lab.wait_phase("Running")
        lab.wait_split(v1=90, v2=10)
        eventually(lambda: lab.condition("RoutesReady").get("status") == "True", "accepted")
        served = lab.servers["v1"].served + lab.servers["v2"].served
        answers = lab.send(2_000)
        assert answers["v1"] + answers["v2"] == 2_000
        z = (answers["v2"] - 200) / (2_000 * 0.1 * 0.9) ** 0.5
        assert abs(z) < 3, answers
        assert lab.servers["v1"].served + lab.servers["v2"].served >= served + 2_000
        assert untouched(lab.fetch("httproute", "fraud")) == untouched(original)
        # The owner's filters, of the rule and of the champion's backend, are still in force.
        assert lab.rule()["backendRefs"][0]["filters"]

        lab.apply(lab.experiment(**guarded, traffic=lab.traffic(v1=60.5, v2=39.5)))
        lab.wait_split(v1=6050, v2=3950)
        assert "SplitChanged" in dict(lab.events())

        lab.servers["v2"].failing = 0.5
        lab.wait_phase("RolledBack")
        lab.wait_split(v1=100)
        eventually(
            lambda: lab.condition("RoutesReady").get("message") == "routed: v1 100 / v2 0",
            "the rollback is accepted",
        )
    assert untouched(lab.fetch("httproute", "fraud")) == untouched(original)
    assert lab.get("/admin/predict") == (200, "v1")
    lab.delete_experiments()
    restored = lab.fetch("httproute", "fraud")
    assert restored["spec"] == original["spec"]
    assert restored["metadata"]["annotations"] == original["metadata"]["annotations"]


def test_an_edit_of_the_weights_is_put_right(lab: GatewayLab) -> None:
    with Traffic(lab, 50):
        # So that no poll comes by chance: it is the edit itself that must be seen.
        lab.apply(lab.experiment(analysis={"interval": "10m"}))
        lab.wait_phase("Running")
        lab.wait_split(v1=90, v2=10)
    eventually(lambda: lab.condition("RoutesReady").get("status") == "True", "accepted")
    edited = time.monotonic()
    where = "/spec/rules/1/backendRefs/0/weight"
    lab.patch_route({"op": "replace", "path": where, "value": 5})

    def weights() -> list[int]:
        return [ref["weight"] for ref in lab.rule()["backendRefs"]]

    eventually(lambda: weights() == [90, 10], "the split again", 5)
    assert time.monotonic() - edited < 5
    eventually(lambda: "RouteCorrected" in dict(lab.events()), "an Event that says so", 5)
    eventually(lambda: lab.condition("RoutesReady").get("status") == "True", "accepted again", 5)


def test_nothing_is_split_before_a_gateway_accepts_the_route(lab: GatewayLab) -> None:
    nobody = {"op": "replace", "path": "/spec/parentRefs/0/name", "value": "nowhere"}
    lab.patch_route(nobody)
    lab.apply(lab.experiment())
    eventually(
        lambda: lab.condition("RoutesReady").get("reason") == "NotAccepted",
        "a condition that says so",
    )
    condition = lab.condition("RoutesReady")
    assert condition["status"] == "False"
    assert "HTTPRoute fraud: Gateway nowhere" in condition["message"]
    assert lab.status()["phase"] == "Pending"
    assert [ref["weight"] for ref in lab.rule()["backendRefs"]] == [1]

    lab.patch_route({**nobody, "value": "edge"})
    lab.wait_phase("Running")
    lab.wait_split(v1=90, v2=10)
    eventually(lambda: lab.condition("RoutesReady").get("status") == "True", "accepted")

    # A Gateway that goes away while the experiment runs is told as well.
    lab.patch_route(nobody)
    eventually(lambda: lab.condition("RoutesReady").get("status") == "False", "not accepted", 10)
    assert lab.status()["phase"] == "Running"


def test_a_backend_that_does_not_exist_is_named(lab: GatewayLab) -> None:
    # The champion's backend becomes a plain Service, and so do those that are not listed yet.
    service = {"group": "", "kind": "Service", "name": "v1", "port": 80}
    lab.cluster.kubectl("create", "service", "clusterip", "v1", "--tcp=80", "-n", lab.namespace)
    lab.patch_route({"op": "replace", "path": "/spec/rules/1/backendRefs", "value": [service]})
    traffic = [{"modelVersion": "v1", "percent": 90}, {"modelVersion": "v2", "percent": 10}]
    lab.apply(lab.experiment(traffic=traffic))
    message = f"spec.traffic[v2]: there is no Service v2 in {lab.namespace}"
    eventually(lambda: lab.condition("RoutesReady").get("message") == message, message)
    assert lab.condition("RoutesReady")["reason"] == "DestinationNotFound"
    lab.cluster.kubectl("create", "service", "clusterip", "v2", "--tcp=81", "-n", lab.namespace)
    message = f"spec.traffic[v2]: Service v2 in {lab.namespace} has no port 80; it has 81"
    eventually(lambda: lab.condition("RoutesReady").get("message") == message, message, 15)


def versions(found: Found) -> dict[str, str]:
    """The version of each user: an HTTPRoute has no room for stamps of hash buckets."""
    return {user: got.version for user, got in found.items()}


def test_users_are_kept_through_ramp_rollback_and_return(
    lab: GatewayLab, capsys: pytest.CaptureFixture[str]
) -> None:
    original = lab.fetch("httproute", "fraud")["spec"]
    guardrail = lab.error_guardrail(query=lab.error_guardrail()["query"] + " or vector(0)")
    manifest = lab.experiment(
        assignment={"header": "x-user-id"},
        analysis={"interval": "1s", "unit": "Request"},
        guardrails=[guardrail],
    )
    with Traffic(lab, 50):
        lab.apply(manifest)
        lab.wait_phase("Running")
    lab.wait_split(v1=90, v2=10)
    eventually(lambda: keyed(lab.gateway), "Envoy chooses by the user")
    first = [versions(ask(lab, SOME)) for _ in range(2)]
    assert first == [versions(predicted(table(lab), SOME))] * 2
    eventually(lambda: lab.condition("RoutesReady").get("reason") == "StickyUnproven", "sticky")

    manifest["spec"]["traffic"] = lab.traffic(v1=70, v2=30)
    lab.apply(manifest)
    lab.wait_split(v1=70, v2=30)
    ramped = versions(ask(lab, SOME))
    assert ramped == versions(predicted(table(lab), SOME))
    gone = [user for user in SOME if ramped[user] != first[0][user]]
    assert {first[0][user] for user in gone} == {"v1"}
    with capsys.disabled():
        print(f"\nHTTPRoute: {len(gone)} of {len(SOME)} users moved on 90/10 -> 70/30 (20 %)")

    # A route to a single backend would break under the filter: the champion stands there twice.
    lab.servers["v2"].failing = 1.0
    with Traffic(lab, 50):
        lab.wait_phase("RolledBack")
    lab.wait_split(v1=100)
    lab.servers["v2"].failing = 0.0
    assert set(versions(ask(lab, SOME[:300])).values()) == {"v1"}

    # Until the guardrail's window of 5 s holds none of the errors any more.
    time.sleep(7)
    manifest["spec"]["analysis"] = {**manifest["spec"]["analysis"], "maxDuration": "13d"}
    with Traffic(lab, 50):
        lab.apply(manifest)
        lab.wait_phase("Running", timeout=60)
    lab.wait_split(v1=70, v2=30)
    assert versions(ask(lab, SOME)) == ramped

    lab.delete_experiments()
    assert lab.fetch("httproute", "fraud")["spec"] == original
    filters = lab.cluster.kubectl("get", "envoyfilter", "-n", lab.namespace, "-o", "name")
    assert filters == ""
    eventually(lambda: lab.gateway.route_weights("predict") == {lab.backend("v1"): 100}, "restored")
    assert lab.send(50) == {"v1": 50}
