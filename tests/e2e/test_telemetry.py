"""The chart's alerts and its dashboard, on a real Prometheus that scrapes a real operator."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from prometheus_client import start_http_server

from localcluster import Cluster, scraping
from localcluster.files import write_yaml
from localcluster.ports import free_ports
from localcluster.web import get_json
from modelexperiment.adapters.telemetry import Telemetry
from tests.adapters.statuses import full_status
from tests.e2e import chart
from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

DASHBOARD = json.loads((chart.CHART / "dashboards" / "modelexperiment.json").read_text())
ABSENCE = {"ModelExperimentOperatorDown", "ModelExperimentNoLeader"}
Rules = Callable[..., set[str]]


def ask(cluster: Cluster, path: str, **parameters: object) -> Any:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    answer = get_json(f"{cluster.prometheus_url}/api/v1/{path}?{query}")
    assert answer["status"] == "success", answer
    return answer["data"]


def firing(cluster: Cluster, **labels: str) -> list[dict[str, Any]]:
    """The alerts that fire, with these labels."""
    return [
        alert
        for alert in ask(cluster, "alerts")["alerts"]
        if alert["state"] == "firing" and labels.items() <= alert["labels"].items()
    ]


@pytest.fixture
def rules(cluster: Cluster, tmp_path: Path) -> Iterator[Rules]:
    """Load the chart's alerts for a job into Prometheus; gives their names."""

    def configure(files: list[str]) -> None:
        scraping.change(
            cluster.directory, cluster.prometheus_url, lambda old: {**old, "rule_files": files}
        )

    files: list[str] = []

    def load(job: str, *, at_once: bool) -> set[str]:
        rule = f"metrics.prometheusRule.enabled=true,metrics.prometheusRule.job={job}"
        rule += f",metrics.prometheusRule.alertLabels.test={job}"
        show = ("--show-only", "templates/prometheusrule.yaml")
        made = cluster.helm("template", chart.RELEASE, str(chart.CHART), "--set", rule, *show)
        groups = yaml.safe_load(made)["spec"]["groups"]
        for group in groups:
            group.update(name=f"{job}-{group['name']}", interval="1s")
            for alert in group["rules"]:
                if at_once:
                    alert.pop("for", None)
        path = tmp_path / f"{job}.yml"
        write_yaml(path, {"groups": groups})
        files.append(str(path))
        configure(files)
        return {alert["alert"] for group in groups for alert in group["rules"]}

    yield load
    configure([])


class Exporter:
    """What an operator would expose, told by hand; its counters go on rising."""

    def __init__(self, cluster: Cluster, job: str, beat: Callable[[Telemetry], None]) -> None:
        self.telemetry = Telemetry()
        (port,) = free_ports(1)
        self._server, _ = start_http_server(port, "127.0.0.1", self.telemetry.registry)
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        cluster.scrape(job, [f"127.0.0.1:{port}"])

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._beat(self.telemetry)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._server.shutdown()
        self._server.server_close()


def _condition(type_: str) -> dict[str, str]:
    when = "2026-03-01T12:00:00Z"
    return {
        "type": type_,
        "status": "False",
        "reason": "Broken",
        "message": "",
        "lastTransitionTime": when,
    }


def _broken(telemetry: Telemetry) -> None:
    conditions = [_condition("MetricsReady"), _condition("RoutesReady")]
    telemetry.observe(("fraud", "fraud-v2"), full_status("Running", conditions=conditions), "v1")
    telemetry.lead()
    telemetry.lag(250.0)
    telemetry.error("unavailable")


def _well(telemetry: Telemetry) -> None:
    telemetry.lead()
    telemetry.lag(0.2)
    telemetry.error("conflict")
    telemetry.observe(("fraud", "new"), full_status("Pending", **_NOTHING), "v1")


_NOTHING: dict[str, Any] = {
    "countedUntil": None,
    "conditions": [_condition("RoutesReady"), _condition("MetricsReady")],
    "guardrails": [],
    "sampleRatio": None,
}


def test_every_alert_fires_where_it_should_and_only_there(cluster: Cluster, rules: Rules) -> None:
    """The rules of the chart, without waiting out their `for`."""
    exporters = [Exporter(cluster, "broken", _broken), Exporter(cluster, "well", _well)]
    try:
        eventually(
            lambda: len(ask(cluster, "query", query="modelexperiment_leader == 1")["result"]) >= 2,
            "both are scraped",
        )
        names = rules("broken", at_once=True)
        for job in ("well", "nobody"):
            rules(job, at_once=True)

        def fired(job: str) -> set[str]:
            return {alert["labels"]["alertname"] for alert in firing(cluster, test=job)}

        eventually(lambda: fired("broken") == names - ABSENCE, "all that is broken is told")
        eventually(lambda: fired("nobody") == ABSENCE, "who is not there is missed")
        assert fired("well") == set()
    finally:
        for exporter in exporters:
            exporter.close()
        for job in ("broken", "well"):
            cluster.unscrape(job)
    for group in ask(cluster, "rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule
            for alert in rule["alerts"]:
                for text in alert["annotations"].values():
                    assert "error expanding" not in text and "{{" not in text, text


def _queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard: of panels, annotations and variables, by title."""
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(
                r"label_values\((.+), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            yield variable["name"], f"count by ({label}) ({series})"


def _filled(query: str, lab: Lab) -> str:
    values = {
        "$__rate_interval": "30s",
        "$job": chart.RELEASE,
        "$namespace": lab.namespace,
        "$experiment": "fraud-v2",
        "$metric": "accuracy",
        "$challenger": "v2",
    }
    for name, value in values.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def _shown(cluster: Cluster, query: str, since: float) -> bool:
    """Whether a query has given a number at any time since then."""
    found = ask(cluster, "query_range", query=query, start=since, end=time.time(), step=1)
    values = (float(value) for series in found["result"] for _, value in series["values"])
    return any(math.isfinite(value) for value in values)


def _series_of(cluster: Cluster, lab: Lab) -> int:
    query = f'{{__name__=~"modelexperiment_.*", namespace="{lab.namespace}"}}'
    return len(ask(cluster, "query", query=query)["result"])


def _of_process(cluster: Cluster, name: str) -> float:
    query = f'modelexperiment_{name}{{job="{chart.RELEASE}"}}'
    return float(ask(cluster, "query", query=query)["result"][0]["value"][1])


def test_the_dashboard_and_the_alerts_of_an_experiment_that_is_rolled_back(
    lab: Lab, cluster: Cluster, rules: Rules
) -> None:
    rules(chart.RELEASE, at_once=False)
    began = time.time()
    query = f'modelexperiment_leader{{job="{chart.RELEASE}"}} == 1'
    eventually(lambda: ask(cluster, "query", query=query)["result"], "the operator leads", 60)
    rollbacks = _of_process(cluster, "rollback_seconds_count")
    with Traffic(lab, 200):
        lab.apply(lab.experiment(guardrails=[lab.error_guardrail()]))
        lab.wait_phase("Running")
        for name in ("verdict", "sample_share_observed_ratio", "relative_effect_ratio"):
            query = f'modelexperiment_{name}{{namespace="{lab.namespace}"}}'
            eventually(lambda q=query: ask(cluster, "query", query=q)["result"], name)
        lab.servers["v2"].failing = 0.8
        lab.wait_phase("RolledBack")

    found = {"namespace": lab.namespace, "experiment": "fraud-v2", "model_version": "v2"}
    name = "ModelExperimentGuardrailBreach"
    (alert,) = eventually(lambda: firing(cluster, alertname=name, **found), "the alert fires")
    summary = alert["annotations"]["summary"]
    assert summary == f"{lab.namespace}/fraud-v2: guardrail errors broke for v2."
    assert {alert["labels"]["alertname"] for alert in firing(cluster)} == {name}

    asked = [(title, _filled(query, lab)) for title, query in _queries()]
    empty: list[tuple[str, str]] = []

    def all_shown() -> bool:
        empty[:] = [one for one in asked if not _shown(cluster, one[1], began)]
        return not empty

    # The last state is there with the next scrape.
    with contextlib.suppress(AssertionError):
        eventually(all_shown, "every query gives data", 15)
    assert empty == []

    eventually(
        lambda: _of_process(cluster, "rollback_seconds_count") == rollbacks + 1,
        "the rollback is counted",
    )
    mean = _of_process(cluster, "rollback_seconds_sum") / (rollbacks + 1)
    assert 0 < mean < 5
    before = _series_of(cluster, lab)
    print(f"{mean:.3f} s from poll to route; {before} series; {len(asked)} queries")
    assert before > 30
    lab.delete_experiments()
    eventually(lambda: _series_of(cluster, lab) == 0, "no series of it is left")
