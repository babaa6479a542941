"""However Prometheus fails, nothing passes and nothing breaks by it, and it needs no help after."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e import chart
from tests.e2e.faulty import FaultyPrometheus
from tests.e2e.lab import Lab, Traffic, eventually
from tests.e2e.test_counting import counted_exactly
from tests.e2e.test_guardrails import statistical

pytestmark = pytest.mark.e2e

SAYS = {
    "down": "can't be reached",
    "slow": "did not answer in time",
    "500": "answered 500: the server is not well",
    "429": "answered 429",
    "html": "gave an answer that is not Prometheus' JSON",
    "warnings": "gave a partial answer: a store is gone",
    "cut off": "can't be reached",
}


@pytest.fixture
def faulty(lab: Lab) -> Iterator[FaultyPrometheus]:
    proxy = FaultyPrometheus(chart.FAULTY_PROMETHEUS, lab.cluster.prometheus_url)
    yield proxy
    proxy.mode = "well"
    lab.delete_experiments()
    proxy.close()


def states(lab: Lab) -> set[str]:
    """What the guardrails answer."""
    return {g["state"] for g in lab.status().get("guardrails", [])}


def test_no_failure_of_prometheus_is_a_pass_or_a_breach(lab: Lab, faulty: FaultyPrometheus) -> None:
    challenger = lab.servers["v2"]
    # Missing data is a breach here, but an error of Prometheus is no missing data.
    rails = [
        statistical(lab, minSamples=10, noData="Fail"),
        lab.error_guardrail(name="recent", failureLimit=2),
    ]
    lab.send(20)
    time.sleep(2.5)
    before = {v: server.served for v, server in lab.servers.items()}
    prometheus = {"url": chart.FAULTY_PROMETHEUS}
    lab.apply(lab.experiment(guardrails=rails[:1], prometheus=prometheus))
    lab.wait_phase("Running")
    with Traffic(lab, 60, longest=300):
        # The query looks back to before the start, when nobody was sent to the challenger.
        time.sleep(8)
        lab.apply(lab.experiment(guardrails=rails, prometheus=prometheus))
        eventually(lambda: states(lab) == {"Pass"}, "all pass", 45)
        for mode in FaultyPrometheus.MODES:
            faulty.mode = mode

            def said(mode: str = mode) -> bool:
                found = lab.condition("MetricsReady")
                return found["status"] == "False" and SAYS[mode] in found["message"]

            eventually(said, f"MetricsReady says that it is {mode}", 45)
            assert lab.condition("MetricsReady")["reason"] == "PrometheusUnreachable"
            assert states(lab) == {"InsufficientData"}, mode
            assert lab.status()["phase"] == "Running", mode
            faulty.mode = "well"
            eventually(
                lambda: (
                    lab.condition("MetricsReady")["status"] == "True" and states(lab) == {"Pass"}
                ),
                f"recovery from {mode}",
                45,
            )
    counted_exactly(lab, before)
    assert "GuardrailBreached" not in dict(lab.events())

    with Traffic(lab, 100):
        faulty.mode = "500"
        challenger.failing = 0.8
        time.sleep(5)
        assert lab.status()["phase"] == "Running"
        faulty.mode = "well"
        lab.wait_phase("RolledBack")
