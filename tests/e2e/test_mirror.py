"""A shadow gets its share of copies, and whatever becomes of them, no caller notices."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from localcluster import Cluster
from modelexperiment.core.assignment import user_slots
from tests.e2e.gateway_lab import GatewayLab
from tests.e2e.lab import Lab, Manifest, OperatorProcess, Traffic, eventually
from tests.e2e.servers import MIRROR_TO
from tests.e2e.users import Found, ask, keyed, predicted, table, users

pytestmark = pytest.mark.e2e
VERSIONS = {"v1": 0.60, "v2": 0.62, "v3": 0.62}


@pytest.fixture(params=[Lab, GatewayLab], ids=["VirtualService", "HTTPRoute"])
def lab(
    request: pytest.FixtureRequest, cluster: Cluster, operator: OperatorProcess
) -> Iterator[Lab]:
    """A namespace of its own with three versions of a model, on either kind of route."""
    made: Lab = request.param(cluster, f"lab-{uuid.uuid4().hex[:8]}", VERSIONS)
    yield made
    made.close()


def shadow(lab: Lab, percent: float) -> dict[str, Any]:
    named = {"service": lab.backend("v3")} if isinstance(lab, GatewayLab) else {}
    return {"modelVersion": "v3", "percent": percent, **named}


def seconds(lab: Lab, number: int) -> list[float]:
    """The time of each of some requests, all of which must be answered well."""
    taken = []
    for _ in range(number):
        begun = time.perf_counter()
        status, body = lab.get()
        taken.append(time.perf_counter() - begun)
        assert (status, body) in ((200, "v1"), (200, "v2"))
    return taken


def mirrors_to(lab: Lab) -> list[str]:
    """Where the route of the API server mirrors to, by its own words."""
    if isinstance(lab, GatewayLab):
        filters = lab.rule().get("filters", [])
        return [f["requestMirror"]["backendRef"]["name"] for f in filters if "requestMirror" in f]
    http = lab.fetch("virtualservice", "fraud")["spec"]["http"][1]
    return [mirror["destination"]["subset"] for mirror in http.get("mirrors", [])]


def copied(lab: Lab, number: int) -> int:
    """How many of some requests reach the shadow as well."""
    before = lab.servers["v3"].received
    answers = lab.send(number)
    assert answers["v1"] + answers["v2"] == number
    # Copies are sent on their own, and may come a moment later.
    time.sleep(0.5)
    return lab.servers["v3"].received - before


def test_a_shadow_gets_its_share_and_no_caller_notices(lab: Lab) -> None:
    kind = "httproute" if isinstance(lab, GatewayLab) else "virtualservice"
    original = lab.fetch(kind, "fraud")["spec"]
    with Traffic(lab, 50):
        lab.apply(lab.experiment(shadow=shadow(lab, 30)))
        lab.wait_phase("Running")
        lab.wait_split(v1=90, v2=10)
        eventually(
            lambda: (
                lab.condition("RoutesReady").get("message", "")
                == "routed: v1 90 / v2 10; v3 gets copies of 30 % of the requests"
            ),
            "a condition that tells of the mirror",
        )
    eventually(lambda: copied(lab, 20), "copies")
    number = copied(lab, 2_000)
    z = (number - 600) / (2_000 * 0.3 * 0.7) ** 0.5
    print(f"{kind}: {number} of 2,000 copied at 30 %, z {z:.2f}")
    assert abs(z) < 3

    # All of them are copied now, to a shadow that is slow, failing, dead.
    usual = statistics.median(seconds(lab, 100))
    lab.apply(lab.experiment(shadow=shadow(lab, 100)))
    eventually(lambda: copied(lab, 20) == 20, "all are copied")
    server = lab.servers["v3"]
    for name in ("slow", "failing", "dead"):
        server.pause, server.failing = (2.0, 0.0) if name == "slow" else (0.0, 1.0)
        if name == "dead":
            server.stop()
        before = server.received
        median = statistics.median(seconds(lab, 100))
        print(f"{kind}: {name} shadow, median {1e3 * median:.2f} ms, without {1e3 * usual:.2f} ms")
        # A caller who waits for the slow one would wait 2 s.
        assert median < usual + 0.05
        assert (server.received > before) is (name != "dead")

    assert mirrors_to(lab) == [lab.backend("v3")]
    lab.apply(lab.experiment())
    eventually(lambda: mirrors_to(lab) == [], "no mirror once the spec has none")
    lab.apply(lab.experiment(shadow=shadow(lab, 12.5)))
    eventually(lambda: mirrors_to(lab) == [lab.backend("v3")], "the mirror again")
    lab.apply(lab.experiment(shadow=shadow(lab, 12.5), stop=True))
    lab.wait_phase("Stopped")
    eventually(lambda: mirrors_to(lab) == [], "the mirror ends with the experiment")
    lab.delete_experiments()
    assert lab.fetch(kind, "fraud")["spec"] == original


WHO = users(600)


@pytest.fixture
def istio(cluster: Cluster, operator: OperatorProcess) -> Iterator[Lab]:
    """A namespace with three versions behind a VirtualService."""
    made = Lab(cluster, f"lab-{uuid.uuid4().hex[:8]}", VERSIONS)
    yield made
    made.close()


def by_user(lab: Lab, percent: float | None) -> Manifest:
    """An experiment that keeps users, and copies some users' requests to v3."""
    shadows = {"shadow": shadow(lab, percent)} if percent else {}
    analysis = {"interval": "1s", "unit": "Request"}
    return lab.experiment(assignment={"header": "x-user-id"}, analysis=analysis, **shadows)


def copied_users(lab: Lab, percent: float) -> set[str]:
    """Whose requests are to be copied by the table in the status."""
    shown = table(lab)
    segments = shown.table.mirrored(percent)
    ends = np.cumsum([segment.slots for segment in segments])
    slots = user_slots([user.encode() for user in WHO], shown.salt, shown.table.total)
    places = np.searchsorted(ends, slots, side="right")
    return {u for u, place in zip(WHO, places.tolist(), strict=True) if segments[place].copied}


def policies(lab: Lab) -> list[Any]:
    """How the route mirrors, in Envoy's own words."""
    route = (lab.gateway.route("predict") or {}).get("route", {})
    return list(route.get("request_mirror_policies", []))


def wait_copies(lab: Lab, percent: float) -> set[str]:
    """Wait until Envoy copies a share of the champion's users, and give who that is."""
    told = f"v3 gets copies of the requests of {percent:g} % of v1's users"
    marked = 64 * round(9_000 * percent / 100)
    with Traffic(lab, 50) as others:
        lab.apply(by_user(lab, percent))
        eventually(lambda: told in lab.condition("RoutesReady").get("message", ""), told)
        eventually(lambda: marked_slots(lab) == marked and policies(lab), f"copies of {percent} %")
    assert set(others.answers) == {"v1", "v2"}
    return copied_users(lab, percent)


def marked_slots(lab: Lab) -> int:
    """The weight of what Envoy marks to be copied."""
    route = (lab.gateway.route("predict") or {}).get("route", {})
    return sum(
        int(cluster["weight"])
        for cluster in route.get("weighted_clusters", {}).get("clusters", [])
        if MIRROR_TO in str(cluster.get("request_headers_to_add"))
    )


def ask_all(lab: Lab, claim: str) -> Found:
    """A request of each user, who all ask to be copied; what the servers saw is of these only."""
    for server in lab.servers.values():
        server.users.clear()
        server.stamped.clear()
    found = ask(lab, WHO, claims={MIRROR_TO: claim})
    # Copies are sent on their own, and may come a moment later.
    time.sleep(0.5)
    return found


def test_the_same_users_are_copied_each_time_and_nobody_can_ask_for_it(istio: Lab) -> None:
    lab = istio
    original = lab.fetch("virtualservice", "fraud")["spec"]
    cluster = f"outbound|80|v3|fraud.{lab.namespace}.svc.cluster.local"
    lab.apply(by_user(lab, None))
    with Traffic(lab, 50):
        lab.wait_phase("Running")
    lab.wait_split(v1=576_000, v2=64_000)
    eventually(lambda: keyed(lab.gateway), "Envoy chooses by the user")
    answers = ask_all(lab, cluster)
    assert answers == predicted(table(lab), WHO)
    assert not lab.servers["v3"].users

    before: set[str] = set()
    for percent in (30, 60):
        wanted = wait_copies(lab, percent)
        assert before < wanted
        for _ in range(2):
            assert ask_all(lab, cluster) == answers
            assert lab.servers["v3"].users == dict.fromkeys(((u, None) for u in wanted), 1)
            # The copy is stamped as the shadow's, and with the user's own bucket.
            stamps = {("v3", str(answers[user].bucket)) for user in wanted}
            assert set(lab.servers["v3"].stamped) == stamps
            told = {user for user, to in lab.servers["v1"].users if to == cluster}
            assert told == wanted
            assert {to for _, to in lab.servers["v2"].users} == {None}
        print(f"{percent} %: {len(wanted)} of {len(WHO)} users copied, both times as predicted")
        before = wanted

    lab.servers["v3"].stop()
    assert ask_all(lab, cluster) == answers
    assert mirrors_to(lab) == []
    with Traffic(lab, 50) as others:
        lab.apply(by_user(lab, None))
        eventually(lambda: not policies(lab) and not marked_slots(lab), "no copies any more")
    assert set(others.answers) == {"v1", "v2"}
    assert ask_all(lab, cluster.replace("|v3|", "|v2|")) == answers
    own = sum(got.version == "v2" for got in answers.values())
    assert lab.servers["v2"].users.total() == own
    lab.delete_experiments()
    assert lab.fetch("virtualservice", "fraud")["spec"] == original
