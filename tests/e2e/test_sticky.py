"""A user stays on one version: in Envoy, as predicted, through ramps, rollbacks and restarts."""

from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from localcluster import Cluster
from localcluster.manifests import istio_gateway
from modelexperiment.adapters import kubernetes
from modelexperiment.adapters.istio import IstioRouter
from modelexperiment.cli import main
from modelexperiment.core.allocation import SegmentTable, moved
from modelexperiment.core.manifest import Experiment, parse_experiment
from modelexperiment.core.routing import Routing
from modelexperiment.core.users import UserTable
from tests.e2e import chart
from tests.e2e.lab import HOST, Lab, Manifest, OperatorProcess, Traffic, eventually
from tests.e2e.users import Found, ask, keyed, predicted, table, users, z_scores

pytestmark = pytest.mark.e2e

BY_USER = {"header": "x-user-id"}
# Shares are within three standard deviations for this draw; of all draws, one in 370 is not.
SALTED = {**BY_USER, "salt": "fraud/fraud-v2"}
# A write takes as long as the list is.
FEWER = 32
MANY, SOME = users(10_000), users(2_000)


def traffic(**percents: float) -> list[dict[str, Any]]:
    return [{"modelVersion": version, "percent": share} for version, share in percents.items()]


def sticky(lab: Lab, name: str = "fraud-v2", **spec: Any) -> Manifest:
    """An experiment that keeps users; they are no unit here, so that nothing waits for buckets."""
    # Nor may a verdict end it, which thousands of requests may well reach.
    analysis = {"interval": "1s", "unit": "Request", "minDuration": "1h"}
    return lab.experiment(name, **{"assignment": BY_USER, "analysis": analysis, **spec})


def split_to(lab: Lab, manifest: Manifest, **percents: float) -> Found:
    """Change the split, wait until Envoy has it, and give what users are predicted to get."""
    manifest["spec"]["traffic"] = traffic(**percents)
    lab.apply(manifest)
    wait_for(lab, **percents)
    # The status is written after the route.
    wanted = {version: share for version, share in percents.items() if share}
    eventually(lambda: table(lab).table.split == wanted, f"the table of {wanted} in the status")
    return predicted(table(lab), SOME)


def wait_for(lab: Lab, **percents: float) -> None:
    buckets = table_buckets(lab)
    weights = {v: round(share * 100) * buckets for v, share in percents.items() if share}
    eventually(
        lambda: lab.gateway.route_weights("predict") == weights and keyed(lab.gateway),
        f"Envoy has {weights}",
    )


def table_buckets(lab: Lab) -> int:
    shown = eventually(lambda: lab.status().get("assignment"), "the status has the table")
    return max(1, int(shown["buckets"]))


def movers(before: Found, after: Found) -> set[str]:
    assert {user: got.bucket for user, got in before.items()} == {
        user: got.bucket for user, got in after.items()
    }
    return {user for user in before if before[user].version != after[user].version}


def test_ten_thousand_users_three_times(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.apply(sticky(lab, assignment=SALTED))
    lab.wait_phase("Running")
    wait_for(lab, v1=90, v2=10)
    for server in lab.servers.values():
        server.stamped.clear()

    asked = [ask(lab, MANY) for _ in range(3)]

    expected = predicted(table(lab), MANY)
    wrong = [sum(found[user] != expected[user] for user in MANY) for found in asked]
    scores = z_scores(asked[0], {"v1": 90, "v2": 10})
    with capsys.disabled():
        print(f"\n30,000 requests of 10,000 users: not as predicted {wrong}; z {scores}")
    assert wrong == [0, 0, 0]
    assert max(map(abs, scores.values())) < 3
    for version, server in lab.servers.items():
        # The application sees the same stamps, whatever the caller claimed.
        assert {stamped for stamped, _ in server.stamped} == {version}
        assert {bucket for _, bucket in server.stamped} == {str(b) for b in range(64)}

    commanded(lab, expected, capsys)
    assert lab.condition("RoutesReady")["reason"] == "StickyUnproven"
    assert not keyed(lab.gateway, "admin")


def commanded(lab: Lab, expected: Found, capsys: pytest.CaptureFixture[str]) -> None:
    """`modelexperiment assign --live` prints the same."""
    where = ("-n", lab.namespace, "--kubeconfig", str(lab.cluster.kubeconfig))
    assert main(["assign", "--live", "fraud-v2", *where, "-o", "json", "--wide", *SOME]) == 0
    found = {u["user"]: u for u in json.loads(capsys.readouterr().out)}
    assert {user: (u["modelVersion"], u["hashBucket"]) for user, u in found.items()} == {
        user: expected[user] for user in SOME
    }


def test_every_ramp_moves_the_predicted_users_and_nobody_else(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sticky(lab, assignment=SALTED)
    lab.apply(manifest)
    lab.wait_phase("Running")
    wait_for(lab, v1=90, v2=10)
    before, shown = ask(lab, SOME), table(lab)
    told = []
    for share in (25.0, 50.0, 100.0, 30.0, 5.0, 10.0):
        expected = split_to(lab, manifest, v1=100 - share, v2=share)
        found, now = ask(lab, SOME), table(lab)
        assert found == expected
        must = sum(moved(shown.table, now.table).values())
        gone = movers(before, found)
        told.append(f"to {share:g}: {100 * len(gone) / len(SOME):.1f} % (least {must:g} %)")
        sides = {(before[user].version, found[user].version) for user in gone}
        assert len(sides) == 1
        if share < 100:
            scores = z_scores(found, {"v1": 100 - share, "v2": share})
            assert max(map(abs, scores.values())) < 3, scores
        before, shown = found, now
    with capsys.disabled():
        print(f"\nmoved: {'; '.join(told)}")


@pytest.fixture
def three(cluster: Cluster, operator: OperatorProcess) -> Iterator[Lab]:
    """A namespace with three versions, of which the last one is the champion."""
    made = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {"v3": 0.6, "v1": 0.6, "v2": 0.6})
    yield made
    made.close()


def test_three_versions_ramp_roll_back_and_come_back(three: Lab) -> None:
    lab = three
    manifest = sticky(
        lab,
        champion="v3",
        traffic=traffic(v1=10, v2=10, v3=80),
        guardrails=[lab.error_guardrail()],
        assignment=SALTED,
    )
    lab.apply(manifest)
    with Traffic(lab, 50):
        lab.wait_phase("Running")
    wait_for(lab, v1=10, v2=10, v3=80)
    ramped = ask(lab, SOME)
    assert ramped == predicted(table(lab), SOME)
    for split, share in (
        ({"v1": 20, "v2": 20, "v3": 60}, 0.2),
        ({"v1": 20, "v2": 30, "v3": 50}, 0.1),
    ):
        first, expected = ramped, split_to(lab, manifest, **split)
        ramped = ask(lab, SOME)
        assert ramped == expected
        gone = movers(first, ramped)
        assert {first[user].version for user in gone} == {"v3"}
        assert abs(len(gone) - share * len(SOME)) < 5 * (len(SOME) * share * (1 - share)) ** 0.5
        scores = z_scores(ramped, split)
        assert max(map(abs, scores.values())) < 3, scores

    lab.servers["v2"].failing = 1.0
    with Traffic(lab, 50):
        lab.wait_phase("RolledBack")
    wait_for(lab, v3=100)
    lab.servers["v2"].failing = 0.0
    back = ask(lab, SOME)
    assert {got.version for got in back.values()} == {"v3"}
    movers(ramped, back)

    # The guardrail looks back five seconds, and would break again at once.
    time.sleep(7)
    # What was edited before the rollback is no reason to start again.
    assert [reason for reason, _ in lab.events()].count("Started") == 1
    assert lab.status()["phase"] == "RolledBack"
    manifest["spec"]["analysis"] = {**manifest["spec"]["analysis"], "maxDuration": "13d"}
    lab.apply(manifest)
    with Traffic(lab, 50):
        lab.wait_phase("Running", timeout=60)
    wait_for(lab, v1=20, v2=30, v3=50)
    assert ask(lab, SOME) == ramped


def test_two_experiments_draw_independently_and_one_may_go_by_cookie(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    half = traffic(v1=50, v2=50)
    other = {"istio": {"virtualService": HOST, "httpRoute": "admin", "host": HOST}}
    cookie = {"cookie": "session.id", "buckets": 0}
    lab.apply(sticky(lab, traffic=half))
    lab.apply(sticky(lab, "admin", traffic=half, route=other, assignment=cookie))
    lab.wait_phase("Running")
    lab.wait_phase("Running", "admin")
    eventually(lambda: keyed(lab.gateway) and keyed(lab.gateway, "admin"), "Envoy has both filters")
    assert len(lab.gateway.route_segments("admin")) == 2

    one, two = ask(lab, SOME), ask(lab, SOME, "/admin", "session.id")

    assert one == predicted(table(lab), SOME)
    assert {u: got.version for u, got in two.items()} == {
        u: got.version for u, got in predicted(table(lab, "admin"), SOME).items()
    }
    counts = np.zeros((2, 2))
    for user in SOME:
        # As numbers: NumPy takes booleans for masks.
        counts[int(one[user].version == "v2"), int(two[user].version == "v2")] += 1
    assert counts.sum() == len(SOME)
    p = float(chi2_contingency(counts, correction=False).pvalue)
    with capsys.disabled():
        print(f"\ntwo salts: chi-square p = {p:.3f}")
    assert p > 0.001


def test_the_filter_is_put_right_and_goes_with_the_experiment(lab: Lab) -> None:
    before = lab.fetch("virtualservice", HOST)["spec"]
    lab.apply(sticky(lab))
    lab.wait_phase("Running")
    wait_for(lab, v1=90, v2=10)
    (name,) = filters(lab)
    owner = lab.fetch("envoyfilter", name)["metadata"]["ownerReferences"]
    assert [o["name"] for o in owner] == ["fraud-v2"]

    lab.cluster.kubectl("delete", "envoyfilter", name, "-n", lab.namespace)
    eventually(lambda: filters(lab) == [name], "the filter is back", timeout=10)
    nothing = '{"spec": {"configPatches": []}}'
    patch = ("patch", "envoyfilter", name, "-n", lab.namespace, "--type=merge", "-p", nothing)
    lab.cluster.kubectl(*patch)
    eventually(
        lambda: lab.fetch("envoyfilter", name)["spec"].get("configPatches"),
        "the filter says again what it should",
        timeout=10,
    )
    wait_for(lab, v1=90, v2=10)
    found = ask(lab, SOME[:200])
    assert found == predicted(table(lab), SOME[:200])

    lab.delete_experiments()
    assert filters(lab) == []
    assert lab.fetch("virtualservice", HOST)["spec"] == before
    eventually(lambda: lab.gateway.route_weights("predict") == {"v1": 100}, "Envoy is back too")
    assert lab.get()[0] == 200


def filters(lab: Lab) -> list[str]:
    found = lab.cluster.kubectl("get", "envoyfilter", "-n", lab.namespace, "-o", "name")
    return [name.partition("/")[2] for name in found.split()]


def test_assignment_may_come_and_go_while_the_experiment_runs(lab: Lab) -> None:
    lab.apply(lab.experiment())
    lab.wait_phase("Running")
    manifest = sticky(lab)
    lab.apply(manifest)
    wait_for(lab, v1=90, v2=10)
    assert ask(lab, SOME[:200]) == predicted(table(lab), SOME[:200])

    manifest["spec"]["assignment"] = {**BY_USER, "salt": "another"}
    lab.apply(manifest)
    eventually(lambda: table(lab).salt == "another", "another draw")
    expected = predicted(table(lab), SOME[:200])
    eventually(lambda: ask(lab, SOME[:200]) == expected, "Envoy draws anew")
    assert [reason for reason, _ in lab.events()].count("SplitChanged") == 2

    del manifest["spec"]["assignment"]
    lab.apply(manifest)
    eventually(lambda: filters(lab) == [] and not keyed(lab.gateway), "routed at random again")
    assert lab.destinations() == [("v1", 90), ("v2", 10)]
    assert "assignment" not in lab.status()


def pending(lab: Lab, reason: str) -> str:
    """Wait until the experiment is refused for a reason; gives the message."""
    found = eventually(
        lambda: (c := lab.condition("RoutesReady")).get("reason") == reason and c, reason
    )
    assert lab.status()["phase"] == "Pending"
    assert filters(lab) == []
    return str(found["message"])


def test_what_can_not_be_kept_is_said_and_nothing_is_written(lab: Lab) -> None:
    before = lab.destinations()
    service = lab.virtual_service()
    service["spec"]["http"][0]["name"] = "predict.batch"
    service["spec"]["http"][1]["match"] = [{"name": "batch", "uri": {"prefix": "/"}}]
    lab.cluster.apply(service)
    lab.apply(sticky(lab))
    assert "predict.batch" in pending(lab, "RouteNameCollision")

    rule = {"trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}}
    change(lab, "destinationrule", rule)
    assert "consistentHash" in pending(lab, "ConsistentHash")
    change(lab, "destinationrule", {"trafficPolicy": {"loadBalancer": None}})

    service = lab.virtual_service()
    service["spec"]["gateways"] = ["edge", "mesh"]
    service["spec"]["hosts"] = [HOST]
    lab.cluster.apply(service)
    lab.cluster.kubectl("label", "namespace", lab.namespace, "istio.io/use-waypoint=waypoint")
    assert "waypoint" in pending(lab, "AmbientMesh")
    lab.cluster.kubectl("label", "namespace", lab.namespace, "istio.io/use-waypoint-")

    assert "spec.route.istio.port" in pending(lab, "PortUnknown")
    assert lab.destinations() == before
    lab.cluster.apply(lab.virtual_service())
    lab.wait_phase("Running")


def change(lab: Lab, kind: str, spec: Manifest) -> None:
    patch = json.dumps({"spec": spec})
    lab.cluster.kubectl("patch", kind, HOST, "-n", lab.namespace, "--type=merge", "-p", patch)


class Front(socketserver.ThreadingTCPServer):
    """A port that leads to an Envoy, where the operator may ask."""

    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", chart.PROBE_PORT), Pump)
        self.port = port
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Pump(socketserver.BaseRequestHandler):
    """One connection, there and back."""

    server: Front

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as envoy:
            back = threading.Thread(target=self._pass, args=(envoy, self.request))
            back.start()
            self._pass(self.request, envoy)
            back.join()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def front(lab: Lab) -> Iterator[Front]:
    """Leads to the lab's Envoy, unless told otherwise."""
    made = Front(lab.gateway.port)
    yield made
    made.stop()


def test_a_probe_proves_it_and_tells_where_a_proxy_does_not_follow(
    lab: Lab, cluster: Cluster, front: Front
) -> None:
    """An Envoy of another namespace has the route and not the filter."""
    far = cluster.gateway("far", f"{lab.namespace}-far", {"gateway": f"{lab.namespace}-far"})
    cluster.apply(istio_gateway(lab.namespace, "far", far))
    change(lab, "virtualservice", {"gateways": ["edge", "far"]})
    front.port = far.port
    probe = {"url": f"{chart.PROBE}/predict"}
    manifest = sticky(lab, assignment={**BY_USER, "probe": probe})
    lab.apply(manifest)
    lab.wait_phase("Running")
    wait_for(lab, v1=90, v2=10)

    def reason() -> str:
        return str(lab.condition("RoutesReady").get("reason"))

    eventually(lambda: reason() == "NotAsPredicted", "the far proxy does not follow")
    assert "of 20 users" in lab.condition("RoutesReady")["message"]
    front.port = lab.gateway.port
    eventually(lambda: reason() == "Sticky", "the near one does")

    # A proof holds for minutes, and is then asked for again though the route is the same.
    front.port = far.port
    long_ago = {"status": {"memory": {"provenAt": "2026-01-01T00:00:00Z"}}}
    where = ("mexp", "fraud-v2", "-n", lab.namespace, "--subresource=status")
    lab.cluster.kubectl("patch", *where, "--type=merge", "-p", json.dumps(long_ago))
    eventually(lambda: reason() == "NotAsPredicted", "the proxy is seen to follow no more")
    front.port = lab.gateway.port
    eventually(lambda: reason() == "Sticky", "it follows again")

    served = sum(server.served for server in lab.servers.values())
    manifest["spec"]["assignment"]["probe"]["url"] = "http://127.0.0.1:1/elsewhere"
    manifest["spec"]["traffic"] = traffic(v1=80, v2=20)
    lab.apply(manifest)
    eventually(
        lambda: "PROBE_ALLOWED_URLS" in lab.condition("RoutesReady").get("message", ""),
        "that address is not asked",
    )
    assert reason() == "StickyUnproven"
    assert sum(server.served for server in lab.servers.values()) == served
    far.stop()


def test_two_hundred_changes_under_load_and_not_one_bad_answer(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator's own router, without the polls between two changes.

    The experiment waits for a guardrail's first number, so the operator leaves the route alone.
    """
    fewer = {**BY_USER, "buckets": FEWER}
    guardrail = {"name": "none", "query": "nothing", "max": 1}
    lab.apply(sticky(lab, assignment=fewer, guardrails=[guardrail]))
    eventually(lambda: lab.condition("MetricsReady").get("reason") == "NoData", "it waits", 90)
    experiment = parse_experiment(lab.fetch("mexp", "fraud-v2"))
    with Traffic(lab, 100) as load:
        asyncio.run(change_splits(experiment, 200, lab.cluster.kubeconfig))
        eventually(lambda: lab.gateway.route_weights("predict")["v2"] == 89 * FEWER * 100, "Envoy")
    with capsys.disabled():
        print(f"\n200 changes under load: {sum(load.answers.values())} answers, {load.answers}")
    assert set(load.answers) == {"v1", "v2"}
    assert ask(lab, SOME[:500]) == last_table(experiment)
    lab.delete_experiments()
    # Nothing but the owner's end deletes it here.
    eventually(lambda: filters(lab) == [], "the cluster has collected the filter")


async def change_splits(experiment: Experiment, times: int, kubeconfig: Path) -> None:
    """Write one split after the other, from 10 up to 89 percent and again."""
    connection = await kubernetes.connect(file=str(kubeconfig))
    try:
        router = IstioRouter(kubernetes.Api(connection))
        table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", FEWER)
        for number in range(times):
            split = split_at(number, times)
            table = table.moved_to(split)
            assert await router.apply(experiment, Routing(split, table)) is None
    finally:
        await connection.close()  # type: ignore[no-untyped-call]


def split_at(number: int, times: int) -> dict[str, float]:
    share = float(10 + (number + 80 - times) % 80)
    return {"v1": 100 - share, "v2": share}


def last_table(experiment: Experiment) -> Found:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", FEWER)
    for number in range(200):
        table = table.moved_to(split_at(number, 200))
    return predicted(UserTable.of(experiment, table), SOME[:500])
