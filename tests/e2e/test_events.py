"""Kubernetes Events: what happens again is counted, not told anew."""

from __future__ import annotations

import json

import pytest

from tests.e2e.lab import HOST, Lab, eventually

pytestmark = pytest.mark.e2e

SPLIT = [("v1", 90), ("v2", 10)]
EVEN = [
    {"op": "replace", "path": f"/spec/http/1/route/{number}/weight", "value": 50}
    for number in (0, 1)
]


def counts(lab: Lab, reason: str) -> list[int]:
    """The counts of all Events of a reason."""
    found = lab.cluster.kubectl(
        "get", "events", "-n", lab.namespace, "-o", "json", f"--field-selector=reason={reason}"
    )
    return [int(event["count"]) for event in json.loads(found)["items"]]


def test_somebody_who_edits_the_weights_again_and_again_is_one_event(lab: Lab) -> None:
    lab.apply(lab.experiment())
    lab.wait_phase("Running")
    eventually(lambda: lab.destinations() == SPLIT, "the split")
    edit = ("patch", "virtualservice", HOST, "-n", lab.namespace, "--type=json")

    for times in range(1, 4):
        lab.cluster.kubectl(*edit, "-p", json.dumps(EVEN))
        eventually(lambda: lab.destinations() == SPLIT, "put back")
        eventually(lambda times=times: counts(lab, "RouteCorrected") == [times], f"{times} of them")
