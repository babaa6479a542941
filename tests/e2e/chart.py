"""The operator as the chart installs it: its rights, and its Deployment's environment."""

from __future__ import annotations

import json
from pathlib import Path

from localcluster import Cluster
from localcluster.crds import wait_established
from localcluster.ports import free_ports
from tests.e2e.lab import OperatorProcess

CHART = Path(__file__).parents[2] / "helm" / "modelexperiment"
NAMESPACE = "modelexperiment-system"
RELEASE = "modelexperiment"
# Nothing listens there: what an unreachable Prometheus looks like.
DEAD_PROMETHEUS = "http://127.0.0.1:1"
# Where a test may put one that fails, and an MLflow: nothing listens there but for such a test.
FAULTY_PORT, MLFLOW_PORT, PROBE_PORT = free_ports(3)
FAULTY_PROMETHEUS = f"http://127.0.0.1:{FAULTY_PORT}"
MLFLOW_URL = f"http://127.0.0.1:{MLFLOW_PORT}"
# Where tests let the operator ask the proxy; `Front` leads from there to an Envoy.
PROBE = f"http://127.0.0.1:{PROBE_PORT}"


def install(cluster: Cluster, settle: str = "1s") -> None:
    """`helm install`, with the settings that suit Prometheus on the same machine."""
    cluster.helm(
        "install",
        RELEASE,
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        "replicas=0",
        "--set",
        f"prometheus.url={cluster.prometheus_url}",
        "--set",
        f"prometheus.allowedUrls={{{DEAD_PROMETHEUS},{FAULTY_PROMETHEUS}}}",
        "--set",
        f"prometheus.settle={settle}",
        "--set",
        f"mlflow.url={MLFLOW_URL}",
        "--set",
        f"assignment.probeUrls={{{PROBE}}}",
    )
    wait_established(cluster.kubectl)


def upgrade(cluster: Cluster, *settings: str) -> None:
    """`helm upgrade` with these settings beside those that there are."""
    flags = [part for setting in settings for part in ("--set", setting)]
    cluster.helm("upgrade", RELEASE, str(CHART), "-n", NAMESPACE, "--reuse-values", *flags)


def environment(cluster: Cluster) -> dict[str, str]:
    """The environment that the chart's Deployment gives the operator's container."""
    found = json.loads(cluster.kubectl("get", "deployment", RELEASE, "-n", NAMESPACE, "-o", "json"))
    container = found["spec"]["template"]["spec"]["containers"][0]
    given = {e["name"]: e["value"] for e in container["env"] if "value" in e}
    # No kubelet fills this in; and the port is this machine's, not a pod's own.
    del given["METRICS_PORT"]
    return {**given, "POD_NAMESPACE": NAMESPACE}


def start(cluster: Cluster, log: Path) -> OperatorProcess:
    """The operator with a token of the chart's ServiceAccount; Prometheus scrapes it."""
    account = cluster.service_account_kubeconfig(NAMESPACE, RELEASE)
    (port,) = free_ports(1)
    cluster.scrape(RELEASE, [f"127.0.0.1:{port}"])
    return OperatorProcess(account, log, METRICS_PORT=str(port), **environment(cluster))
