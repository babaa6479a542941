"""The EnvoyFilter that is built, and what becomes of it in an API server that others write to."""

from __future__ import annotations

import asyncio
import copy
import re
from dataclasses import replace
from typing import Any, cast

import pytest

from modelexperiment.adapters.envoy_filter import (
    ATTEMPTS,
    GATEWAY,
    SIDECAR,
    EnvoyFilters,
    Place,
    build,
    hash_policy,
    name_of,
    says,
)
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.manifest import Experiment
from modelexperiment.ports import ConflictError
from tests.core.builders import experiment

EXPERIMENT = replace(experiment(assignment={"header": "x-user-id", "salt": "s/1"}), uid="u-1")
PLACES = {
    Place(GATEWAY, 80, "*:80", "predict"),
    Place(SIDECAR, 8080, "fraud.fraud.svc.cluster.local:8080", "predict.batch"),
}


def test_each_patch_names_port_virtual_host_and_route() -> None:
    found = build(EXPERIMENT, "fraud", PLACES)

    one, other = (patch["match"] for patch in found["spec"]["configPatches"])
    assert one == {
        "context": "GATEWAY",
        "routeConfiguration": {
            "portNumber": 80,
            "vhost": {"name": "*:80", "route": {"name": "predict"}},
        },
    }
    assert other["context"] == "SIDECAR_OUTBOUND"
    assert found["spec"]["configPatches"][0]["patch"] == {
        "operation": "MERGE",
        "value": {
            "route": {
                "hash_policy": [hash_policy(EXPERIMENT)],
                "weighted_clusters": {"use_hash_policy": True},
            }
        },
    }


def test_the_experiment_owns_it_where_an_owner_may_stand() -> None:
    near = build(EXPERIMENT, "fraud", PLACES)["metadata"]
    far = build(EXPERIMENT, "istio-system", PLACES)["metadata"]

    (owner,) = near["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ModelExperiment", "fraud-v2", "u-1")
    assert "ownerReferences" not in far
    assert far["annotations"] == {"experiments.mlops.dev/experiment": "fraud/fraud-v2"}


def test_names_are_unique_and_fit() -> None:
    spec = EXPERIMENT.spec
    one, other = Experiment("a-b", "c", spec), Experiment("a", "b-c", spec)
    long = Experiment("n" * 63, "e" * 253, spec)

    assert name_of(one) != name_of(other)
    assert len(name_of(long)) <= 253
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name_of(long))


def test_a_header_is_hashed_with_the_salt_before_it() -> None:
    policy = hash_policy(EXPERIMENT)["header"]

    assert policy["header_name"] == "x-user-id"
    assert policy["regex_rewrite"]["substitution"] == "s/1:\\1"


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("u.id=7", "7"),
        ("a=1; u.id=7; b=2", "7"),
        ("a=1;u.id=a=b", "a=b"),
        ("xu.id=1; u.id=7", "7"),
        ("a=1; b=u.id", None),
        ("uxid=1", None),
    ],
)
def test_a_cookie_is_cut_out_of_its_header(header: str, user: str | None) -> None:
    by_cookie = experiment(assignment={"cookie": "u.id", "salt": "s"})
    rewrite = hash_policy(by_cookie)["header"]["regex_rewrite"]

    found = re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], header)

    assert found == (header if user is None else f"s:{user}")


class FakeApi:
    """One EnvoyFilter; `meanwhile` happens just before each write."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None
        self.writes = 0
        self.conflicts = 0
        self.installed = True

    async def get(self, *_: str) -> dict[str, Any]:
        if self.found is None:
            raise NotFoundError("not found")
        return copy.deepcopy(self.found)

    def _write(self) -> None:
        self.writes += 1
        if not self.installed:
            raise NotFoundError("no such kind")
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("somebody else wrote")

    async def create(self, *where: Any) -> None:
        self._write()
        self.found = copy.deepcopy(where[-1])
        self.found["metadata"]["resourceVersion"] = "1"

    async def json_patch(self, *where: Any) -> None:
        self._write()
        assert self.found is not None
        for operation in where[-1]:
            *parents, last = operation["path"].strip("/").split("/")
            node: Any = self.found
            for name in parents:
                node = node[name]
            if operation["op"] == "test":
                assert node[last] == operation["value"]
            else:
                node[last] = operation["value"]

    async def delete(self, *_: str) -> None:
        if self.found is None:
            raise NotFoundError("not found")
        self.found = None


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def put(api: FakeApi, of: Experiment = EXPERIMENT, *, copies: bool = False) -> Any:
    return asyncio.run(EnvoyFilters(cast(Api, api)).put(of, PLACES, copies=copies))


def test_it_is_made_once_and_put_right_where_somebody_changed_it(api: FakeApi) -> None:
    assert put(api) is None
    assert put(api) is None
    assert api.writes == 1
    assert api.found is not None
    api.found["metadata"]["labels"]["team"] = "risk"
    assert put(api) is None
    assert api.writes == 1

    api.found["spec"]["configPatches"].pop()
    api.found["metadata"]["annotations"] = {}
    assert put(api) is None
    assert api.writes == 2
    assert says(api.found, build(EXPERIMENT, "fraud", PLACES))
    assert api.found["metadata"]["labels"]["team"] == "risk"


def test_a_conflict_is_tried_again_and_not_for_ever(api: FakeApi) -> None:
    api.conflicts = 2
    assert put(api) is None
    api.found, api.conflicts = None, 99

    found = put(api)

    assert (found.reason, found.bad_input) == ("WriteConflict", False)
    assert api.writes == 3 + ATTEMPTS


def test_a_cluster_without_envoy_filters_is_said(api: FakeApi) -> None:
    api.installed = False

    assert put(api).reason == "NoEnvoyFilters"


def test_removing_what_is_not_there_is_fine(api: FakeApi) -> None:
    put(api)
    for _ in range(2):
        asyncio.run(EnvoyFilters(cast(Api, api)).remove(EXPERIMENT))

    assert api.found is None
    assert EnvoyFilters(cast(Api, api), "istio-system").where(EXPERIMENT) == "istio-system"


SHADOWED = replace(
    experiment(assignment={"header": "x-user-id", "salt": "s/1"}, shadow={"modelVersion": "v3"}),
    uid="u-1",
)


def test_a_copy_goes_where_the_entry_says_and_is_stamped_as_the_shadows() -> None:
    found = build(SHADOWED, "fraud", PLACES, copies=True)

    for patch in found["spec"]["configPatches"]:
        (policy,) = patch["patch"]["value"]["route"]["request_mirror_policies"]
        assert policy["cluster_header"] == "x-mirror-to"
        taken, stamp = policy["request_headers_mutations"]
        assert taken == {"remove": "x-mirror-to"}
        assert stamp["append"]["header"] == {"key": "x-model-version", "value": "v3"}
    assert "request_mirror_policies" not in str(build(SHADOWED, "fraud", PLACES))


def test_copies_end_and_users_are_kept_all_the_same(api: FakeApi) -> None:
    put(api, SHADOWED, copies=True)
    put(api, SHADOWED)

    assert api.writes == 2
    assert api.found is not None
    assert says(api.found, build(SHADOWED, "fraud", PLACES))
