"""The demo's own processes: one model server per version, and the operator."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from demo.errors import DemoError
from demo.platforms import Platform
from demo.server import READY
from localcluster.processes import Processes

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "modelexperiment"
RELEASE = "flights-demo"
OPERATOR = "operator"
OPERATOR_NAMESPACE = "flights-demo-operator"
CRD = "modelexperiments.experiments.mlops.dev"
STARTED_WITHIN = 60.0


def start_servers(
    processes: Processes, models: Mapping[str, Path], platform: Platform
) -> dict[str, str]:
    """Start a model server per version; the host:port where each listens."""
    for (version, model), port in zip(models.items(), platform.model_ports, strict=True):
        argv = [sys.executable, "-m", "demo.server", "--model", str(model)]
        argv += ["--address", platform.model_address, "--port", str(port)]
        processes.spawn(server_name(version), argv, {"PYTHONPATH": str(ROOT)})
    return {version: _listening(processes, server_name(version)) for version in models}


def server_name(version: str) -> str:
    """The process name of a version's server."""
    return f"model-{version}"


def _listening(processes: Processes, name: str) -> str:
    """Wait for the line in which a server says where it listens."""
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline:
        for line in processes.log(name).read_text().splitlines():
            if line.startswith(f"{READY} "):
                return line.split()[1]
        require_running(processes)
        time.sleep(0.05)
    raise DemoError(f"{name} does not start:\n{processes.log_tail(name)}")


def install_operator(processes: Processes, platform: Platform) -> None:
    """Install the chart, and run the operator here with the settings and rights of the chart.

    The chart's Deployment has no replicas: this machine has no kubelet to run a pod, and on a
    cluster that has one, a second operator would stand by behind the Lease of the first.
    """
    platform.helm(
        "install",
        RELEASE,
        str(CHART),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace"),
        *("--set", "replicas=0"),
        *("--set", f"prometheus.url={platform.prometheus_url}"),
        # The model servers answer a scrape within milliseconds, so little need be waited for.
        *("--set", "prometheus.settle=2s"),
        # The gateway is not in the experiment's namespace: Istio's root one reaches all proxies.
        *("--set", "assignment.filterNamespace=istio-system"),
        *("--set", f"crds.install={str(crd_owner(platform) in (None, RELEASE)).lower()}"),
    )
    selector = f"app.kubernetes.io/instance={RELEASE}"
    deployments = platform.kubectl(
        "get", "deployments", "-n", OPERATOR_NAMESPACE, "-l", selector, "-o", "json"
    )
    pod = json.loads(deployments)["items"][0]["spec"]["template"]["spec"]
    account = pod["serviceAccountName"]
    kubeconfig = platform.service_account_kubeconfig(OPERATOR_NAMESPACE, account)
    environment = literal_environment(pod["containers"][0]["env"]) | {
        "KUBECONFIG": str(kubeconfig),
        "POD_NAMESPACE": OPERATOR_NAMESPACE,
        "METRICS_PORT": "0",
        # This checkout's operator, whichever is installed.
        "PYTHONPATH": str(ROOT / "operator"),
    }
    processes.spawn(OPERATOR, [sys.executable, "-m", "modelexperiment", "run"], environment)


def crd_owner(platform: Platform) -> str | None:
    """The Helm release that the CRD belongs to, "" for none, and None where there is no CRD."""
    text = platform.kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "json")
    if not text:
        return None
    annotations = json.loads(text)["metadata"].get("annotations", {})
    return str(annotations.get("meta.helm.sh/release-name", ""))


def literal_environment(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The variables of a container that have a value of their own, not one from elsewhere."""
    return {entry["name"]: entry.get("value", "") for entry in entries if "valueFrom" not in entry}


def require_running(processes: Processes) -> None:
    """Raise DemoError with the end of its output where one of the processes has ended."""
    for name in processes.names():
        if not processes.alive(name):
            raise DemoError(f"{name} has ended:\n{processes.log_tail(name)}")
