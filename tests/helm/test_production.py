"""What a platform asks of the chart beside the operator: availability, confinement, monitoring."""

from __future__ import annotations

import json

import pytest

from tests.helm.conftest import Document, Render
from tests.helm.test_objects import ALL, of_kind

pytestmark = pytest.mark.e2e

OWN = {"app.kubernetes.io/name": "modelexperiment", "app.kubernetes.io/instance": "ab"}


def only(documents: list[Document], kind: str) -> Document:
    (found,) = of_kind(documents, kind)
    return found


def test_two_pods_on_different_nodes_of_which_a_drain_leaves_one(render: Render) -> None:
    documents = render()

    deployment = only(documents, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["template"]["spec"]["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": OWN},
        }
    ]
    budget = only(documents, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == OWN


@pytest.mark.parametrize("values", [{"replicas": 1}, {"podDisruptionBudget": {"enabled": False}}])
def test_a_budget_never_blocks_a_drain_for_ever(render: Render, values: Document) -> None:
    assert of_kind(render(**values), "PodDisruptionBudget") == []


def test_spread_as_one_likes(render: Render) -> None:
    zones = {
        "maxSkew": 2,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"team": "ml"}},
    }
    documents = render(topologySpreadConstraints=[zones])
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["topologySpreadConstraints"] == [zones]

    pod = only(render(topologySpreadConstraints=[]), "Deployment")["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in pod


def ports(rule: Document) -> list[tuple[object, str]]:
    return [(port["port"], port["protocol"]) for port in rule["ports"]]


def test_a_policy_lets_through_what_the_operator_needs_and_no_more(render: Render) -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    policy = only(
        render(
            networkPolicy={
                "enabled": True,
                "metricsFrom": [prometheus],
                "apiServerPorts": [6443],
                "apiServerCIDRs": ["10.1.0.1/32"],
                "prometheusTo": [prometheus],
                "extraEgress": [{"ports": [{"port": 9093, "protocol": "TCP"}]}],
                "extraIngress": [{"ports": [{"port": 4180, "protocol": "TCP"}]}],
            },
            dashboard={"enabled": True, "address": "0.0.0.0"},
        ),
        "NetworkPolicy",
    )["spec"]

    assert policy["podSelector"]["matchLabels"] == OWN
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # The dashboard is none of them, wherever it listens: only what is let in to a proxy before it.
    metrics, proxy = policy["ingress"]
    assert ports(metrics) == [("http-metrics", "TCP")]
    assert metrics["from"][0] == prometheus
    assert ports(proxy) == [(4180, "TCP")]
    dns, api, queries, extra = policy["egress"]
    assert ports(dns) == [(53, "UDP"), (53, "TCP")]
    assert ports(api) == [(6443, "TCP")]
    assert api["to"] == [{"ipBlock": {"cidr": "10.1.0.1/32"}}]
    assert ports(queries) == [(9090, "TCP")]
    assert queries["to"] == [prometheus]
    assert ports(extra) == [(9093, "TCP")]
    assert of_kind(render(), "NetworkPolicy") == []


def test_the_policy_lets_the_test_of_helm_in(render: Render) -> None:
    documents = render(networkPolicy={"enabled": True, "metricsFrom": [{"podSelector": {}}]})

    (metrics,) = only(documents, "NetworkPolicy")["spec"]["ingress"]
    allowed = metrics["from"][-1]["podSelector"]["matchLabels"]
    labels = only(documents, "Pod")["metadata"]["labels"]
    assert allowed.items() <= labels.items()
    # And it is none of the pods that it asks.
    assert not OWN.items() <= labels.items()


def test_a_service_monitor_finds_the_service(render: Render) -> None:
    monitor = {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"}
    documents = render(metrics={"serviceMonitor": monitor})
    found, service = only(documents, "ServiceMonitor"), only(documents, "Service")

    selector = found["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    (endpoint,) = found["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    # The label namespace is the experiment's.
    assert endpoint["honorLabels"] is True
    assert endpoint["interval"] == "15s"
    assert found["metadata"]["labels"]["release"] == "prometheus"


def test_without_being_asked_nothing_of_the_prometheus_operator(render: Render) -> None:
    kinds = {document["apiVersion"] for document in render()}

    assert not [kind for kind in kinds if kind.startswith("monitoring.")]
    assert of_kind(render(), "ConfigMap") == []


def test_alerts_are_about_this_release(render: Render) -> None:
    rule = {"enabled": True, "labels": {"role": "alerts"}, "alertLabels": {"team": "ml"}}
    found = only(render(metrics={"prometheusRule": rule}), "PrometheusRule")

    assert found["metadata"]["labels"]["role"] == "alerts"
    rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    for alert in rules:
        assert 'job="ab-modelexperiment"' in alert["expr"], alert["alert"]
        assert alert["labels"]["team"] == "ml"
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"].keys() == {"summary", "description"}
    other = only(render(metrics={"prometheusRule": {**rule, "job": "mine"}}), "PrometheusRule")
    assert 'job="mine"' in other["spec"]["groups"][0]["rules"][0]["expr"]


def test_the_dashboard_is_found_by_its_label(render: Render) -> None:
    asked = {"enabled": True, "annotations": {"grafana_folder": "ML"}}
    found = only(render(metrics={"dashboard": asked}), "ConfigMap")

    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "ML"}
    dashboard = json.loads(found["data"]["modelexperiment.json"])
    assert dashboard["uid"] == "modelexperiment"
    # Braces that are Grafana's are not taken for Helm's.
    assert "{{model_version}}" in found["data"]["modelexperiment.json"]


def test_labels_of_ones_own_are_on_everything_and_displace_nothing(render: Render) -> None:
    labels = {"team": "ml", "app.kubernetes.io/name": "mine"}
    for document in render(commonLabels=labels, **ALL):
        found = document["metadata"]["labels"]
        assert found["team"] == "ml", document["kind"]
        assert found["app.kubernetes.io/name"] != "mine", document["kind"]


def test_an_account_that_exists_is_used_and_not_made(render: Render) -> None:
    documents = render(serviceAccount={"create": False, "name": "given"})

    assert of_kind(documents, "ServiceAccount") == []
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "given"
    for binding in of_kind(documents, "RoleBinding", "ClusterRoleBinding"):
        assert binding["subjects"][0]["name"] == "given"


def test_a_test_of_helm_is_as_confined_as_the_operator(render: Render) -> None:
    documents = render()
    test = only(documents, "Pod")
    (container,) = test["spec"]["containers"]
    (operator,) = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]

    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert container["image"] == operator["image"]
    assert container["securityContext"] == operator["securityContext"]
    assert test["spec"]["automountServiceAccountToken"] is False
    assert container["command"][-1] == "http://ab-modelexperiment.ops:8080"
