"""`modelexperiment assign` and the segment table say beforehand what Envoy does."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster import Cluster, Gateway
from localcluster.manifests import istio_gateway, model_service
from modelexperiment.cli import main
from modelexperiment.core.allocation import SegmentTable, moved
from modelexperiment.core.assignment import user_slots
from tests.e2e.lab import eventually
from tests.e2e.servers import ModelServer

pytestmark = pytest.mark.e2e

VERSIONS = ("v1", "v2", "v3")
SALT = "fraud/fraud-v2"
FIRST = {"v1": 80.0, "v2": 10.0, "v3": 10.0}
RAMP = {"v1": 60.0, "v2": 20.0, "v3": 20.0}
USERS = [f"customer-{i}" for i in range(1_000)]
BUCKET, STEP = "x-experiment-bucket", "x-step"
Found = dict[str, tuple[str, int]]
"""(version, hash bucket) of each user."""


class StickyRoute:
    """A sticky VirtualService of three versions behind an Envoy of its own."""

    def __init__(self, cluster: Cluster, namespace: str, gateway: Gateway) -> None:
        self._cluster, self._namespace, self._gateway = cluster, namespace, gateway
        self._step = 0

    def take(self, table: SegmentTable) -> None:
        """Write a table as the route's destinations, and wait until Envoy has it."""
        self._step += 1
        self._cluster.apply(self._virtual_service(table))
        eventually(lambda: self._answer("somebody")[2] == str(self._step), "Envoy has the table")

    def ask(self, users: list[str]) -> Found:
        """Send a request for each user."""
        found = {}
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=10)
        for user in users:
            # White space around the header's value is no part of the user.
            connection.request("GET", "/predict", headers={"x-user-id": f" {user}\t "})
            answer = connection.getresponse()
            found[user] = (answer.read().decode(), int(str(answer.getheader(BUCKET))))
        connection.close()
        return found

    def _answer(self, user: str) -> tuple[str, str | None, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=10)
        try:
            connection.request("GET", "/predict", headers={"x-user-id": user})
            answer = connection.getresponse()
            return answer.read().decode(), answer.getheader(BUCKET), answer.getheader(STEP)
        except OSError as error:
            return str(error), None, None
        finally:
            connection.close()

    def _virtual_service(self, table: SegmentTable) -> dict[str, Any]:
        destinations = [
            {
                "destination": {"host": "fraud", "subset": segment.model_version},
                "weight": segment.slots,
                "headers": {"response": {"set": {BUCKET: str(segment.bucket)}}},
            }
            for segment in table.segments
        ]
        route = {
            "name": "predict",
            "route": destinations,
            "headers": {"response": {"set": {STEP: str(self._step)}}},
        }
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "fraud", "namespace": self._namespace},
            "spec": {"hosts": ["*"], "gateways": ["edge"], "http": [route]},
        }


def sticky(namespace: str) -> dict[str, Any]:
    """The EnvoyFilter that makes the route choose by the salted header."""
    rewrite = {"pattern": {"regex": "^(.*)$"}, "substitution": f"{SALT}:\\1"}
    header = {"header_name": "x-user-id", "regex_rewrite": rewrite}
    patch = {"hash_policy": [{"header": header}], "weighted_clusters": {"use_hash_policy": True}}
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "sticky", "namespace": namespace},
        "spec": {
            "configPatches": [
                {
                    "applyTo": "HTTP_ROUTE",
                    "match": {"routeConfiguration": {"vhost": {"route": {"name": "predict"}}}},
                    "patch": {"operation": "MERGE", "value": {"route": patch}},
                }
            ]
        },
    }


@pytest.fixture
def route(cluster: Cluster) -> Iterator[StickyRoute]:
    """A route of its own, in a namespace of its own."""
    namespace = f"assign-{uuid.uuid4().hex[:8]}"
    servers = {version: ModelServer(version) for version in VERSIONS}
    cluster.kubectl("create", "namespace", namespace)
    gateway = cluster.gateway("edge", namespace, {"gateway": namespace})
    ports = {version: server.port for version, server in servers.items()}
    cluster.apply(
        *model_service(namespace, f"fraud.{namespace}.svc.cluster.local", ports),
        istio_gateway(namespace, "edge", gateway),
        sticky(namespace),
    )
    yield StickyRoute(cluster, namespace, gateway)
    gateway.stop()
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    for server in servers.values():
        server.stop()


def commanded(path: Path, capsys: pytest.CaptureFixture[str]) -> Found:
    """What `modelexperiment assign` prints for the first split."""
    document = {
        "apiVersion": "experiments.mlops.dev/v1alpha1",
        "kind": "ModelExperiment",
        "metadata": {"name": "fraud-v2", "namespace": "fraud"},
        "spec": {
            "traffic": [{"modelVersion": v, "percent": share} for v, share in FIRST.items()],
            "route": {"istio": {"virtualService": "fraud", "host": "fraud"}},
            "assignment": {"header": "x-user-id"},
            "metrics": [
                {
                    "name": "accuracy",
                    "role": "Primary",
                    "proportion": {"successes": "right_total", "trials": "all_total"},
                }
            ],
        },
    }
    path.write_text(json.dumps(document))
    assert main(["assign", "-f", str(path), "-o", "json", "--wide", *USERS]) == 0
    found = json.loads(capsys.readouterr().out)
    return {one["user"]: (one["modelVersion"], one["hashBucket"]) for one in found}


def predicted(table: SegmentTable) -> Found:
    slots = user_slots([user.encode() for user in USERS], SALT, table.total)
    versions, buckets = table.versions_of(slots).tolist(), table.buckets_of(slots).tolist()
    return dict(zip(USERS, zip(versions, buckets, strict=True), strict=True))


def test_envoy_does_to_every_user_what_was_predicted(
    route: StickyRoute, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = SegmentTable.initial(FIRST, "v1", 64)
    route.take(first)
    before = route.ask(USERS)
    assert before == commanded(tmp_path / "exp.json", capsys)
    assert {version for version, _ in before.values()} == set(VERSIONS)
    assert len({bucket for _, bucket in before.values()}) == 64

    ramped = first.moved_to(RAMP)
    route.take(ramped)
    after = route.ask(USERS)
    assert after == predicted(ramped)
    movers = [user for user in USERS if before[user] != after[user]]
    assert {before[user][0] for user in movers} == {"v1"}
    assert all(before[user][1] == after[user][1] for user in USERS)
    # A fifth of all must move; five binomial standard deviations of 1,000 users around that.
    assert sum(moved(first, ramped).values()) == 20.0
    assert abs(len(movers) - 200) < 5 * (1_000 * 0.2 * 0.8) ** 0.5

    rolled_back = ramped.everything_to("v1")
    route.take(rolled_back)
    assert route.ask(USERS) == predicted(rolled_back)
    route.take(ramped)
    assert route.ask(USERS) == after
