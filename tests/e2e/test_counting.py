"""Counting: what the status says is what the model servers served, to the last request."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.counting import counted_exactly, started
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

pytestmark = pytest.mark.e2e


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
