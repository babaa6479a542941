"""What the operator costs with many experiments, on a real API server and a real Prometheus.

    make bench-scale

Each experiment has a VirtualService of its own, a primary metric and a guardrail; the counters of
one in five grow, the others stand still. Per number of experiments, once all of them run, it
measures for --seconds: the operator's CPU and memory, status writes, requests to the API server and
queries to Prometheus a minute, and how late polls are. istiod is stopped meanwhile: it is not what
is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config

from localcluster import Cluster
from localcluster.manifests import model_service
from localcluster.ports import free_ports
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from tests.e2e import chart
from tests.e2e.lab import OperatorProcess

ISTIO = ("networking.istio.io", "v1")
PER_NAMESPACE = 100
INTERVAL = "15s"
TICK = os.sysconf("SC_CLK_TCK")
HOST = "fraud"
PORTS = {"v1": 1, "v2": 2}


class Exporter:
    """The counters of all experiments: those of every fifth grow at each scrape."""

    def __init__(self) -> None:
        self.experiments = 0
        self._scrapes = 0
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def text(self) -> str:
        """One scrape."""
        self._scrapes += 1
        lines = []
        for name, per_scrape in (("labelled", 40), ("right", 25), ("errors", 0)):
            lines.append(f"# TYPE bench_{name}_total counter")
            for number in range(self.experiments):
                value = 100 + (self._scrapes * per_scrape if number % 5 == 0 else 0)
                where = f'experiment="e{number}"'
                lines += [
                    f'bench_{name}_total{{{where},model_version="{version}"}} {value}'
                    for version in PORTS
                ]
        return "\n".join(lines) + "\n"


def namespace_of(number: int) -> str:
    """The namespace of an experiment."""
    return f"bench-{number // PER_NAMESPACE}"


def virtual_service(number: int) -> dict[str, Any]:
    """The route of an experiment."""
    destination = {"host": HOST, "subset": "v1"}
    spec = {
        "hosts": [f"e{number}.example"],
        "http": [{"name": "predict", "route": [{"destination": destination}]}],
    }
    return {
        "apiVersion": "/".join(ISTIO),
        "kind": "VirtualService",
        "metadata": {"name": f"e{number}"},
        "spec": spec,
    }


def experiment(number: int) -> dict[str, Any]:
    """An experiment with a metric and a guardrail."""
    mine = f'experiment="e{number}"'
    rate = "sum(rate(bench_{}_total{{" + mine + ',model_version="{{{{version}}}}"}}[1m]))'
    spec = {
        "traffic": [
            {"modelVersion": "v1", "percent": 50},
            {"modelVersion": "v2", "percent": 50},
        ],
        "route": {"istio": {"virtualService": f"e{number}", "host": HOST}},
        "metrics": [
            {
                "name": "accuracy",
                "role": "Primary",
                "proportion": {
                    "successes": f"bench_right_total{{{mine}}}",
                    "trials": f"bench_labelled_total{{{mine}}}",
                },
                "minimumEffect": {"relative": 2},
            }
        ],
        "guardrails": [{"name": "errors", "query": rate.format("errors"), "max": 1}],
        "analysis": {"interval": INTERVAL},
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ModelExperiment",
        "metadata": {"name": f"e{number}"},
        "spec": spec,
    }


class Bench:
    """The cluster, the operator and what is read of them."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self.cluster = cluster
        self.exporter = Exporter()
        (self.port,) = free_ports(1)
        chart.install(cluster)
        cluster.scrape("bench", [self.exporter.target], interval="5s")
        account = cluster.service_account_kubeconfig(chart.NAMESPACE, chart.RELEASE)
        environment = chart.environment(cluster) | {"METRICS_PORT": str(self.port)}
        self.operator = OperatorProcess(account, home / "operator.log", **environment)
        self._connection = config.new_client_from_config(str(cluster.kubeconfig))
        self._api = client.CustomObjectsApi(self._connection)

    def grow_to(self, number: int) -> None:
        """Create experiments up to this number, and wait until all of them run."""
        old = self.exporter.experiments
        self.exporter.experiments = number
        for first in range(old - old % PER_NAMESPACE, number, PER_NAMESPACE):
            self._namespace(namespace_of(first))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._create, range(old, number)))
        running = 0
        while running < number:
            time.sleep(5)
            # On a busy machine the operator may not listen yet.
            with contextlib.suppress(OSError):
                found = self.metrics()
                running = int(found.get('modelexperiment_experiments{phase="Running"}', 0))
            print(f"\r  {running} of {number} run", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)

    def _namespace(self, name: str) -> None:
        self.cluster.kubectl("create", "namespace", name, check=False)
        self.cluster.apply(*model_service(name, f"{HOST}.{name}.svc.cluster.local", PORTS))

    def _create(self, number: int) -> None:
        where = namespace_of(number)
        create = self._api.create_namespaced_custom_object
        create(*ISTIO, where, "virtualservices", virtual_service(number))
        create(GROUP, VERSION, where, PLURAL, experiment(number))

    def metrics(self) -> dict[str, float]:
        """The operator's own metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return parse(answer.read().decode())

    def server_requests(self) -> float:
        """Requests that the API server has served to anybody for experiments and routes."""
        found = parse(self.cluster.kubectl("get", "--raw", "/metrics"))
        kinds = ('resource="modelexperiments"', 'resource="virtualservices"')
        return sum(
            value
            for name, value in found.items()
            if name.startswith("apiserver_request_total{") and any(kind in name for kind in kinds)
        )

    def close(self) -> None:
        """End the operator; the cluster is ended by whoever started it."""
        self.operator.stop()
        self._connection.close()


def parse(text: str) -> dict[str, float]:
    """Samples by name and labels as they are written."""
    return {
        name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)
    }


def quantile(before: dict[str, float], after: dict[str, float], name: str, q: float) -> float:
    """The upper edge of the histogram's bucket in which the quantile lies, between two readings."""
    pattern = re.compile(rf'{name}_bucket{{le="([^"]+)"}}')
    grown = {
        float(found.group(1)): value - before.get(key, 0.0)
        for key, value in after.items()
        if (found := pattern.fullmatch(key))
    }
    total = grown.get(float("inf"), 0.0)
    return next((edge for edge, below in sorted(grown.items()) if below >= q * total), 0.0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def measure(bench: Bench, number: int, seconds: float) -> dict[str, Any]:
    """Watch a steady state for some seconds."""
    pid = bench.operator.pid
    before, requests, cpu = bench.metrics(), bench.server_requests(), cpu_seconds(pid)
    start = time.monotonic()
    time.sleep(seconds)
    after, span = bench.metrics(), time.monotonic() - start
    per_minute = 60 / span

    def grown(name: str) -> float:
        return (after.get(name, 0.0) - before.get(name, 0.0)) * per_minute

    lag = "modelexperiment_poll_lag_seconds"
    return {
        "experiments": number,
        "cores": round((cpu_seconds(pid) - cpu) / span, 3),
        "megabytes": round(resident_megabytes(pid)),
        "polls/min": round(grown("modelexperiment_poll_seconds_count")),
        "queries/min": round(grown("modelexperiment_prometheus_query_seconds_count")),
        "status writes/min": round(grown("modelexperiment_status_writes_total")),
        "API requests/min": round((bench.server_requests() - requests) * per_minute),
        "lag p50 s": quantile(before, after, lag, 0.50),
        "lag p99 s": quantile(before, after, lag, 0.99),
    }


def growth(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float]:
    """What CPU, memory and API requests grow by where the experiments double; 2 is in step."""
    doublings = math.log2(now["experiments"] / before["experiments"])
    return {
        f"{name} per doubling": round((now[name] / before[name]) ** (1 / doublings), 2)
        for name in ("cores", "megabytes", "API requests/min")
        if before[name] and now[name]
    }


@contextmanager
def prepared() -> Iterator[Bench]:
    """A cluster with the operator in it."""
    with tempfile.TemporaryDirectory() as home, Cluster.start(Path(home) / "cluster") as cluster:
        bench = Bench(cluster, Path(home))
        cluster.pause("istiod")
        try:
            yield bench
        finally:
            bench.close()
            cluster.resume("istiod")


def main() -> None:
    """Measure, and print a line for each number of experiments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", default="100,500,2000", help="how many, one after another")
    parser.add_argument("--seconds", type=float, default=120, help="how long each is measured")
    arguments = parser.parse_args()
    before: dict[str, Any] | None = None
    with prepared() as bench:
        for number in map(int, arguments.experiments.split(",")):
            bench.grow_to(number)
            time.sleep(30)
            now = measure(bench, number, arguments.seconds)
            grown = growth(before, now) if before else {}
            print(json.dumps(now | grown), flush=True)
            before = now


if __name__ == "__main__":
    main()
