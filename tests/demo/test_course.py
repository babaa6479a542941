"""The pure parts of the course: manifests, what ends it, what is read from a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import platforms, routes, run
from demo.__main__ import main
from demo.breakage import Breakage, champion_only
from demo.errors import DemoError
from demo.parts import literal_environment
from demo.server import Counters
from demo.traffic import Replay
from modelexperiment.core.manifest import parse_experiment


@pytest.fixture
def manifest() -> Any:
    return yaml.safe_load(run.EXPERIMENT.read_text())


def test_the_experiment_is_valid(manifest: Any) -> None:
    experiment = parse_experiment(manifest)
    assert experiment.namespace == routes.NAMESPACE
    assert experiment.spec.champion_version == run.CHAMPION


def test_the_experiment_reads_the_servers_own_counters(manifest: Any) -> None:
    exposed = {
        sample.name
        for family in Counters("v1").registry.collect()
        for sample in family.samples
        if sample.labels["version"] == "v1"
    }
    (metric,) = manifest["spec"]["metrics"]
    assert set(metric["proportion"].values()) <= exposed
    assert metric["versionLabel"] == "version"
    query = manifest["spec"]["guardrails"][0]["query"]
    assert {name for name in exposed if name in query} == {
        "flight_errors_total",
        "flight_predictions_total",
    }


def test_the_experiment_takes_the_route_that_the_demo_makes(manifest: Any) -> None:
    route = manifest["spec"]["route"]["istio"]
    service = routes.virtual_service("v1", "v2")
    (http,) = service["spec"]["http"]
    assert (route["virtualService"], route["httpRoute"]) == (
        service["metadata"]["name"],
        http["name"],
    )
    hosts = [entry["destination"]["host"] for entry in http["route"]]
    assert set(hosts) == {route["host"]}
    assert [entry["weight"] for entry in http["route"]] == [100, 0]
    assert http["match"] == [{"uri": {"exact": "/predict"}}]


def test_models_listen_where_they_are_told() -> None:
    entry, rule = routes.service("10.1.2.3", {"v1": 8001, "v2": 8002})
    endpoints = entry["spec"]["endpoints"]
    assert [(e["address"], e["ports"]["http"]) for e in endpoints] == [
        ("10.1.2.3", 8001),
        ("10.1.2.3", 8002),
    ]
    assert rule["spec"]["host"] == routes.MODEL_HOST


def test_gateway_listens_on_loopback_only_where_that_is_asked() -> None:
    (own,) = routes.istio_gateway({"istio": "x"}, 8080, "127.0.0.1")["spec"]["servers"]
    (given,) = routes.istio_gateway({"istio": "x"}, 80, None)["spec"]["servers"]
    assert own["bind"] == "127.0.0.1"
    assert "bind" not in given


@pytest.mark.parametrize(
    ("status", "rollback", "over"),
    [
        ({}, False, False),
        ({"phase": "Running"}, False, False),
        ({"phase": "Running", "verdict": "Inconclusive"}, False, False),
        ({"phase": "RollingOut", "verdict": "ChallengerBetter"}, False, True),
        ({"phase": "RolledBack"}, False, True),
        ({"phase": "RollingOut", "verdict": "ChallengerBetter"}, True, False),
        ({"phase": "RolledBack"}, True, True),
    ],
)
def test_what_ends_the_course(status: dict[str, str], rollback: bool, over: bool) -> None:
    assert run.decided(status, rollback) is over


def test_a_rollback_that_can_come_no_more_is_an_error() -> None:
    with pytest.raises(DemoError, match="ended before the rollback"):
        run.decided({"phase": "Succeeded"}, True)


@pytest.mark.parametrize(
    ("weights", "alone"),
    [
        ({"v1": 100}, True),
        ({"v1": 10000, "v2": 0}, True),
        ({"v1": 99, "v2": 1}, False),
        ({"v2": 100}, False),
        ({}, False),
        (None, False),
    ],
)
def test_the_champion_is_alone(weights: object, alone: bool) -> None:
    assert champion_only(weights) is alone


def test_a_challenger_that_keeps_its_traffic_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").touch()
    addresses = {"PROMETHEUS_URL": "http://p", "GATEWAY_URL": "http://gw"}
    platform = platforms.given(tmp_path / "config", addresses, tmp_path)
    replay = Replay("http://gw", iter(()), rate=1, labels={})
    with pytest.raises(DemoError, match="v2 still had traffic"):
        Breakage("http://v2", replay, platform).told()


def test_environment_of_the_chart() -> None:
    entries = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PROMETHEUS_URL", "value": "http://x"},
        {"name": "WATCH_NAMESPACES"},
    ]
    assert literal_environment(entries) == {"PROMETHEUS_URL": "http://x", "WATCH_NAMESPACES": ""}


def test_given_cluster_needs_its_addresses(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    with pytest.raises(DemoError, match=r"KUBECONFIG=.*config: there is no such file"):
        platforms.given(kubeconfig, {}, tmp_path)
    kubeconfig.touch()
    with pytest.raises(DemoError, match="PROMETHEUS_URL="):
        platforms.given(kubeconfig, {"GATEWAY_URL": "http://gw"}, tmp_path)
    with pytest.raises(DemoError, match="GATEWAY_URL="):
        platforms.given(kubeconfig, {"PROMETHEUS_URL": "http://p"}, tmp_path)


def test_given_cluster_from_the_environment(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    environment = {
        "PROMETHEUS_URL": "http://p:9090/",
        "GATEWAY_URL": "http://gw",
        "MODEL_ADDRESS": "10.0.0.7",
        "MODEL_PORTS": "1,2",
        "GATEWAY_PORT": "8080",
    }
    platform = platforms.given(kubeconfig, environment, tmp_path)
    assert (platform.prometheus_url, platform.gateway_url) == ("http://p:9090", "http://gw")
    assert (platform.model_address, platform.model_ports) == ("10.0.0.7", [1, 2])
    assert platform.istio_gateway()["spec"]["servers"][0]["port"]["number"] == 8080
    assert platform.split() is None


@pytest.mark.parametrize("name", ["MODEL_PORTS", "GATEWAY_PORT"])
def test_a_port_that_is_no_number_is_named(tmp_path: Path, name: str) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    environment = {"PROMETHEUS_URL": "http://p", "GATEWAY_URL": "http://gw", name: "many"}
    with pytest.raises(DemoError, match=f"{name}=many"):
        platforms.given(kubeconfig, environment, tmp_path)


def test_unknown_breakage_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BREAK", "everything")
    assert main([]) == 2
    assert "BREAK=everything" in capsys.readouterr().err
