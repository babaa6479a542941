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


@pytest.mark.parametrize(
    "values",
    [
        "replicas=1",
        "watchNamespaces={fraud,flights}",
        "leaderElection.enabled=false,replicas=1",
        "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,"
        "metrics.dashboard.enabled=true,networkPolicy.enabled=true,commonLabels.team=ml",
        "comparer.enabled=true,comparer.serviceMonitor.enabled=true,networkPolicy.enabled=true",
        "rbac.create=false,serviceAccount.create=false,crds.install=false,"
        "metrics.service.enabled=false,podDisruptionBudget.enabled=false",
    ],
)
def test_the_chart_is_clean(helm: Helm, values: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--set", values)

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
        key = re.match(r"( *)[A-Za-z_]+:", line)
        # What requests and limits are made of is Kubernetes' own.
        inside = bool(re.match(r" {4,}(cpu|memory):", line)) or line.strip() in (
            "requests:",
            "limits:",
            'grafana_dashboard: "1"',
        )
        inside = inside or bool(re.match(r"(- |  )(maxSkew|topologyKey|whenUnsat)", line))
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
        ({"prometheus": {"lateness": "2m"}}, "prometheus_lateness", timedelta(minutes=2)),
        ({"prometheus": {"lookback": "1h"}}, "prometheus_lookback", timedelta(hours=1)),
        ({"prometheus": {"workers": 9}}, "prometheus_workers", 9),
        (
            {"alerts": {"allowedUrls": ["hooks.example.com", "http://am:9093/x"]}},
            "alerts_allowed_urls",
            ("hooks.example.com", "http://am:9093/x"),
        ),
        ({"alerts": {"timeout": "3s"}}, "alerts_timeout", timedelta(seconds=3)),
        (
            {"prometheus": {"access": {"secret": "thanos", "token": "bearer"}}},
            "prometheus_token_file",
            "/etc/modelexperiment/prometheus/bearer",
        ),
        (
            {"prometheus": {"access": {"token": "/var/run/token"}}},
            "prometheus_token_file",
            "/var/run/token",
        ),
        ({"prometheus": {"access": {"ca": "/ca.crt"}}}, "prometheus_ca_file", "/ca.crt"),
        (
            {"prometheus": {"access": {"username": "me", "password": "/pw"}}},
            "prometheus_username",
            "me",
        ),
        (
            {"prometheus": {"access": {"username": "me", "password": "/pw"}}},
            "prometheus_password_file",
            "/pw",
        ),
        (
            {"prometheus": {"access": {"cert": "/tls.crt", "key": "/tls.key"}}},
            "prometheus_cert_file",
            "/tls.crt",
        ),
        (
            {"prometheus": {"access": {"cert": "/tls.crt", "key": "/tls.key"}}},
            "prometheus_key_file",
            "/tls.key",
        ),
        ({"prometheus": {"access": {"tenant": "ml"}}}, "prometheus_tenant", "ml"),
        ({"mlflow": {"url": "https://m/"}}, "mlflow_url", "https://m"),
        ({"mlflow": {"allowedUrls": ["http://a"]}}, "mlflow_allowed_urls", ("http://a",)),
        ({"mlflow": {"timeout": "3s"}}, "mlflow_timeout", timedelta(seconds=3)),
        ({"mlflow": {"workers": 3}}, "mlflow_workers", 3),
        ({"watchNamespaces": ["a", "b"]}, "watch_namespaces", ("a", "b")),
        ({"workers": 1000000}, "workers", 1000000),
        ({"leaderElection": {"enabled": False}, "replicas": 1}, "leader_election", False),
        ({"leaderElection": {"leaseName": "other"}}, "lease_name", "other"),
        ({"leaderElection": {"leaseDuration": "40s"}}, "lease_duration", timedelta(seconds=40)),
        ({"metrics": {"port": 9090}}, "metrics_port", 9090),
        ({"dashboard": {"enabled": True}}, "dashboard_port", 8081),
        ({"dashboard": {"port": 9999}}, "dashboard_port", 0),
        ({"dashboard": {"enabled": True}}, "dashboard_address", "127.0.0.1"),
        ({"dashboard": {"address": "::"}}, "dashboard_address", "::"),
        ({"dashboard": {"hosts": ["a.example", "b"]}}, "dashboard_hosts", ("a.example", "b")),
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
        ("dashboard.address=here", "at '/dashboard/address': 'here' does not match pattern"),
        ("dashboard.hosts={https://a}", "at '/dashboard/hosts/0'"),
        ("extraContainers[0].name=proxy", "at '/extraContainers/0': missing property 'image'"),
        ("metrics.port=80", "at '/metrics/port': minimum: got 80, want 1,024"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern"),
        ("podDisruptionBudget.maxUnavailable=all", "at '/podDisruptionBudget/maxUnavailable'"),
        ("networkPolicy.apiServerCIDRs={here}", "at '/networkPolicy/apiServerCIDRs/0'"),
        ("networkPolicy.prometheusPorts={0}", "at '/networkPolicy/prometheusPorts/0'"),
        ("metrics.serviceMonitor.interval=often", "at '/metrics/serviceMonitor/interval'"),
        ("metrics.prometheusRule.maxPollLagSeconds=0", "exclusiveMinimum: got 0, want 0"),
        ("extraEnv[0].value=x", "at '/extraEnv/0': missing property 'name'"),
        ("topologySpreadConstraints[0].maxSkew=1", "at '/topologySpreadConstraints/0'"),
        ("commonLabels.team=1", "at '/commonLabels/team': got number, want string"),
        ("prometheus.access.token=../token", "at '/prometheus/access/token'"),
        # These make sense by themselves, and not together.
        (
            "prometheus.access.token=bearer",
            "prometheus.access.token: bearer is a key, and prometheus.access.secret names no",
        ),
        ("leaderElection.enabled=false", "replicas: more than one needs leaderElection.enabled"),
        (
            "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false",
            "metrics.serviceMonitor.enabled: needs metrics.service.enabled=true",
        ),
    ],
)
def test_the_schema_refuses(helm: Helm, values: str, said: str) -> None:
    done = helm("template", "ab", str(CHART), "--set", values)

    assert done.returncode != 0
    assert said in done.stderr


def test_a_secret_for_prometheus_is_mounted_for_the_operator_alone(render: Render) -> None:
    documents = render(prometheus={"access": {"secret": "thanos", "token": "bearer"}})
    found = next(d for d in documents if d["kind"] == "Deployment")
    pod = found["spec"]["template"]["spec"]

    assert pod["volumes"][1:] == [
        {"name": "prometheus-access", "secret": {"secretName": "thanos", "defaultMode": 0o440}}
    ]
    assert container(documents)["volumeMounts"][1:] == [
        {
            "name": "prometheus-access",
            "mountPath": "/etc/modelexperiment/prometheus",
            "readOnly": True,
        }
    ]
    assert pod["securityContext"]["fsGroup"] == 65532


def test_image_by_version_tag_or_digest(render: Render) -> None:
    repository = "ghcr.io/modelexperiment/modelexperiment"
    digest = "sha256:" + "0f" * 32

    assert container(render())["image"] == f"{repository}:0.1.0"
    assert container(render(image={"tag": "main"}))["image"] == f"{repository}:main"
    assert container(render(image={"digest": digest}))["image"] == f"{repository}@{digest}"


def test_every_value_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "chart.md").read_text()

    def paths(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        for name, field in schema["properties"].items():
            if field.get("properties") and name != "resources":
                yield from paths(field, f"{path}{name}.")
            elif name != "global":
                yield f"{path}{name}"

    schema = json.loads((CHART / "values.schema.json").read_text())
    found = set(re.findall(r"^\| `(.+?)` ", page, re.MULTILINE))
    assert found == set(paths(schema))


def test_what_a_pod_is_given_beside_the_charts_own(render: Render) -> None:
    documents = render(
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        extraEnvFrom=[{"secretRef": {"name": "tokens"}}],
        extraVolumes=[{"name": "ca", "configMap": {"name": "ca"}}],
        extraVolumeMounts=[{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
        podLabels={"team": "ml", "app.kubernetes.io/name": "mine"},
        podAnnotations={"sidecar.istio.io/inject": "false"},
        imagePullSecrets=[{"name": "registry"}],
        priorityClassName="high",
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        affinity={"nodeAffinity": {}},
        terminationGracePeriodSeconds=45,
    )
    found = next(d for d in documents if d["kind"] == "Deployment")
    template = found["spec"]["template"]
    pod = template["spec"]

    assert container(documents)["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy"}
    assert container(documents)["envFrom"] == [{"secretRef": {"name": "tokens"}}]
    assert container(documents)["volumeMounts"][1]["mountPath"] == "/etc/ca"
    assert pod["volumes"][1:] == [{"name": "ca", "configMap": {"name": "ca"}}]
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    # The Deployment would not find its own pods.
    selector = found["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["priorityClassName"] == "high"
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["terminationGracePeriodSeconds"] == 45


def test_mlflows_credentials_come_from_a_secret(render: Render) -> None:
    documents = render(mlflow={"url": "https://m", "credentialsSecret": "mlflow-login"})

    given = {e["name"]: e["valueFrom"] for e in container(documents)["env"] if "valueFrom" in e}
    for variable, key in (("USERNAME", "username"), ("PASSWORD", "password"), ("TOKEN", "token")):
        found = given[f"MLFLOW_TRACKING_{variable}"]["secretKeyRef"]
        assert found == {"name": "mlflow-login", "key": key, "optional": True}
