"""What the chart makes: the pod's confinement, and rights no wider than the mode needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from modelexperiment.core.crd import build_crd
from tests.helm.conftest import ROOT, Document, Render

pytestmark = pytest.mark.e2e


# Every object that the chart can make.
ALL: Document = {
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {"enabled": True},
    "comparer": {"enabled": True, "serviceMonitor": {"enabled": True}},
}


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def test_the_dashboard_is_off_and_then_the_pods_own(render: Render) -> None:
    proxy = {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 4180}]}
    documents = render(dashboard={"enabled": True}, extraContainers=[proxy])

    (deployment,) = of_kind(documents, "Deployment")
    operator, beside = deployment["spec"]["template"]["spec"]["containers"]
    assert beside == proxy
    # No port of the pod, and none of the Service, leads to it.
    assert [port["name"] for port in operator["ports"]] == ["http-metrics"]
    (service,) = of_kind(documents, "Service")
    assert [port["name"] for port in service["spec"]["ports"]] == ["http-metrics"]
    assert {"name": "DASHBOARD_PORT", "value": "0"} in of_kind(render(), "Deployment")[0]["spec"][
        "template"
    ]["spec"]["containers"][0]["env"]


def rights(roles: list[Document]) -> Iterator[tuple[str, str]]:
    """Yield every right of some roles as (resource, verb)."""
    for role in roles:
        for rule in role["rules"]:
            for resource in rule["resources"]:
                yield from ((resource, verb) for verb in rule["verbs"])


SERVING = {
    ("modelexperiments", "get"),
    ("modelexperiments", "list"),
    ("modelexperiments", "watch"),
    ("modelexperiments", "patch"),
    ("modelexperiments/status", "update"),
    ("virtualservices", "get"),
    ("virtualservices", "list"),
    ("virtualservices", "watch"),
    ("virtualservices", "patch"),
    ("httproutes", "get"),
    ("httproutes", "list"),
    ("httproutes", "watch"),
    ("httproutes", "patch"),
    ("destinationrules", "list"),
    ("envoyfilters", "get"),
    ("envoyfilters", "list"),
    ("envoyfilters", "watch"),
    ("envoyfilters", "create"),
    ("envoyfilters", "patch"),
    ("envoyfilters", "delete"),
    ("gateways", "get"),
    ("services", "get"),
    ("namespaces", "get"),
    ("pods", "list"),
    ("endpointslices", "list"),
    ("serviceentries", "list"),
    ("events", "create"),
    ("events", "patch"),
}
LEASE = {("leases", "get"), ("leases", "update"), ("leases", "create")}
DISCOVERY = {("customresourcedefinitions", "list"), ("customresourcedefinitions", "watch")}


def test_the_pod_is_confined(render: Render) -> None:
    (deployment,) = of_kind(render(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]


def test_probes_and_service_meet_the_operators_port(render: Render) -> None:
    documents = render(metrics={"port": 9000})
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (service,) = of_kind(documents, "Service")

    assert container["ports"] == [{"name": "http-metrics", "containerPort": 9000}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http-metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http-metrics"}
    assert service["spec"]["ports"][0]["targetPort"] == "http-metrics"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_rights_for_all_namespaces(render: Render) -> None:
    documents = render(rbac={"aggregate": False})

    assert set(rights(of_kind(documents, "ClusterRole"))) == SERVING | DISCOVERY
    (role,) = of_kind(documents, "Role")
    assert role["metadata"]["namespace"] == "ops"
    assert set(rights([role])) == LEASE


def test_secrets_are_read_by_name_where_the_platform_says_so(render: Render) -> None:
    def rules(names: list[str]) -> list[Document]:
        documents = render(watchNamespaces=["fraud"], alerts={"secretNames": names})
        role = next(d for d in of_kind(documents, "Role") if d["metadata"]["namespace"] == "fraud")
        return [rule for rule in role["rules"] if rule["resources"] == ["secrets"]]

    assert rules([]) == []
    (named,) = rules(["chat", "pager"])
    assert (named["verbs"], named["resourceNames"]) == (["get"], ["chat", "pager"])
    (every,) = rules(["*"])
    assert (every["verbs"], "resourceNames" in every) == (["get"], False)


def test_rights_for_some_namespaces(render: Render) -> None:
    documents = render(watchNamespaces=["fraud", "flights"])

    assert of_kind(documents, "ClusterRole", "ClusterRoleBinding") == []
    roles = {role["metadata"]["namespace"]: role for role in of_kind(documents, "Role")}
    assert roles.keys() == {"fraud", "flights", "ops"}
    assert set(rights([roles["fraud"]])) == set(rights([roles["flights"]])) == SERVING
    assert set(rights([roles["ops"]])) == LEASE


def test_filters_beside_the_proxies_need_rights_there(render: Render) -> None:
    there = {"filterNamespace": "istio-system"}
    documents = render(watchNamespaces=["fraud"], assignment=there)

    roles = {role["metadata"]["namespace"]: role for role in of_kind(documents, "Role")}
    verbs = ("get", "create", "patch", "delete")
    assert set(rights([roles["istio-system"]])) == {
        ("gateways", "get"),
        *(("envoyfilters", verb) for verb in verbs),
    }
    # A namespace that is served has them already, and the ClusterRole has them everywhere.
    for values in ({"watchNamespaces": ["istio-system"]}, {}):
        found = of_kind(render(assignment=there, **values), "Role")
        assert not [role for role in found if role["metadata"]["name"].endswith("-filters")]


def test_a_lease_beside_the_experiments(render: Render) -> None:
    """The release's own namespace may be among those that are served."""
    documents = render(watchNamespaces=["ops"])

    names = [
        (d["metadata"]["namespace"], d["metadata"]["name"]) for d in of_kind(documents, "Role")
    ]
    assert len(names) == len(set(names)) == 2
    assert set(rights(of_kind(documents, "Role"))) == SERVING | LEASE


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["fraud", "flights"]}])
def test_every_binding_gives_the_operator_a_role_of_the_release(
    render: Render, values: Document
) -> None:
    documents = render(**values)

    def place(document: Document) -> str:
        return str(document["metadata"].get("namespace", ""))

    roles = {
        (d["kind"], place(d), d["metadata"]["name"])
        for d in of_kind(documents, "Role", "ClusterRole")
    }
    (account,) = of_kind(documents, "ServiceAccount")
    bound = set()
    for binding in of_kind(documents, "RoleBinding", "ClusterRoleBinding"):
        ref = binding["roleRef"]
        bound.add((ref["kind"], place(binding), ref["name"]))
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "ops"}
        ]
    users = {role for role in roles if role[2].endswith(("-view", "-edit"))}
    assert bound == roles - users
    assert len(users) == (0 if values else 2)


def test_without_leader_election_no_lease(render: Render) -> None:
    documents = render(leaderElection={"enabled": False}, replicas=1)

    assert of_kind(documents, "Role", "RoleBinding") == []
    (deployment,) = of_kind(documents, "Deployment")
    # Nobody waits for anybody: the old pod must be gone before the new one comes.
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_without_rbac_no_rights(render: Render) -> None:
    documents = render(rbac={"create": False}, serviceAccount={"create": False, "name": "given"})

    kinds = {document["kind"] for document in documents}
    assert kinds == {
        "CustomResourceDefinition",
        "Deployment",
        "Pod",
        "PodDisruptionBudget",
        "Service",
    }
    (deployment,) = of_kind(documents, "Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "given"


def test_the_definition_is_the_models_and_is_kept(render: Render) -> None:
    """Its texts hold double braces, which a template must not take for its own."""
    (found,) = of_kind(render(), "CustomResourceDefinition")

    metadata = found.pop("metadata")
    wanted = build_crd()
    assert metadata["name"] == wanted.pop("metadata")["name"]
    assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert found == wanted
    assert of_kind(render(crds={"install": False}), "CustomResourceDefinition") == []


def test_names_fit_whatever_the_release_is_called(render: Render) -> None:
    documents = render(fullnameOverride="x" * 63, **ALL)

    for document in documents:
        if document["kind"] != "CustomResourceDefinition":
            name = document["metadata"]["name"]
            longest = 253 if document["kind"].startswith(("Role", "ClusterRole")) else 63
            assert len(name) <= longest, document["kind"]


def test_plain_manifests_are_complete() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text()))

    assert documents[0]["metadata"]["name"] == "modelexperiment-system"
    assert of_kind(documents, "Pod") == [], "a test of Helm's is not for kubectl apply"
    namespaces = {d["metadata"].get("namespace") for d in documents}
    assert namespaces == {None, "modelexperiment-system"}
    assert not [d for d in documents if "managed-by" in str(d["metadata"])]
    assert len(of_kind(documents, "Deployment", "CustomResourceDefinition", "ClusterRole")) == 5
