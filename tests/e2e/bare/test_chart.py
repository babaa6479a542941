"""The chart in a real cluster: what it lets the operator do, and what it leaves behind."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster, ClusterError
from localcluster.crds import wait_established
from tests.crds.cases import manifest
from tests.e2e.bare.conftest import CRD, ROOT
from tests.e2e.lab import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_crd")]

CHART = str(ROOT / "helm" / "modelexperiment")
RELEASE = "ab"
# The release's name is made longer by the chart's, which it does not contain.
NAME = "ab-modelexperiment"

Install = Callable[..., str]


@pytest.fixture
def ops(cluster: Cluster) -> Iterator[str]:
    """The release's namespace: one in which pods must keep to the strictest standard."""
    name = f"ops-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", name, level)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def install(cluster: Cluster, ops: str) -> Iterator[Install]:
    """`helm install` with these settings; gives what it tells."""

    def run(*settings: str) -> str:
        flags = [part for setting in settings for part in ("--set", setting)]
        return cluster.helm("install", RELEASE, CHART, "-n", ops, "--set", "replicas=0", *flags)

    yield run
    with suppress(ClusterError):
        cluster.helm("uninstall", RELEASE, "-n", ops)


def rights(cluster: Cluster, account: str, namespace: str) -> set[tuple[str, str, str]]:
    """All that an account may do in a namespace, beyond what every ServiceAccount may."""
    anyone = "system:serviceaccount:default:anyone"
    return told_rights(cluster, account, namespace) - told_rights(cluster, anyone, namespace)


def told_rights(cluster: Cluster, account: str, namespace: str) -> set[tuple[str, str, str]]:
    """What the API server says of an account, as (resource, verb, name or empty)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    # kubectl's own validation would read the CRDs, with the rights of the account.
    ask = ("create", "-f", "-", "-o", "json", "--validate=false", f"--as={account}")
    answer = json.loads(cluster.kubectl(*ask, input=json.dumps(review)))
    assert not answer["status"]["incomplete"]
    return {
        (resource, verb, name)
        for rule in answer["status"]["resourceRules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def unnamed(*pairs: str) -> set[tuple[str, str, str]]:
    return {(resource, verb, "") for resource, verb in (pair.split() for pair in pairs)}


SERVING = unnamed(
    "modelexperiments get",
    "modelexperiments list",
    "modelexperiments watch",
    "modelexperiments patch",
    "modelexperiments/status update",
    "virtualservices get",
    "virtualservices list",
    "virtualservices watch",
    "virtualservices patch",
    "httproutes get",
    "httproutes list",
    "httproutes watch",
    "httproutes patch",
    "destinationrules list",
    "envoyfilters get",
    "envoyfilters list",
    "envoyfilters watch",
    "envoyfilters create",
    "envoyfilters patch",
    "envoyfilters delete",
    "gateways get",
    "services get",
    "namespaces get",
    "pods list",
    "endpointslices list",
    "serviceentries list",
    "events create",
    "events patch",
)
DISCOVERY = unnamed("customresourcedefinitions list", "customresourcedefinitions watch")
LEASE = unnamed("leases create") | {
    ("leases", "get", "modelexperiment"),
    ("leases", "update", "modelexperiment"),
}
FORBIDDEN = [
    "get secrets",
    "get pods",
    "watch pods",
    "patch serviceentries.networking.istio.io",
    "create pods",
    "create modelexperiments.experiments.mlops.dev",
    "update modelexperiments.experiments.mlops.dev",
    "delete modelexperiments.experiments.mlops.dev",
    "create virtualservices.networking.istio.io",
    "update virtualservices.networking.istio.io",
    "delete virtualservices.networking.istio.io",
    "patch destinationrules.networking.istio.io",
    "update envoyfilters.networking.istio.io",
    "create gateways.networking.istio.io",
    "list services",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "impersonate users",
]


def may(cluster: Cluster, account: str, namespace: str, right: str) -> bool:
    arguments = ("auth", "can-i", *right.split(), f"--as={account}", "-n", namespace)
    return cluster.kubectl(*arguments, check=False).strip() == "yes"


def test_rights_in_all_namespaces(
    cluster: Cluster, install: Install, ops: str, namespace: str
) -> None:
    install()
    account = f"system:serviceaccount:{ops}:{NAME}"

    assert rights(cluster, account, namespace) == SERVING | DISCOVERY
    assert rights(cluster, account, ops) == SERVING | DISCOVERY | LEASE
    assert [right for right in FORBIDDEN if may(cluster, account, namespace, right)] == []
    assert may(cluster, account, namespace, "patch virtualservices.networking.istio.io")


def test_rights_in_some_namespaces(
    cluster: Cluster, install: Install, ops: str, namespace: str
) -> None:
    install(f"watchNamespaces={{{namespace}}}", "alerts.secretNames={chat}")
    account = f"system:serviceaccount:{ops}:{NAME}"

    assert rights(cluster, account, namespace) == SERVING | {("secrets", "get", "chat")}
    assert rights(cluster, account, ops) == LEASE
    assert rights(cluster, account, "default") == set()
    made = ("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert cluster.kubectl(*made, "-l", f"app.kubernetes.io/instance={RELEASE}") == ""


def test_uninstalling_keeps_the_experiments(
    cluster: Cluster, install: Install, ops: str, namespace: str
) -> None:
    install()
    wait_established(cluster.kubectl, CRD)
    given = manifest()
    given["metadata"]["namespace"] = namespace
    cluster.kubectl("create", "-f", "-", input=json.dumps(given))

    cluster.helm("uninstall", RELEASE, "-n", ops)

    kept = ("get", "mexp", "-n", namespace, "-o", "name")
    assert "fraud-v2" in cluster.kubectl(*kept)
    gone = ("get", "clusterrole,clusterrolebinding", "-o", "name")
    assert NAME not in cluster.kubectl(*gone)
    assert cluster.kubectl("get", "deployment,role,sa", "-n", ops, "-o", "name").split() == [
        "serviceaccount/default"
    ]
    install()
    assert "fraud-v2" in cluster.kubectl(*kept)


# Values that the version before did not have, by the object that they are in.
NEW = {
    "": (
        "podDisruptionBudget",
        "networkPolicy",
        "commonLabels",
        "comparer",
        "terminationGracePeriodSeconds",
    ),
    "prometheus": ("access",),
    "metrics": ("serviceMonitor", "prometheusRule", "dashboard"),
}


@pytest.fixture
def older(tmp_path: Path) -> str:
    """A chart as a version before could have been: fewer values, and a definition with a Stage."""
    chart = tmp_path / "modelexperiment"
    new = ("networkpolicy", "poddisruption", "servicemonitor", "prometheusrule", "dashboard")
    for path in Path(CHART).rglob("*"):
        if path.is_dir() or path.name.startswith(new) or path.parent.name in ("tests", "comparer"):
            continue
        text = path.read_text().replace("name: Phase", "name: Stage")
        for value in (".Values.commonLabels", ".Values.prometheus.access"):
            text = text.replace(value, "(dict)")
        copy = chart / path.relative_to(CHART)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    (chart / "values.schema.json").unlink()
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for path_, names in NEW.items():
        for name in names:
            del (values[path_] if path_ else values)[name]
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    return str(chart)


def test_an_upgrade_from_an_older_version_keeps_what_was_set_and_all_experiments(
    cluster: Cluster, older: str, ops: str, namespace: str
) -> None:
    own = ("--set", "replicas=0", "--set", "prometheus.url=http://own:9090")
    cluster.helm("install", RELEASE, older, "-n", ops, *own)
    wait_established(cluster.kubectl, CRD)
    names = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    assert "Stage" in cluster.kubectl("get", "crd", CRD, "-o", names).split()
    given = manifest()
    given["metadata"]["namespace"] = namespace
    cluster.kubectl("create", "-f", "-", input=json.dumps(given))
    before = cluster.kubectl("get", "mexp", "-n", namespace, "-o", "json")

    # Helm's older flag leaves out the defaults of what is new, which is said in place of a crash.
    with pytest.raises(ClusterError, match="missing propert"):
        cluster.helm("upgrade", RELEASE, CHART, "-n", ops, "--reuse-values")
    cluster.helm("upgrade", RELEASE, CHART, "-n", ops, "--reset-then-reuse-values")

    columns = cluster.kubectl("get", "crd", CRD, "-o", names).split()
    assert "Phase" in columns and "Stage" not in columns
    assert cluster.kubectl("get", "mexp", "-n", namespace, "-o", "json") == before
    deployment = json.loads(cluster.kubectl("get", "deployment", NAME, "-n", ops, "-o", "json"))[
        "spec"
    ]
    assert deployment["replicas"] == 0
    environment = deployment["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PROMETHEUS_URL", "value": "http://own:9090"} in environment
    cluster.helm("uninstall", RELEASE, "-n", ops)


def test_all_that_the_chart_can_make_is_accepted(
    cluster: Cluster, install: Install, ops: str
) -> None:
    """But for the Prometheus Operator's own kinds, whose definitions are not here."""
    wanted = ("networkPolicy", "metrics.dashboard", "comparer")
    install(*[f"{name}.enabled=true" for name in wanted], "commonLabels.team=ml")
    cluster.helm("upgrade", RELEASE, CHART, "-n", ops, "--reuse-values", "--set", "replicas=2")

    made = cluster.kubectl(
        "get", "deploy,netpol,pdb,configmap", "-n", ops, "-l", "team=ml", "-o", "name"
    )
    assert made.split() == [
        f"deployment.apps/{NAME}",
        f"deployment.apps/{NAME}-comparer",
        f"networkpolicy.networking.k8s.io/{NAME}",
        f"networkpolicy.networking.k8s.io/{NAME}-comparer",
        f"poddisruptionbudget.policy/{NAME}",
        f"configmap/{NAME}-dashboard",
    ]


def test_it_says_what_to_do_next(cluster: Cluster, install: Install, ops: str) -> None:
    told = install()

    assert f"kubectl -n {ops} rollout status deployment/{NAME}" in told
    assert "no experiment starts without one" in told
    flags = ("-n", ops, "--reset-then-reuse-values", "--set", "prometheus.url=http://prometheus")
    assert "no experiment starts" not in cluster.helm("upgrade", RELEASE, CHART, *flags)


def test_the_pods_meet_the_restricted_standard(
    cluster: Cluster, install: Install, ops: str
) -> None:
    install("comparer.enabled=true")
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
    create = ("create", "-n", ops, "--dry-run=server", "-o", "name", "-f", "-")

    for name in (f"{NAME}-comparer", NAME):
        found = cluster.kubectl("get", "deployment", name, "-n", ops, "-o", "json")
        pod["spec"] = json.loads(found)["spec"]["template"]["spec"]
        assert cluster.kubectl(*create, input=json.dumps(pod)).strip() == "pod/probe"
    test = cluster.helm("get", "hooks", RELEASE, "-n", ops)
    assert cluster.kubectl(*create, input=test).strip() == f"pod/{NAME}-test"

    # The namespace does refuse what is not confined, so the answer above means something.
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        cluster.kubectl(*create, input=json.dumps(pod))


def test_users_rights_come_with_the_clusters_own_roles(
    cluster: Cluster, install: Install, namespace: str
) -> None:
    install()
    for user, role in (("viewer", "view"), ("editor", "edit")):
        bind = ("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}")
        cluster.kubectl(*bind, "-n", namespace)
    experiments = "modelexperiments.experiments.mlops.dev"

    eventually(
        lambda: may(cluster, "editor", namespace, f"create {experiments}"),
        "the role edit has taken in the chart's",
    )
    eventually(
        lambda: may(cluster, "viewer", namespace, f"list {experiments}"),
        "the role view has taken in the chart's",
    )
    assert not may(cluster, "viewer", namespace, f"create {experiments}")
    assert may(cluster, "editor", namespace, f"get {experiments}")
    # What the operator says of an experiment is the operator's.
    assert not may(cluster, "editor", namespace, f"patch {experiments} --subresource=status")


def test_plain_manifests_install_the_same(cluster: Cluster) -> None:
    """manifests/install.yaml and then manifests/example.yaml, as the documentation says."""
    documents = (ROOT / "manifests" / "install.yaml").read_text()
    paused = documents.replace("  replicas: 2\n", "  replicas: 0\n")
    assert paused != documents

    cluster.apply(paused)
    wait_established(cluster.kubectl, CRD)
    cluster.kubectl("create", "namespace", "fraud")
    cluster.kubectl("apply", "-f", str(ROOT / "manifests" / "example.yaml"))

    account = "system:serviceaccount:modelexperiment-system:modelexperiment"
    assert rights(cluster, account, "fraud") == SERVING | DISCOVERY
    assert "fraud-v2" in cluster.kubectl("get", "mexp", "-n", "fraud", "-o", "name")
    cluster.kubectl("delete", "namespace", "fraud", "--wait=false")
    for document in yaml.safe_load_all(documents):
        if document["kind"] in ("ClusterRole", "ClusterRoleBinding", "Namespace"):
            kind, name = document["kind"], document["metadata"]["name"]
            cluster.kubectl("delete", kind, name, "--wait=false")
