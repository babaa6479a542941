"""Faults of everything that the operator stands on: no request is lost, and none counts twice."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcluster import Cluster
from tests.e2e import chart
from tests.e2e.counting import counted_exactly, started, totals
from tests.e2e.flaky_api import FlakyApi
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

pytestmark = pytest.mark.e2e

LEASE = "5s"


class Kubelet:
    """Starts an operator again when it has ended, as a kubelet does with a container."""

    def __init__(self, process: OperatorProcess) -> None:
        self.process = process
        self.restarts = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            if not self.process.runs:
                self.restarts += 1
                self.process.start()

    def stop(self) -> None:
        """Let it end in order, even one that is paused."""
        self._stop.set()
        self._thread.join()
        if self.process.runs:
            self.process.signal(signal.SIGCONT)
            self.process.stop()

    def end(self) -> None:
        """kill -9, where it still runs."""
        self._stop.set()
        self._thread.join()
        if self.process.runs:
            self.process.kill()


Start = Callable[..., Kubelet]


@pytest.fixture
def start(cluster: Cluster, operator: OperatorProcess, tmp_path: Path) -> Iterator[Start]:
    """Start operators in the place of the one that all tests share."""
    operator.stop()
    account = cluster.service_account_kubeconfig(chart.NAMESPACE, chart.RELEASE)
    started: list[Kubelet] = []

    def run(name: str, kubeconfig: Path = account) -> Kubelet:
        given = {**chart.environment(cluster), "POD_NAME": name, "LEASE_DURATION": LEASE}
        started.append(Kubelet(OperatorProcess(kubeconfig, tmp_path / name, **given)))
        return started[-1]

    try:
        yield run
        for one in started:
            one.stop()
    finally:
        # Whatever has gone wrong, the tests that follow need theirs.
        for one in started:
            one.end()
        written = len(operator.log)
        operator.start()
        eventually(lambda: "leading as" in operator.log[written:], "it leads again", timeout=60)


@pytest.fixture
def api(cluster: Cluster, operator: OperatorProcess) -> Iterator[FlakyApi]:
    """A proxy before the API server, for an operator with the chart's rights."""
    account = cluster.service_account_kubeconfig(chart.NAMESPACE, chart.RELEASE)
    made = FlakyApi(cluster, account)
    yield made
    made.close()


def leads(one: Kubelet, times: int = 1) -> None:
    """Wait until it has begun to lead so often."""
    process = one.process
    eventually(lambda: process.log.count("leading as") >= times, "it leads", timeout=60)


def counts_again(lab: Lab, since: dict[str, int]) -> float:
    """Wait until what is served by now is counted; gives how long that took, in seconds."""
    began = time.monotonic()
    served = sum(server.served - since[v] for v, server in lab.servers.items())
    # Right after a fault the API server may not answer yet: that is no total at all.
    eventually(lambda: sum(totals(lab).values()) >= served, "it counts again", 60)
    return time.monotonic() - began


def test_a_leader_that_was_paused_wakes_up_beside_its_successor(start: Start, lab: Lab) -> None:
    leader = start("first")
    leads(leader)
    follower = start("second")
    before = started(lab)
    with Traffic(lab, 100):
        for _ in range(2):
            time.sleep(1.7)
            led, ended = follower.process.log.count("leading as"), leader.restarts
            leader.process.signal(signal.SIGSTOP)
            leads(follower, led + 1)
            time.sleep(2.3)
            leader.process.signal(signal.SIGCONT)
            began = time.monotonic()
            eventually(lambda k=leader, n=ended: k.restarts > n, "it ends, and stands by")
            print(f"ended {time.monotonic() - began:.1f} s after it woke up")
            leader, follower = follower, leader
    counted_exactly(lab, before)


def test_an_api_server_and_an_etcd_that_restart_or_hang(
    cluster: Cluster, start: Start, lab: Lab
) -> None:
    kubelet = start("alone")
    leads(kubelet)
    before = started(lab)
    with Traffic(lab, 100, longest=300):
        for part in ("apiserver", "etcd"):
            cluster.kill(part)
            time.sleep(2)
            cluster.restart(part)
            print(f"{part} restarted: counts again after {counts_again(lab, before):.1f} s")
        for part in ("etcd", "apiserver"):
            cluster.pause(part)
        time.sleep(15)
        for part in ("etcd", "apiserver"):
            cluster.resume(part)
        print(f"both hung: counts again after {counts_again(lab, before):.1f} s")
    print(f"the operator was restarted {kubelet.restarts} times")
    counted_exactly(lab, before)


def test_a_watch_that_stalls_and_an_api_server_that_refuses(
    api: FlakyApi, start: Start, lab: Lab
) -> None:
    kubelet = start("through-proxy", api.kubeconfig)
    leads(kubelet)
    before = started(lab)
    with Traffic(lab, 100):
        api.stall()
        halves = [{"modelVersion": v, "percent": 50} for v in ("v1", "v2")]
        lab.apply(lab.experiment(traffic=halves))
        # No watch tells of the edit: the next poll sees it.
        lab.gateway.wait_for_weights("predict", {"v1": 50, "v2": 50})
        assert api.seen["stalled"]

        api.throttles = True
        time.sleep(10)
        api.throttles = False
        assert api.seen["429"] >= 3

        api.gone = 4
        api.end_watches()
        eventually(lambda: api.gone == 0, "four watches were told 410")
        lab.apply(lab.experiment())
        lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    print(f"{dict(api.seen)}; the operator was restarted {kubelet.restarts} times")
    counted_exactly(lab, before)


def test_a_prometheus_that_comes_back_empty_loses_only_what_it_had_not_told(lab: Lab) -> None:
    cluster = lab.cluster
    before = started(lab)

    def served() -> dict[str, int]:
        return {v: server.served - before[v] for v, server in lab.servers.items()}

    with Traffic(lab, 100):
        time.sleep(4)
        cluster.kill("prometheus")
        down = served()
        time.sleep(1)
        counted = totals(lab)
        assert min(counted.values()) > 0
        shutil.rmtree(cluster.directory / "prometheus")
        cluster.restart("prometheus")
        eventually(lambda: lab.condition("MetricsReady")["reason"] == "HistoryLost", "it is said")
        time.sleep(3)
        back = served()
        time.sleep(2)
    time.sleep(3)
    lost = {v: count - totals(lab)[v] for v, count in served().items()}
    print(f"lost {lost}; counted {counted} until then, served {down} by then, {back} by its return")
    for version, count in lost.items():
        assert down[version] - counted[version] <= count <= back[version] - counted[version]
    lab.send(300)
    counted_exactly(lab, {v: before[v] + count for v, count in lost.items()})
    assert "was served after" in dict(lab.events())["HistoryLost"]
