"""The route's owner goes on applying it: the split is put right, all else is as applied."""

from __future__ import annotations

import copy
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client, config

from tests.docs.test_gitops import without_ignored
from tests.e2e.lab import HOST, Lab, Manifest, Traffic, eventually
from tests.e2e.test_routing import without_split

pytestmark = pytest.mark.e2e

# So that no poll comes by chance: what puts the route right is that the edit is seen.
SELDOM = {"interval": "10m"}


def in_git(lab: Lab) -> Manifest:
    """The VirtualService in its owner's repository, with fields of all sorts."""
    manifest = lab.virtual_service()
    manifest["metadata"]["labels"] = {"team.example/tier": "1"}
    manifest["spec"]["exportTo"] = ["."]
    elsewhere = {"destination": {"host": HOST, "port": {"number": 80}}}
    manifest["spec"]["tcp"] = [{"match": [{"port": 9999}], "route": [elsewhere]}]
    manifest["spec"]["http"].append(
        {
            "name": "last",
            "match": [{"headers": {"x-debug": {"exact": "1"}}}],
            "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 0.5}}},
            "directResponse": {"status": 204},
        }
    )
    return manifest


def started(lab: Lab, **percents: float) -> Manifest:
    """An experiment that splits the route."""
    manifest = lab.experiment(analysis=SELDOM)
    manifest["spec"]["traffic"] = [{"modelVersion": v, "percent": p} for v, p in percents.items()]
    lab.apply(manifest)
    lab.wait_phase("Running", timeout=60)
    lab.gateway.wait_for_weights("predict", {v: round(p) for v, p in percents.items()}, 30)
    return manifest


def applied(lab: Lab, manifest: Manifest, *flags: str) -> Manifest:
    """`kubectl apply`; gives the object as the API server took it."""
    text = json.dumps(manifest)
    return dict(json.loads(lab.cluster.kubectl("apply", *flags, "-o", "json", "-f-", input=text)))


def subsets(virtual_service: Manifest) -> list[tuple[str, int]]:
    route = virtual_service["spec"]["http"][1]["route"]
    return [(d["destination"]["subset"], d.get("weight", 0)) for d in route]


SERVER_SIDE = ("--server-side", "--field-manager=gitops", "--force-conflicts")


def test_the_original_manifest_is_applied_again_in_a_ramp(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    git = in_git(lab)
    applied(lab, git)
    original = lab.fetch("virtualservice", HOST)
    with Traffic(lab, 50):
        started(lab, v1=90, v2=10)
        assert without_split(lab.fetch("virtualservice", HOST)) == without_split(original)
        started(lab, v1=60, v2=40)
        took = {}
        for name, flags in (("client-side", ()), ("server-side", SERVER_SIDE)):
            # The owner changes something else with it.
            git["spec"]["http"][1]["timeout"] = "9s" if flags else "8s"
            git["metadata"]["annotations"]["team.example/how"] = name
            taken = applied(lab, git, *flags)
            since = time.monotonic()
            assert subsets(taken) == [("v1", 0)], "it was overwritten"
            eventually(lambda: lab.destinations() == [("v1", 60), ("v2", 40)], "the split", 5)
            lab.gateway.wait_for_weights("predict", {"v1": 60, "v2": 40}, 5)
            took[name] = time.monotonic() - since
            assert without_split(lab.fetch("virtualservice", HOST)) == without_split(taken)
        with capsys.disabled():
            print(f"\nput right in Envoy after {took} s")
        assert max(took.values()) < 5
    eventually(lambda: "RouteCorrected" in dict(lab.events()), "an Event that says so", 5)
    ignored(lab, git)
    left_out(lab, git)
    lab.delete_experiments()
    assert lab.destinations() == [("v1", 0)]


def ignored(lab: Lab, git: Manifest) -> None:
    """What Argo CD is told to ignore is all that differs."""
    if shutil.which("jq") is None:
        return
    live = lab.fetch("virtualservice", HOST)
    assert live["spec"] != git["spec"]
    assert without_ignored(live)["spec"] == without_ignored(git)["spec"]
    edited = copy.deepcopy(live)
    edited["spec"]["http"][0]["route"][0]["destination"]["subset"] = "v2"
    assert without_ignored(edited)["spec"] != without_ignored(git)["spec"]


def left_out(lab: Lab, git: Manifest) -> None:
    """A manager that leaves the list out does not take it away: it is the operator's by now."""
    rest = copy.deepcopy(git)
    del rest["spec"]["http"]
    taken = applied(lab, rest, *SERVER_SIDE)
    assert subsets(taken) == [("v1", 60), ("v2", 40)]


def objects(lab: Lab) -> tuple[client.CustomObjectsApi, tuple[str, ...]]:
    """A client of the API server, and where the VirtualService is."""
    api = config.new_client_from_config(str(lab.cluster.kubeconfig))
    where = ("networking.istio.io", "v1", lab.namespace, "virtualservices", HOST)
    return client.CustomObjectsApi(api), where


@contextmanager
def busy(edit: Callable[[int], list[dict[str, Any]]], lab: Lab) -> Iterator[list[int]]:
    """Somebody who patches the VirtualService all the time; gives the numbers of the edits."""
    done: list[int] = []
    stop = threading.Event()

    def work() -> None:
        api, where = objects(lab)
        while not stop.wait(0.03):
            patch = edit(len(done))
            api.patch_namespaced_custom_object(
                *where, patch, _content_type="application/json-patch+json", _request_timeout=10
            )
            done.append(len(done))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def refused(lab: Lab) -> int:
    """How many patches of VirtualServices the API server has refused because a test failed."""
    pattern = r'^apiserver_request_total\{.*code="422".*resource="virtualservices".*\} (\d+)$'
    metrics = lab.cluster.kubectl("get", "--raw", "/metrics")
    return sum(int(number) for number in re.findall(pattern, metrics, re.MULTILINE))


def test_a_conflict_is_retried_with_fresh_data(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody moves the split route up and down, and edits its weights, all the time."""
    extra: Manifest = {"name": "extra", "match": [{"uri": {"exact": "/x"}}]}
    extra["directResponse"] = {"status": 204}

    def edit(number: int) -> list[dict[str, Any]]:
        there = number % 2
        move = {"op": "remove"} if there else {"op": "add", "value": extra}
        weight = {"op": "replace", "path": f"/spec/http/{2 - there}/route/0/weight", "value": 7}
        counted = {"op": "add", "path": "/metadata/annotations/edits", "value": str(number)}
        return [{**move, "path": "/spec/http/0"}, weight, counted]

    with Traffic(lab, 50):
        started(lab, v1=90, v2=10)
        before, since = refused(lab), time.monotonic()
        with busy(edit, lab) as done:
            for share in (20, 30, 40, 50):
                manifest = lab.experiment(analysis=SELDOM)
                for arm, percent in zip(
                    manifest["spec"]["traffic"], (100 - share, share), strict=True
                ):
                    arm["percent"] = percent
                lab.apply(manifest)
                time.sleep(1.5)
        seconds = time.monotonic() - since
        lab.gateway.wait_for_weights("predict", {"v1": 50, "v2": 50}, 30)
        conflicts = refused(lab) - before
    rate = f"{len(done) / seconds:.0f} a second"
    with capsys.disabled():
        print(f"\n{len(done)} edits in {seconds:.1f} s ({rate}), {conflicts} patches refused")
    assert conflicts > 0
    found = lab.fetch("virtualservice", HOST)
    names = [http["name"] for http in found["spec"]["http"]]
    assert names == (["extra"] if len(done) % 2 else []) + ["admin", "predict"]
    assert found["metadata"]["annotations"]["edits"] == str(done[-1])
    split, admin = found["spec"]["http"][-1]["route"], found["spec"]["http"][-2]["route"]
    assert [(d["destination"]["subset"], d["weight"]) for d in split] == [("v1", 50), ("v2", 50)]
    assert [d["destination"]["subset"] for d in admin] == ["v1"]
