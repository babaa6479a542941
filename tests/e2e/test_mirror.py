"""A shadow gets its share of copies, and whatever becomes of them, no caller notices."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from tests.e2e.gateway_lab import GatewayLab
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

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
