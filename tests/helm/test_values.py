"""The chart's values: documented, strictly typed, and each of them arrives where it belongs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
import yaml

from modelexperiment.settings import Settings, read_settings
from tests.helm.conftest import CHART, ROOT, Document, Helm, Render

pytestmark = pytest.mark.e2e

VALUES = (CHART / "values.yaml").read_text()


def container(documents: list[Document]) -> Document:
    found = next(d for d in documents if d["kind"] == "Deployment")
    only: Document
    (only,) = found["spec"]["template"]["spec"]["containers"]
    return only


def settings(documents: list[Document]) -> Settings:
    """The settings that the operator reads in a pod of the release."""
    given = {e["name"]: e.get("value", "from-field") for e in container(documents)["env"]}
    return read_settings(given)


def test_the_chart_is_clean(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert declared is not None
    assert chart["version"] == chart["appVersion"] == declared[1]


def test_every_value_has_a_comment() -> None:
    lines = VALUES.splitlines()
    bare = []
    for number, line in enumerate(lines):
        key = re.match(r"( *)[A-Za-z]+:", line)
        # What requests and limits are made of is Kubernetes' own.
        inside = bool(re.match(r" {4,}(cpu|memory):", line)) or line.strip() in (
            "requests:",
            "limits:",
        )
        opens = line.endswith(":")
        commented = lines[number - 1].strip().startswith("#")
        if key and not (commented or inside or opens):
            bare.append(line)
    assert bare == []


def leaves(schema: Mapping[str, Any], values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the fields that only one of schema and values knows."""
    properties = schema.get("properties")
    if properties is None:
        return
    assert schema["additionalProperties"] is False, path
    yield from (f"{path}{name}" for name in set(properties) ^ set(values))
    for name in set(properties) & set(values):
        if isinstance(values[name], dict) and values[name]:
            yield from leaves(properties[name], values[name], f"{path}{name}.")


def test_schema_and_values_know_the_same_fields() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    # Helm itself puts `global` into a chart that another one includes.
    assert set(leaves(schema, yaml.safe_load(VALUES))) == {"global"}


def test_defaults_are_the_operators_own(render: Render) -> None:
    documents = render()

    names = {e["name"] for e in container(documents)["env"]}
    own = {"namespace": "POD_NAMESPACE", "identity": "POD_NAME"}
    assert names == {own.get(f.name, f.name.upper()) for f in fields(Settings)}
    assert settings(documents) == Settings(namespace="from-field", identity="from-field")


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ({"prometheus": {"url": "http://p:9090/"}}, "prometheus_url", "http://p:9090"),
        (
            {"prometheus": {"allowedUrls": ["http://a", "https://b"]}},
            "prometheus_allowed_urls",
            ("http://a", "https://b"),
        ),
        ({"prometheus": {"timeout": "3s"}}, "prometheus_timeout", timedelta(seconds=3)),
        ({"prometheus": {"settle": "1m"}}, "prometheus_settle", timedelta(minutes=1)),
        ({"prometheus": {"lookback": "1h"}}, "prometheus_lookback", timedelta(hours=1)),
        ({"prometheus": {"workers": 9}}, "prometheus_workers", 9),
        (
            {"alerts": {"allowedUrls": ["hooks.example.com", "http://am:9093/x"]}},
            "alerts_allowed_urls",
            ("hooks.example.com", "http://am:9093/x"),
        ),
        ({"alerts": {"timeout": "3s"}}, "alerts_timeout", timedelta(seconds=3)),
        ({"mlflow": {"url": "https://m/"}}, "mlflow_url", "https://m"),
        ({"mlflow": {"allowedUrls": ["http://a"]}}, "mlflow_allowed_urls", ("http://a",)),
        ({"mlflow": {"timeout": "3s"}}, "mlflow_timeout", timedelta(seconds=3)),
        ({"mlflow": {"workers": 3}}, "mlflow_workers", 3),
        ({"watchNamespaces": ["a", "b"]}, "watch_namespaces", ("a", "b")),
        ({"workers": 1000000}, "workers", 1000000),
        ({"leaderElection": {"enabled": False}}, "leader_election", False),
        ({"leaderElection": {"leaseName": "other"}}, "lease_name", "other"),
        ({"leaderElection": {"leaseDuration": "40s"}}, "lease_duration", timedelta(seconds=40)),
        ({"metrics": {"port": 9090}}, "metrics_port", 9090),
        ({"log": {"format": "text"}}, "log_format", "text"),
        ({"log": {"level": "debug"}}, "log_level", "debug"),
    ],
)
def test_each_value_reaches_its_setting(
    render: Render, values: Document, field: str, expected: object
) -> None:
    assert getattr(settings(render(**values)), field) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("replicaCount=2", "additional properties 'replicaCount' not allowed"),
        ("prometheus.uri=http://p", "additional properties 'uri' not allowed"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("prometheus.url=prometheus:9090", "at '/prometheus/url'"),
        ("prometheus.timeout=10", "at '/prometheus/timeout': got number, want string"),
        ("prometheus.settle=soon", "at '/prometheus/settle': 'soon' does not match pattern"),
        ("alerts.allowedUrls={ftp://x}", "at '/alerts/allowedUrls/0': 'ftp://x' does not match"),
        ("alerts.allowedUrls={https://a@b}", "at '/alerts/allowedUrls/0'"),
        ("alerts.secretNames={Chat}", "at '/alerts/secretNames/0'"),
        ("watchNamespaces=fraud", "at '/watchNamespaces': got string, want array"),
        ("watchNamespaces={Fraud}", "at '/watchNamespaces/0': 'Fraud' does not match pattern"),
        ("log.level=loud", "at '/log/level': value must be one of"),
        ("metrics.port=80", "at '/metrics/port': minimum: got 80, want 1,024"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern"),
    ],
)
def test_the_schema_refuses(helm: Helm, values: str, said: str) -> None:
    done = helm("template", "ab", str(CHART), "--set", values)

    assert done.returncode != 0
    assert said in done.stderr


def test_image_by_version_tag_or_digest(render: Render) -> None:
    repository = "ghcr.io/modelexperiment/modelexperiment"
    digest = "sha256:" + "0f" * 32

    assert container(render())["image"] == f"{repository}:0.1.0"
    assert container(render(image={"tag": "main"}))["image"] == f"{repository}:main"
    assert container(render(image={"digest": digest}))["image"] == f"{repository}@{digest}"


def test_mlflows_credentials_come_from_a_secret(render: Render) -> None:
    documents = render(mlflow={"url": "https://m", "credentialsSecret": "mlflow-login"})

    given = {e["name"]: e["valueFrom"] for e in container(documents)["env"] if "valueFrom" in e}
    for variable, key in (("USERNAME", "username"), ("PASSWORD", "password"), ("TOKEN", "token")):
        found = given[f"MLFLOW_TRACKING_{variable}"]["secretKeyRef"]
        assert found == {"name": "mlflow-login", "key": key, "optional": True}
