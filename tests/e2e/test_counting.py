"""Counting: what the status says is what the model servers served, to the last request."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

pytestmark = pytest.mark.e2e


def totals(lab: Lab) -> dict[str, int]:
    """Samples by version, as the status says them."""
    entry = (lab.status().get("analysis") or [{}])[0]
    if not entry:
        return {}
    return {
        "v1": int(entry["champion"]["samples"]),
        entry["modelVersion"]: int(entry["challenger"]["samples"]),
    }


def counted_exactly(lab: Lab, since: dict[str, int]) -> None:
    """Wait until all that was served since then is counted; and see that it stays so."""
    served = {v: server.served - since[v] for v, server in lab.servers.items()}
    counted: list[dict[str, int]] = []

    def exact() -> bool:
        counted[:] = [totals(lab)]
        return counted == [served]

    try:
        eventually(exact, f"exactly {served}", 20)
    except AssertionError as late:
        raise AssertionError(f"{late}; counted {counted}") from None
    time.sleep(3)
    assert totals(lab) == served


def started(lab: Lab) -> dict[str, int]:
    """Start the experiment while nothing is served; gives what was served before."""
    lab.send(20)
    time.sleep(2.5)  # until it is scraped, so that it belongs to the time before
    before = {v: server.served for v, server in lab.servers.items()}
    lab.apply(lab.experiment())
    lab.wait_phase("Running")
    lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    return before


def test_a_kill_at_any_moment_loses_nothing_and_counts_nothing_twice(
    lab: Lab, operator: OperatorProcess
) -> None:
    before = started(lab)
    moments = random.Random(2026)
    with Traffic(lab, 150, longest=300) as traffic:
        for _ in range(20):
            time.sleep(moments.uniform(0.2, 4.0))
            operator.kill()
            time.sleep(moments.uniform(0.0, 1.0))
            operator.start()
    assert sum(traffic.answers.values()) > 3_000
    counted_exactly(lab, before)


def test_a_restart_of_a_model_server_is_counted_from_zero_and_said(lab: Lab) -> None:
    before = started(lab)
    with Traffic(lab, 100):
        time.sleep(3)
    time.sleep(2.5)  # what was served is scraped before it is forgotten
    lab.servers["v1"].restart()
    # Far fewer than before: a counter that has outgrown its old value by the next scrape does not
    # show that it began again.
    lab.send(100)
    counted_exactly(lab, before)
    assert "fell from" in dict(lab.events())["CounterReset"]


def test_a_new_series_counts_from_its_first_sample(lab: Lab) -> None:
    lab.cluster.scrape(lab.namespace, [lab.servers["v1"].target])
    before = started(lab)
    lab.send(500)
    # The challenger's counters are scraped for the first time, with requests in them already.
    lab.cluster.scrape(lab.namespace, [server.target for server in lab.servers.values()])
    counted_exactly(lab, before)


def test_an_outage_of_prometheus_loses_nothing(lab: Lab) -> None:
    before = started(lab)
    with Traffic(lab, 100):
        time.sleep(2)
        lab.cluster.pause("prometheus")
        eventually(
            lambda: lab.condition("MetricsReady")["reason"] == "PrometheusUnreachable",
            "the condition says so",
        )
        assert lab.status()["phase"] == "Running"
        lab.cluster.resume("prometheus")
        eventually(lambda: lab.condition("MetricsReady")["status"] == "True", "recovery")
    counted_exactly(lab, before)


def test_scrapes_that_are_stored_late_are_counted(lab: Lab) -> None:
    targets = [server.target for server in lab.servers.values()]
    lab.cluster.scrape(lab.namespace, targets, interval="2s")
    before = started(lab)
    moments = random.Random(2026)
    with Traffic(lab, 150):
        # Longer than the second for which samples settle: polls come while one is on its way.
        lab.servers["v2"].scrape_seconds = 1.6
        for _ in range(8):
            time.sleep(moments.uniform(0.5, 2.5))
            lab.cluster.pause("prometheus")
            time.sleep(moments.uniform(1.5, 3.0))
            lab.cluster.resume("prometheus")
        time.sleep(4)
        lab.servers["v2"].scrape_seconds = 0.0
    counted_exactly(lab, before)
