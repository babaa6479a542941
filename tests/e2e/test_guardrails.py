"""Guardrails: a breach goes back to the champion within a scrape, a poll and two seconds."""

from __future__ import annotations

import time
import urllib.parse

import pytest

from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

SCRAPE, POLL = 1.0, 1.0


def test_a_breach_rolls_back_within_a_scrape_a_poll_and_two_seconds(lab: Lab) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()]))
        lab.wait_phase("Running")
        eventually(lambda: lab.guardrail_state("errors") == "Pass", "a pass first")
        challenger.failing = 0.8
        eventually(lambda: challenger.first_failure, "a bad response")
        lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=15)
        seconds = time.time() - (challenger.first_failure or 0.0)
        assert seconds <= SCRAPE + POLL + 2
        status = lab.wait_phase("RolledBack")
    assert status["decision"]["action"] == "Rollback"
    assert status["decision"]["riskLevel"] == "critical"
    breach = status["guardrails"][0]
    assert (breach["name"], breach["modelVersion"], breach["state"]) == ("errors", "v2", "Breach")
    assert breach["value"] > breach["limit"] == 0.05
    assert lab.condition("GuardrailsHealthy")["status"] == "False"
    assert lab.condition("Complete")["status"] == "True"
    events = dict(lab.events())
    assert "guardrail errors broke for v2" in events["GuardrailBreached"]
    assert "v1 gets everything" in events["RolledBack"]
    assert lab.send(200)["v1"] == 200


def test_it_stays_rolled_back_until_the_spec_changes(lab: Lab) -> None:
    challenger = lab.servers["v2"]
    manifest = lab.experiment(guardrails=[lab.error_guardrail()])
    with Traffic(lab, 200):
        lab.apply(manifest)
        lab.wait_phase("Running")
        challenger.failing = 0.8
        lab.wait_phase("RolledBack")
        challenger.failing = 0.0
        time.sleep(5)
        assert lab.status()["phase"] == "RolledBack"
        assert lab.destinations() == [("v1", 100), ("v2", 0)]
        manifest["spec"]["guardrails"][0]["max"] = 0.1
        lab.apply(manifest)
        status = lab.wait_phase("Running")
        lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    assert "decision" not in status or status["decision"]["action"] != "Rollback"


def test_a_row_of_breaches_is_waited_for_where_the_manifest_asks_for_one(lab: Lab) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail(failureLimit=4)]))
        lab.wait_phase("Running")
        challenger.failing = 0.8
        status = lab.wait_phase("RolledBack")
    assert status["guardrails"][0]["breaches"] == 4


def test_without_data_there_is_neither_pass_nor_breach(lab: Lab) -> None:
    # v2 is asked about a series that it never has, while the champion's is there.
    query = 'fraud_requests_total{version="{{version}}", version!="v2"}'
    guardrail = {"name": "silent", "query": query, "max": 1e9}
    analysis = {"interval": "1s", "guardrailTimeout": "6s", "onGuardrailTimeout": "Pause"}
    with Traffic(lab, 50):
        lab.apply(lab.experiment(guardrails=[guardrail], analysis=analysis))
        lab.wait_phase("Running")
        eventually(lambda: lab.guardrail_state("silent") == "InsufficientData", "a reading")
        assert lab.condition("GuardrailsHealthy")["status"] == "Unknown"
        lab.wait_phase("Paused")
        assert lab.destinations() == [("v1", 90), ("v2", 10)]
        analysis["onGuardrailTimeout"] = "Rollback"
        lab.apply(lab.experiment(guardrails=[guardrail], analysis=analysis))
        lab.wait_phase("RolledBack")


def statistical(lab: Lab, **changes: object) -> dict[str, object]:
    """A statistical guardrail on the share of errors."""
    job = f'job="{lab.namespace}"'
    return {
        "name": "errors",
        "proportion": {
            "successes": f"fraud_errors_total{{{job}}}",
            "trials": f"fraud_requests_total{{{job}}}",
        },
        "versionLabel": "version",
        "max": 0.05,
        **changes,
    }


def test_a_statistical_breach_rolls_back_and_says_why(lab: Lab) -> None:
    challenger = lab.servers["v2"]
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[statistical(lab)]))
        lab.wait_phase("Running")
        eventually(lambda: lab.guardrail_state("errors") == "Pass", "a pass first", 45)
        challenger.failing = 0.3
        eventually(lambda: challenger.first_failure, "a bad response")
        lab.gateway.wait_for_weights("predict", {"v1": 100}, timeout=15)
        seconds = time.time() - (challenger.first_failure or 0.0)
        status = lab.wait_phase("RolledBack")
    assert seconds <= SCRAPE + POLL + 3
    found = status["guardrails"][0]
    assert found["pValue"] <= 0.01
    breach = found["breach"]
    assert breach["value"] > breach["limit"] == 0.05
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(breach["link"]).query)
    assert asked["g0.expr"] == [breach["query"]]
    assert breach["link"].startswith(lab.cluster.prometheus_url)
    assert 'fraud_errors_total{job="' in breach["query"]
    marker = lab.fetch("virtualservice", "fraud")["metadata"]["annotations"]
    assert marker["team.example/owner"] == "risk"
