"""The route: split as asked, put right when edited, nothing else touched, restored at the end."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest

from modelexperiment.adapters.rollback_marker import MARKER
from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e


def test_requests_are_split_as_the_manifest_says(lab: Lab) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment())
        lab.wait_phase("Running")
        lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    answers = lab.send(10_000)
    assert answers["v1"] + answers["v2"] == 10_000
    # A point is more than three standard errors at 10,000 requests.
    assert answers["v2"] / 10_000 == pytest.approx(0.10, abs=0.01)


def test_percents_with_decimals_reach_envoy(lab: Lab) -> None:
    traffic = [{"modelVersion": "v1", "percent": 97.25}, {"modelVersion": "v2", "percent": 2.75}]
    with Traffic(lab, 50):
        lab.apply(lab.experiment(traffic=traffic))
        lab.wait_phase("Running")
    lab.gateway.wait_for_weights("predict", {"v1": 9725, "v2": 275})


def test_an_edit_of_the_weights_is_put_right_in_under_five_seconds(lab: Lab) -> None:
    with Traffic(lab, 50):
        # So that no poll comes by chance: it is the edit itself that must be seen.
        lab.apply(lab.experiment(analysis={"interval": "10m"}))
        lab.wait_phase("Running")
        eventually(lambda: lab.destinations() == [("v1", 90), ("v2", 10)], "the split")
    time.sleep(1)
    edit = [{"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 5}]
    edited = time.monotonic()
    lab.cluster.kubectl(
        "patch",
        "virtualservice",
        "fraud",
        "-n",
        lab.namespace,
        "--type=json",
        "-p",
        json.dumps(edit),
    )
    eventually(lambda: lab.destinations() == [("v1", 90), ("v2", 10)], "the split again", 5)
    assert time.monotonic() - edited < 5
    eventually(lambda: "RouteCorrected" in dict(lab.events()), "an Event that says so", 5)


def without_split(virtual_service: dict[str, Any]) -> str:
    """All of a VirtualService but what the operator may write and the server counts."""
    rest = copy.deepcopy(virtual_service)
    rest["spec"]["http"][1].pop("route")
    for field in ("resourceVersion", "generation", "managedFields"):
        rest["metadata"].pop(field, None)
    # A rollback leaves its reason there, until the next write of the route.
    rest["metadata"]["annotations"].pop(MARKER, None)
    return json.dumps(rest, sort_keys=False)


def test_nothing_but_the_one_routes_destinations_is_ever_changed(lab: Lab) -> None:
    original = lab.fetch("virtualservice", "fraud")
    before = without_split(original)

    def unchanged(when: str) -> None:
        assert without_split(lab.fetch("virtualservice", "fraud")) == before, when

    with Traffic(lab, 100):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()]))
        lab.wait_phase("Running")
        lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
        unchanged("after the start")
        ramp = [{"modelVersion": "v1", "percent": 60}, {"modelVersion": "v2", "percent": 40}]
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()], traffic=ramp))
        lab.gateway.wait_for_weights("predict", {"v1": 60, "v2": 40})
        unchanged("after a ramp")
        assert "SplitChanged" in dict(lab.events())
        lab.servers["v2"].failing = 0.5
        lab.wait_phase("RolledBack")
        lab.gateway.wait_for_weights("predict", {"v1": 100})
        unchanged("after the rollback")
        assert MARKER in lab.fetch("virtualservice", "fraud")["metadata"]["annotations"]
    assert lab.get("/admin/predict") == (200, "v1")
    lab.delete_experiments()
    eventually(
        lambda: lab.fetch("virtualservice", "fraud")["spec"] == original["spec"],
        "the original route",
        10,
    )
    restored = lab.fetch("virtualservice", "fraud")["metadata"]
    assert restored["annotations"] == original["metadata"]["annotations"]


def test_deletion_does_not_hang_where_the_route_is_gone(lab: Lab) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment())
        lab.wait_phase("Running")
    lab.cluster.kubectl("delete", "virtualservice", "fraud", "-n", lab.namespace)
    lab.delete_experiments()
    assert lab.fetch("mexp", "fraud-v2") == {}
    assert "nothing to restore" in dict(lab.events())["RouteRestored"]
