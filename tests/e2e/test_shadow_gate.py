"""A challenger gets copies first, and users only once its answers agree with the champion's."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from tests.e2e.gateway_lab import GatewayLab
from tests.e2e.lab import Lab, Manifest, OperatorProcess, Traffic, eventually
from tests.e2e.users import ask, keyed, predicted, table, users

pytestmark = pytest.mark.e2e
VERSIONS = {"v1": 0.60, "v2": 0.62}


@pytest.fixture(params=[Lab, GatewayLab], ids=["VirtualService", "HTTPRoute"])
def either(
    request: pytest.FixtureRequest, cluster: Cluster, operator: OperatorProcess
) -> Iterator[Lab]:
    """A namespace of its own with two versions of a model, on either kind of route."""
    made: Lab = request.param(cluster, f"lab-{uuid.uuid4().hex[:8]}", VERSIONS)
    yield made
    made.close()


@pytest.fixture
def lab(cluster: Cluster, operator: OperatorProcess) -> Iterator[Lab]:
    """The same on a VirtualService."""
    made = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", VERSIONS)
    yield made
    made.close()


def gated(lab: Lab, **spec: Any) -> Manifest:
    """An experiment whose challenger must agree in 95 % of the comparisons."""
    matchers = f'{{job="{lab.namespace}", model="fraud", against="v1"}}'
    shadow = {
        "modelVersion": "v2",
        "comparisons": f"model_shadow_comparisons_total{matchers}",
        "disagreements": f"model_shadow_disagreements_total{matchers}",
        "versionLabel": "version",
    }
    return lab.experiment(shadow=shadow, **spec)


def compare(lab: Lab, number: int, differing: int = 0) -> None:
    lab.servers["v2"].compare("v1", number, differing)


def wait_compared(lab: Lab, number: int) -> Manifest:
    """Wait until so many comparisons are counted, and give what is said of the shadow."""
    return dict(
        eventually(
            lambda: (
                (found := lab.status().get("shadow", {})).get("comparisons") == number and found
            ),
            f"{number} comparisons",
        )
    )


def why(lab: Lab) -> tuple[Any, Any]:
    found = lab.condition("ShadowAgrees")
    return found.get("status"), found.get("reason")


def copies(lab: Lab) -> bool:
    """Whether the challenger gets copies of requests that the champion answers."""
    before = lab.servers["v2"].received
    return lab.send(5) == {"v1": 5} and lab.servers["v2"].received > before


def test_it_serves_users_once_it_agrees_and_not_before(either: Lab) -> None:
    lab = either
    kind = "httproute" if isinstance(lab, GatewayLab) else "virtualservice"
    original = lab.fetch(kind, "fraud")["spec"]
    with Traffic(lab, 20) as before:
        lab.apply(gated(lab))
        lab.wait_phase("Shadowing")
        eventually(lambda: copies(lab), "copies")
        lab.wait_split(v1=100)
        row = lab.cluster.kubectl("get", "mexp", "fraud-v2", "-n", lab.namespace).splitlines()[1]
        assert row.split()[:6] == ["fraud-v2", "Shadowing", "v1", "100", "/", "v2"]
        eventually(lambda: why(lab) == ("Unknown", "NoSeries"), "what is missing")
        told = lab.condition("ShadowAgrees")["message"]
        assert told.startswith("spec.shadow.comparisons: model_shadow_comparisons_total{")
        assert 'matches no series with version="v2"' in told

        compare(lab, 60)
        found = wait_compared(lab, 60)
        assert (found["state"], found["disagreements"]) == ("InsufficientData", 0)
        assert why(lab) == ("Unknown", "InsufficientData")
        lab.wait_split(v1=100)
        assert "startTime" not in lab.status()
    assert set(before.answers) == {"v1"}

    compare(lab, 60)
    status = lab.wait_phase("Running")
    lab.wait_split(v1=90, v2=10)
    assert status["shadow"]["state"] == "Pass"
    assert status["shadow"]["upper"] <= 0.05
    assert status["startTime"]
    eventually(lambda: lab.send(50)["v2"] > 0, "an answer of the challenger")
    part = lab.fetch(kind, "fraud")["spec"]["rules" if kind == "httproute" else "http"][1]
    assert "mirror" not in json.dumps(part).lower()
    reasons = [reason for reason, _ in lab.events()]
    for reason in ("Shadowing", "ShadowPassed", "Started"):
        assert reason in reasons
    assert why(lab) == ("True", "Agrees")
    lab.delete_experiments()
    assert lab.fetch(kind, "fraud")["spec"] == original


def test_users_are_copied_first_and_then_moved_as_predicted(lab: Lab) -> None:
    who = users(300)
    analysis = {"interval": "1s", "unit": "Request"}
    manifest = gated(lab, assignment={"header": "x-user-id"}, analysis=analysis)
    manifest["spec"]["shadow"]["percent"] = 40
    told = "v2 gets copies of the requests of 40 % of v1's users"
    with Traffic(lab, 20) as others:
        lab.apply(manifest)
        lab.wait_phase("Shadowing")
        eventually(lambda: told in lab.condition("RoutesReady").get("message", ""), told)
        eventually(lambda: keyed(lab.gateway), "Envoy chooses by the user")
        eventually(lambda: copies(lab), "copies")
    assert set(others.answers) == {"v1"}
    asked = []
    for _ in range(2):
        lab.servers["v2"].users.clear()
        assert {got.version for got in ask(lab, who).values()} == {"v1"}
        # Copies are sent on their own, and may come a moment later.
        time.sleep(0.5)
        asked.append({user for user, _ in lab.servers["v2"].users if user in who})
    assert asked[0] == asked[1]
    assert abs(len(asked[0]) / len(who) - 0.4) < 0.1

    compare(lab, 200)
    lab.wait_phase("Running")
    lab.wait_split(v1=576_000, v2=64_000)
    eventually(lambda: ask(lab, who) == predicted(table(lab), who), "users as predicted")
    lab.servers["v2"].users.clear()
    answers = ask(lab, who)
    time.sleep(0.5)
    own = sum(got.version == "v2" for got in answers.values())
    assert lab.servers["v2"].users.total() == own > 0


def test_where_it_differs_nobody_ever_gets_it(lab: Lab) -> None:
    with Traffic(lab, 20) as sent:
        lab.apply(gated(lab))
        lab.wait_phase("Shadowing")
        compare(lab, 200, 60)
        status = lab.wait_phase("ChampionKept")
        lab.wait_split(v1=100)
        eventually(lambda: not copies(lab), "no copies any more")
    assert set(sent.answers) == {"v1"}
    decision = status["decision"]
    assert decision["action"] == "KeepChampion"
    assert "60 of 200 comparisons disagree, 30 %" in decision["reason"]
    assert decision["reason"].endswith("limit 5 %")
    assert status["shadow"]["lower"] > 0.05
    assert why(lab) == ("False", "Diverges")
    assert "ShadowDiverged" in dict(lab.events())


def test_beside_the_experiment_it_holds_nothing_back(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    lab = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {**VERSIONS, "v3": 0.6})
    # Its answers take ten times as long as the others', by its own histogram.
    lab.servers["v3"].seconds = 1.0
    manifest = gated(lab)
    manifest["spec"]["shadow"] |= {
        "modelVersion": "v3",
        "predictions": f'fraud_seconds_bucket{{job="{lab.namespace}"}}',
    }
    with Traffic(lab, 50):
        lab.apply(manifest)
        lab.wait_phase("Running")
        lab.wait_split(v1=90, v2=10)
        lab.servers["v3"].compare("v1", 200, 60)
        eventually(lambda: why(lab) == ("False", "Diverges"), "that it differs")
        found = eventually(
            lambda: (
                (known := lab.status()["shadow"].get("distribution", {})).get("samples", 0) > 200
                and known
            ),
            "200 predictions of both",
        )
    assert 0.2 < found["jensenShannon"] < 1
    assert found["psi"] > 0.25
    assert lab.status()["phase"] == "Running"
    assert "ShadowDiverged" in dict(lab.events())
    lab.wait_split(v1=90, v2=10)
    lab.close()


def test_a_shadow_that_is_dead_or_never_compared_harms_nobody(lab: Lab) -> None:
    lab.servers["v2"].die()
    with Traffic(lab, 20) as sent:
        lab.apply(gated(lab))
        lab.wait_phase("Shadowing")
        eventually(lambda: why(lab) == ("Unknown", "NoSeries"), "what is missing")
        # Somebody takes the weights into their own hands.
        patch = [
            {"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 50},
            {"op": "replace", "path": "/spec/http/1/route/1/weight", "value": 50},
        ]
        eventually(lambda: lab.destinations() == [("v1", 100), ("v2", 0)], "the route is written")
    assert set(sent.answers) == {"v1"}
    lab.cluster.kubectl(
        *("patch", "virtualservice", "fraud", "-n", lab.namespace, "--type=json"),
        *("-p", json.dumps(patch)),
    )
    eventually(lambda: lab.destinations() == [("v1", 100), ("v2", 0)], "the weights put right", 5)
    eventually(lambda: "RouteCorrected" in dict(lab.events()), "an Event that says so", 5)

    lab.apply(gated(lab, paused=True))
    lab.wait_phase("Paused")
    assert lab.destinations() == [("v1", 100), ("v2", 0)]
    lab.apply(gated(lab))
    lab.wait_phase("Shadowing")
    lab.apply(gated(lab, stop=True))
    lab.wait_phase("Stopped")
    lab.wait_split(v1=100)


def test_a_killed_operator_goes_on_counting_where_it_was(
    lab: Lab, operator: OperatorProcess
) -> None:
    with Traffic(lab, 20) as sent:
        lab.apply(gated(lab))
        lab.wait_phase("Shadowing")
        compare(lab, 40)
        wait_compared(lab, 40)
        operator.kill()
        compare(lab, 40, 1)
        assert copies(lab)
        operator.start()
        found = wait_compared(lab, 80)
        assert (found["disagreements"], found["state"]) == (1, "InsufficientData")
        assert lab.status()["phase"] == "Shadowing"
    assert set(sent.answers) == {"v1"}
    compare(lab, 220)
    status = lab.wait_phase("Running")
    assert (status["shadow"]["comparisons"], status["shadow"]["disagreements"]) == (300, 1)
    lab.wait_split(v1=90, v2=10)
