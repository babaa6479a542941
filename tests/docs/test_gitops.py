"""The ignore rules in docs/gitops.md select what the operator writes, and nothing else."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.docs.pages import manifests

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


def expressions(kind: str) -> list[str]:
    """The jqPathExpressions that the page gives for a kind of object."""
    (application,) = (found for _, found in manifests() if found["kind"] == "Application")
    rules = application["spec"]["ignoreDifferences"]
    return [text for rule in rules if rule["kind"] == kind for text in rule["jqPathExpressions"]]


def without_ignored(given: dict[str, Any]) -> dict[str, Any]:
    """An object without what the rules select: `del(...)`, as Argo CD does."""
    program = " | ".join(f"del({text})" for text in expressions(given["kind"]))
    command = ["jq", "-c", program]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def http_route() -> dict[str, Any]:
    """An HTTPRoute as it stands in Git."""
    champion = {"name": "v1", "port": 80, "weight": 1}
    header = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-debug"]}}
    return {
        "kind": "HTTPRoute",
        "spec": {
            "rules": [
                {"name": "admin", "backendRefs": [champion]},
                {"name": "predict", "backendRefs": [champion], "filters": [header]},
            ]
        },
    }


def split(given: dict[str, Any]) -> dict[str, Any]:
    """The same while an experiment splits and mirrors it."""
    live = copy.deepcopy(given)
    rule = live["spec"]["rules"][1]
    rule["backendRefs"] = [
        {"name": "v1", "port": 80, "weight": 90},
        {"name": "v2", "port": 80, "weight": 10},
    ]
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v3", "port": 80}}}
    rule["filters"].append(mirror)
    return live


@needs_jq
def test_a_split_rule_is_no_difference() -> None:
    assert without_ignored(split(http_route())) == without_ignored(http_route())


@needs_jq
def test_every_other_difference_of_an_http_route_is_still_one() -> None:
    edited = split(http_route())
    edited["spec"]["rules"][0]["backendRefs"][0]["name"] = "v9"
    assert without_ignored(edited) != without_ignored(http_route())

    edited = split(http_route())
    edited["spec"]["rules"][1]["filters"][0]["requestHeaderModifier"]["remove"] = []
    assert without_ignored(edited) != without_ignored(http_route())
