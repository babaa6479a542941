"""Settings come from the environment, and a wrong one ends the operator with one line."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest

from modelexperiment.cli import main
from modelexperiment.settings import Settings, SettingsError, read_settings


def test_without_any_variable_the_documented_defaults_hold() -> None:
    found = read_settings({})

    assert found == Settings(identity=f"{socket.gethostname()}-{os.getpid()}")


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PROMETHEUS_URL", "http://prometheus:9090/", "prometheus_url", "http://prometheus:9090"),
        (
            "PROMETHEUS_ALLOWED_URLS",
            "http://a/, http://b,",
            "prometheus_allowed_urls",
            ("http://a", "http://b"),
        ),
        ("PROMETHEUS_TIMEOUT", "1m30s", "prometheus_timeout", timedelta(seconds=90)),
        ("PROMETHEUS_SETTLE", "500ms", "prometheus_settle", timedelta(seconds=0.5)),
        ("PROMETHEUS_LATENESS", "1m", "prometheus_lateness", timedelta(minutes=1)),
        ("PROMETHEUS_WORKERS", "16", "prometheus_workers", 16),
        (
            "ALERTS_ALLOWED_URLS",
            "hooks.example.com, http://alertmanager:9093/",
            "alerts_allowed_urls",
            ("hooks.example.com", "http://alertmanager:9093"),
        ),
        ("WATCH_NAMESPACES", "fraud, search", "watch_namespaces", ("fraud", "search")),
        ("LEASE_DURATION", "3s", "lease_duration", timedelta(seconds=3)),
        ("POD_NAMESPACE", "mlops", "namespace", "mlops"),
        ("POD_NAME", "operator-0", "identity", "operator-0"),
        ("LEADER_ELECTION", "False", "leader_election", False),
        ("METRICS_PORT", "0", "metrics_port", 0),
        ("DASHBOARD_PORT", "8081", "dashboard_port", 8081),
        ("DASHBOARD_ADDRESS", "0.0.0.0", "dashboard_address", "0.0.0.0"),
        ("DASHBOARD_HOSTS", "a.example, ::1", "dashboard_hosts", ("a.example", "::1")),
        ("LOG_FORMAT", "text", "log_format", "text"),
        ("LOG_LEVEL", "debug", "log_level", "debug"),
        ("WORKERS", "", "workers", 8),
        ("PROMETHEUS_TENANT", "team-a", "prometheus_tenant", "team-a"),
    ],
)
def test_a_variable_sets_its_field(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(read_settings({variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("PROMETHEUS_TIMEOUT", "soon", 'must be a duration such as "30s"'),
        ("WORKERS", "0", "must be a whole number from 1 up, got 0"),
        ("WORKERS", "many", "must be a whole number from 1 up, got many"),
        ("ALERTS_ALLOWED_URLS", "ftp://x", "must begin with https:// or http://, got ftp://x"),
        ("LEADER_ELECTION", "yes", "must be true or false, got yes"),
        ("METRICS_PORT", "65536", "must be a port, 0 for none, got 65536"),
        ("METRICS_PORT", "-1", "must be a port, 0 for none, got -1"),
        ("DASHBOARD_PORT", "8080", "must be another one than METRICS_PORT, got 8080"),
        ("DASHBOARD_ADDRESS", "localhost", "must be an IP address, got localhost"),
        ("DASHBOARD_HOSTS", "a:80", "must be names of hosts, without scheme and port, got a:80"),
        ("LOG_FORMAT", "xml", "must be one of json, text, got xml"),
        ("LOG_LEVEL", "INFO", "must be one of debug, info, warning, error, got INFO"),
        ("LEASE_DURATION", "2s", "LEASE_DURATION: must be at least 3s, got 2s"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(variable: str, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({variable: text})

    assert str(caught.value).startswith(f"{variable}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"PROMETHEUS_USERNAME": "me"},
            "PROMETHEUS_PASSWORD_FILE: is needed with PROMETHEUS_USERNAME, got nothing",
        ),
        (
            {"PROMETHEUS_KEY_FILE": "/key"},
            "PROMETHEUS_CERT_FILE: is needed with PROMETHEUS_KEY_FILE, got nothing",
        ),
        (
            {
                "PROMETHEUS_TOKEN_FILE": "/token",
                "PROMETHEUS_USERNAME": "me",
                "PROMETHEUS_PASSWORD_FILE": "/password",
            },
            "PROMETHEUS_TOKEN_FILE: can't be used together with PROMETHEUS_USERNAME, got both",
        ),
        (
            {"MLFLOW_ALLOWED_URLS": "http://a,http://b", "MLFLOW_TRACKING_TOKEN": "secret"},
            "MLFLOW_ALLOWED_URLS: can't be used together with MLFLOW_TRACKING_TOKEN, "
            "got http://a,http://b",
        ),
    ],
)
def test_half_an_access_is_refused(variables: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(variables)

    assert str(caught.value) == says


def test_run_ends_with_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKERS", "none")

    assert main(["run"]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "modelexperiment: WORKERS: must be a whole number from 1 up, got none\n"


@pytest.mark.parametrize("argv", [[], ["walk"], ["run", "--fast"]])
def test_an_unknown_command_is_bad_input(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)

    assert ended.value.code == 2
    assert "modelexperiment" in capsys.readouterr().err
