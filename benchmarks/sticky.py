"""What a sticky route and its entries cost Envoy, istiod and the API server.

`make bench-sticky` starts the real parts and one route with weights 90/10, and measures it plain
(weights per request, as without assignment) and sticky with 2, 128, 256 and 512 entries (buckets 0,
64, 128, 256). Requests are timed in rounds that alternate between all of them, each against the
plain one of the same round, so that what else the machine does falls on both. The servers answer
with a constant, so that the proxy's share of a request is as large as it can be.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client, config

from localcluster import Cluster, Gateway
from localcluster.manifests import istio_gateway, model_service
from modelexperiment.adapters.envoy_filter import GATEWAY, Place, build
from modelexperiment.adapters.segments import destinations_of
from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.manifest import parse_experiment
from tests.e2e.servers import ModelServer

NAMESPACE, ROUTE = "bench", "predict"
SPLITS = ({"v1": 90.0, "v2": 10.0}, {"v1": 80.0, "v2": 20.0})
WRITES = 10


@dataclass
class Measured:
    """One number of entries."""

    label: str
    buckets: int | None
    """None: weights per request."""
    write_ms: list[float] = field(default_factory=list)
    push_ms: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    """Envoy's CPU for a request, in each round."""
    size: int = 0
    envoy_heap: int = 0
    istiod_cpu_ms: float = 0.0


class Bench:
    """A route behind a real Envoy."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._gateway: Gateway = cluster.gateway("edge", NAMESPACE, {"gateway": NAMESPACE})
        self._servers = {version: ModelServer(version) for version in ("v1", "v2")}
        self._step = 0
        self._filtered = False
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.apply(
            *model_service(
                NAMESPACE,
                f"fraud.{NAMESPACE}.svc.cluster.local",
                {version: server.port for version, server in self._servers.items()},
            ),
            istio_gateway(NAMESPACE, "edge", self._gateway),
        )
        config.load_kube_config(str(cluster.kubeconfig))  # type: ignore[no-untyped-call]
        self._api = client.CustomObjectsApi()
        self._filter = build(_experiment(), NAMESPACE, [self._place()])
        self._filter["metadata"].pop("ownerReferences")

    def _place(self) -> Place:
        return Place(GATEWAY, self._gateway.port, f"*:{self._gateway.port}", ROUTE)

    def take(self, measured: Measured, split: dict[str, float]) -> None:
        """Write the route, and wait until Envoy has it."""
        self._step += 1
        route = self._route(measured, split)
        measured.size = len(json.dumps(route))
        where = ("networking.istio.io", "v1", NAMESPACE, "virtualservices")
        started = time.perf_counter()
        if self._step == 1:
            self._api.create_namespaced_custom_object(*where, route)
        else:
            self._api.patch_namespaced_custom_object(*where, "fraud", {"spec": route["spec"]})
        written = time.perf_counter()
        filters = ("networking.istio.io", "v1alpha3", NAMESPACE, "envoyfilters")
        if self._filtered and measured.buckets is None:
            name = self._filter["metadata"]["name"]
            self._api.delete_namespaced_custom_object(*filters, name)
        elif not self._filtered and measured.buckets is not None:
            self._api.create_namespaced_custom_object(*filters, self._filter)
        self._filtered = measured.buckets is not None
        while self._seen() != str(self._step):
            time.sleep(0.002)
        measured.write_ms.append(1000 * (written - started))
        measured.push_ms.append(1000 * (time.perf_counter() - written))

    def _route(self, measured: Measured, split: dict[str, float]) -> dict[str, Any]:
        def bare(version: str) -> dict[str, Any]:
            return {"destination": {"host": "fraud", "subset": version}}

        if measured.buckets is None:
            entries = [{**bare(v), "weight": int(share)} for v, share in split.items()]
        else:
            table = SegmentTable.initial(split, "v1", measured.buckets)
            entries = destinations_of(table, list(split), bare)
        step = {"response": {"set": {"x-step": str(self._step)}}}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "fraud", "namespace": NAMESPACE},
            "spec": {
                "hosts": ["*"],
                "gateways": ["edge"],
                "http": [{"name": ROUTE, "route": entries, "headers": step}],
            },
        }

    def _seen(self) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=10)
        try:
            connection.request("GET", "/", headers={"x-user-id": "somebody"})
            answer = connection.getresponse()
            answer.read()
            return answer.getheader("x-step")
        except OSError:
            return None
        finally:
            connection.close()

    def ask(self, measured: Measured, requests: int) -> None:
        """Send requests on one connection, and note how long they took."""
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=10)
        taken = []
        cpu = self._cpu(self._gateway.part)
        began = time.perf_counter()
        for number in range(requests):
            started = time.perf_counter()
            connection.request("GET", "/", headers={"x-user-id": f"customer-{number}"})
            connection.getresponse().read()
            taken.append(time.perf_counter() - started)
        measured.seconds.append(time.perf_counter() - began)
        measured.p50_ms.append(1000 * statistics.median(taken))
        measured.cpu_us.append(1e6 * (self._cpu(self._gateway.part) - cpu) / requests)
        connection.close()

    def look(self, measured: Measured) -> None:
        """Note what Envoy holds now."""
        with urllib.request.urlopen(f"{self._gateway.admin_url}/memory", timeout=10) as answer:
            measured.envoy_heap = int(json.load(answer)["allocated"])

    def istiod_cpu(self) -> float:
        """CPU seconds of istiod so far."""
        return self._cpu("istiod")

    def _cpu(self, part: str) -> float:
        record = json.loads((self._cluster.directory / "processes" / f"{part}.json").read_text())
        threads = Path(f"/proc/{record['pid']}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def stop(self) -> None:
        """End the servers; the cluster ends the rest."""
        for server in self._servers.values():
            server.stop()


def _experiment() -> Any:
    return parse_experiment(
        {
            "apiVersion": "experiments.mlops.dev/v1alpha1",
            "kind": "ModelExperiment",
            "metadata": {"name": "bench", "namespace": NAMESPACE},
            "spec": {
                "traffic": [{"modelVersion": v, "percent": p} for v, p in SPLITS[0].items()],
                "route": {"istio": {"virtualService": "fraud", "host": "fraud"}},
                "assignment": {"header": "x-user-id"},
                "metrics": [
                    {
                        "name": "accuracy",
                        "role": "Primary",
                        "proportion": {"successes": "right_total", "trials": "all_total"},
                    }
                ],
            },
        }
    )


def measure(bench: Bench, rounds: int, requests: int) -> list[Measured]:
    """Measure all numbers of entries."""
    plain = Measured("plain", None)
    found = [plain, *(Measured(str(2 * max(1, b)), b) for b in (0, 64, 128, 256))]
    for measured in found:
        bench.take(measured, SPLITS[0])
        before = bench.istiod_cpu()
        measured.write_ms.clear()
        measured.push_ms.clear()
        for number in range(WRITES):
            bench.take(measured, SPLITS[(number + 1) % 2])
        measured.istiod_cpu_ms = 1000 * (bench.istiod_cpu() - before) / WRITES
        bench.look(measured)
        print(f"{measured.label}: written", file=sys.stderr)
    for number in range(rounds):
        # Each second round backwards: what grows over time must not fall on the last.
        for measured in found if number % 2 else reversed(found):
            bench.take(measured, SPLITS[0])
            bench.ask(measured, requests // 10)
            measured.seconds.pop()
            measured.p50_ms.pop()
            measured.cpu_us.pop()
            bench.ask(measured, requests)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def report(found: list[Measured]) -> None:
    """Print a table; ratios are medians over the rounds of one against the plain of that round."""
    print(
        "| entries | VirtualService | API write | until Envoy has it | istiod CPU a change "
        "| Envoy heap | Envoy CPU a request | the same against plain (range) | p50 "
        "| requests/s against plain (range) |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    plain = found[0]
    for one in found:
        ratios = [a / b for a, b in zip(plain.seconds, one.seconds, strict=True)]
        cpu = [b / a for a, b in zip(plain.cpu_us, one.cpu_us, strict=True)]
        print(
            f"| {one.label} | {one.size / 1024:.1f} KiB | {statistics.median(one.write_ms):.1f} ms "
            f"| {statistics.median(one.push_ms):.0f} ms | {one.istiod_cpu_ms:.0f} ms "
            f"| {one.envoy_heap / 2**20:.2f} MiB | {statistics.median(one.cpu_us):.0f} us "
            f"| {statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f}) "
            f"| {statistics.median(one.p50_ms):.2f} ms "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=2000, help="per round and entry count")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster.start(Path(directory) / "c") as cluster,
    ):
        bench = Bench(cluster)
        try:
            report(measure(bench, options.rounds, options.requests))
        finally:
            bench.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
