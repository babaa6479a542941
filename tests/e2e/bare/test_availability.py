"""Two operators: who works, who stands by, how long a change takes, and what the probes say."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from localcluster import Cluster, ClusterError
from localcluster.crds import wait_established
from localcluster.ports import free_ports
from localcluster.web import request
from tests.e2e.bare.conftest import CRD, ROOT
from tests.e2e.lab import OperatorProcess, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_crd")]

CHART = str(ROOT / "helm" / "modelexperiment")
NAME = "ab-modelexperiment"
# The defaults: of the Lease, and of how often it is looked at.
LEASE_SECONDS = 15
LOOK = LEASE_SECONDS / 8


class Pod:
    """One operator of two, with its port."""

    def __init__(self, name: str, kubeconfig: Path, log: Path, **environment: str) -> None:
        (self.port,) = free_ports(1)
        self.name = name
        self.process = OperatorProcess(
            kubeconfig,
            log,
            POD_NAME=name,
            METRICS_PORT=str(self.port),
            **environment,
        )

    def probe(self, path: str) -> str:
        """What a probe is told: "ok ..." where it succeeds, else the status and why."""
        try:
            return request(f"http://127.0.0.1:{self.port}{path}").decode().strip()
        except ClusterError as error:
            return str(error).partition(f"{path}: ")[2]

    @property
    def leads(self) -> bool:
        """Whether it says that it is the leader."""
        return "\nmodelexperiment_leader 1.0\n" in self.probe("/metrics")


Start = Callable[..., Pod]


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Start an operator with the rights of the chart."""
    settings = ("--set", "replicas=0", "--set", f"watchNamespaces={{{namespace}}}")
    cluster.helm("install", "ab", CHART, "-n", namespace, *settings)
    wait_established(cluster.kubectl, CRD)
    kubeconfig = cluster.service_account_kubeconfig(namespace, NAME)
    started: list[Pod] = []

    def run(name: str, **environment: str) -> Pod:
        given = {"POD_NAMESPACE": namespace, "WATCH_NAMESPACES": namespace, **environment}
        started.append(Pod(name, kubeconfig, tmp_path / name, **given))
        return started[-1]

    yield run
    for pod in started:
        pod.process.stop()
    cluster.helm("uninstall", "ab", "-n", namespace)


def hook(cluster: Cluster, namespace: str) -> list[str]:
    """What the pod of `helm test` runs; no kubelet runs it here."""
    pod = yaml.safe_load(cluster.helm("get", "hooks", "ab", "-n", namespace))
    (container,) = pod["spec"]["containers"]
    command: list[str] = container["command"]
    return command


def next_leader(pods: list[Pod]) -> tuple[Pod, float]:
    """Who leads next, and after how many seconds."""
    began = time.monotonic()
    found: list[Pod] = eventually(
        lambda: [pod for pod in pods if pod.leads], "one of them leads", timeout=60
    )
    return found[0], time.monotonic() - began


def test_who_stands_by_takes_over_at_once_after_an_orderly_end_and_soon_after_a_crash(
    cluster: Cluster, namespace: str, start: Start
) -> None:
    first = start("first")
    eventually(lambda: first.probe("/readyz") == "ok", "the first works", timeout=60)
    others = [start("second"), start("third")]
    standing_by = "ok, standing by: first holds the Lease"
    for pod in others:
        eventually(lambda p=pod: p.probe("/readyz") == standing_by, "it stands by", timeout=60)
        assert pod.probe("/healthz") == "ok"
        # A follower tells of no experiment, not even that there is none.
        assert "modelexperiment_experiments{" not in pod.probe("/metrics")
    assert [pod.leads for pod in (first, *others)] == [True, False, False]
    assert "modelexperiment_experiments{" in first.probe("/metrics")
    test_of_helm = hook(cluster, namespace)
    test_of_helm[-1] = f"http://127.0.0.1:{others[0].port}"
    done = subprocess.run(test_of_helm, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"ready: {standing_by}\n"

    assert first.process.stop() == 0
    leader, orderly = next_leader(others)
    assert "gave the Lease modelexperiment back" in first.process.log
    others.remove(leader)
    lease = cluster.kubectl("get", "lease", "modelexperiment", "-n", namespace, "-o", "json")
    assert json.loads(lease)["spec"]["holderIdentity"] == leader.name

    leader.process.kill()
    _, crash = next_leader(others)
    print(f"takeover: {orderly:.1f} s after an orderly end, {crash:.1f} s after a crash")
    # Until the next look at the Lease; the rest is a loaded machine's slowness.
    assert orderly < LOOK + 5
    assert crash < LEASE_SECONDS + LOOK + 5


def test_who_may_not_watch_is_not_ready_and_says_why(namespace: str, start: Start) -> None:
    pod = start("blind", WATCH_NAMESPACES="default")

    path = "/apis/experiments.mlops.dev/v1alpha1/namespaces/default/modelexperiments"
    eventually(
        lambda: pod.probe("/readyz") == f"503 {path} can't be watched: the API server answers 403",
        "not ready, with the reason",
    )
    # To start it again would not help it.
    assert pod.probe("/healthz") == "ok"


def test_who_can_not_reach_the_api_server_is_not_ready(start: Start, tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{nobody}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    content = {"clusters": [cluster], "contexts": [context], "current-context": "c"}
    kubeconfig.write_text(json.dumps({**content, "users": [{"name": "u", "user": {}}]}))
    pod = start("alone", KUBECONFIG=str(kubeconfig))

    eventually(
        lambda: pod.probe("/readyz") == "503 starting: the API server has not answered yet",
        "not ready, with the reason",
    )
    eventually(lambda: 'api_errors_total{kind="unreachable"} 0' not in pod.probe("/metrics"), "x")
    assert 'modelexperiment_api_errors_total{kind="unreachable"}' in pod.probe("/metrics")
