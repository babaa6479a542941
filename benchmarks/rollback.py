"""Seconds from the first bad response to 100 % champion in Envoy's own configuration.

On the real parts: an API server, istiod, one Envoy per experiment, Prometheus with scrapes of 5 s,
and the operator with polls of 5 s and its default settings. Each experiment gets 100 requests a
second, of which 10 % go to the challenger. A fault begins at a random moment of the scrape, once
every guardrail passes. Run ``python benchmarks/rollback.py``.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from localcluster import Cluster
from localcluster.startup import APISERVER_CERTIFICATE
from tests.e2e import chart
from tests.e2e.lab import Lab
from tests.e2e.servers import ModelServer

SCRAPE = POLL = "5s"
PER_SECOND, SENDERS = 100.0, 8
# Longer than this is told as not found.
LONGEST = 240.0
HEALTHY_ERRORS, HEALTHY_SECONDS = 0.01, 0.03


@dataclass(frozen=True)
class Fault:
    """What breaks, and how the challenger is before and after."""

    name: str
    break_it: Callable[[ModelServer], None]
    errors: float = HEALTHY_ERRORS
    """The share of errors of both versions before."""
    shows: bool = False
    """Whether the first error after the fault is its first bad response; else every one is."""
    limit: float = 0.02
    """Of the share of errors: twice the healthy one."""


def _errors(server: ModelServer) -> None:
    server.failing = 0.30


def _slow(server: ModelServer) -> None:
    server.seconds = 2 * HEALTHY_SECONDS


def _drift(server: ModelServer) -> None:
    def run() -> None:
        start, first = time.monotonic(), server.failing
        while (part := (time.monotonic() - start) / 30) < 1 and server.failing >= first:
            server.failing = first * (1 + 0.5 * part)
            time.sleep(0.5)
        server.failing = 1.5 * first

    threading.Thread(target=run, daemon=True).start()


FAULTS = {
    "errors": Fault("30 % errors (1 % before, limit 2 %)", _errors, shows=True),
    "wide": Fault("30 % errors (1 % before, limit 5 %)", _errors, shows=True, limit=0.05),
    "latency": Fault("2x latency (p95 of 90 ms before)", _slow),
    "dead": Fault("a dead arm (port closed)", ModelServer.die),
    "drift": Fault("drift to 1.5x errors within 30 s (20 % before)", _drift, errors=0.20),
}


def guardrails(lab: Lab, fault: Fault) -> list[dict[str, Any]]:
    """The guardrails of an experiment: errors, latency, and what the proxy itself sees."""
    job = f'job="{lab.namespace}"'
    of_errors = {
        "name": "errors",
        "versionLabel": "version",
        "proportion": {
            "successes": f"fraud_errors_total{{{job}}}",
            "trials": f"fraud_requests_total{{{job}}}",
        },
    }
    if fault.errors > HEALTHY_ERRORS:
        return [{**of_errors, "maxIncrease": {"relative": 10}}]
    cluster = f'job="{lab.namespace}-edge", envoy_cluster_name=~".*[|]{{{{version}}}}[|].*"'
    failed = f'{cluster}, envoy_response_code_class="5"'
    return [
        {**of_errors, "max": fault.limit},
        {
            "name": "p95",
            "versionLabel": "version",
            "quantile": {"histogram": f"fraud_seconds_bucket{{{job}}}", "quantile": 0.95},
            "max": 0.1,
        },
        {
            "name": "proxy",
            "query": (
                f"(sum(rate(envoy_cluster_upstream_rq_xx{{{failed}}}[10s])) or vector(0)) / "
                f"sum(rate(envoy_cluster_upstream_rq_xx{{{cluster}}}[10s]))"
            ),
            "max": 0.2,
        },
    ]


class Api:
    """The API server, without a kubectl process for every look."""

    def __init__(self, cluster: Cluster) -> None:
        kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = "Bearer " + kubeconfig["users"][0]["user"]["token"]
        self._session.verify = str(cluster.directory / APISERVER_CERTIFICATE)
        self._root = f"{cluster.apiserver_url}/apis/experiments.mlops.dev/v1alpha1/namespaces"

    def status(self, namespace: str) -> dict[str, Any]:
        """The status of a namespace's experiment."""
        url = f"{self._root}/{namespace}/modelexperiments/fraud-v2"
        found = self._session.get(url, timeout=10).json()
        return dict(found.get("status", {}))


class Load:
    """A steady stream of requests over a few connections."""

    def __init__(self, lab: Lab) -> None:
        self._port, self._stop = lab.gateway.port, threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        pause = SENDERS / PER_SECOND
        due = time.monotonic() + number * pause / SENDERS
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("GET", "/predict")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            # What could not be sent in time is left out, so that no burst follows.
            due = max(due + pause, time.monotonic() - pause)
            time.sleep(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _until(check: Callable[[], object], longest: float, pause: float) -> bool:
    end = time.monotonic() + longest
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(pause)
    return False


def once(lab: Lab, api: Api, fault: Fault, chance: random.Random) -> float | None:
    """One fault: seconds until Envoy sends everything to the champion; None for a false alarm."""
    challenger = lab.servers["v2"]
    for server in lab.servers.values():
        server.failing, server.seconds, server.waits = fault.errors, HEALTHY_SECONDS, True
    # The guardrail that is a query looks back over ten seconds, and must not see the fault before.
    time.sleep(12)
    lab.apply(lab.experiment(guardrails=guardrails(lab, fault), analysis={"interval": POLL}))

    def all_pass() -> bool:
        status = api.status(lab.namespace)
        states = [g["state"] for g in status.get("guardrails", [])]
        passing = len(states) == len(guardrails(lab, fault)) and set(states) == {"Pass"}
        return passing or status.get("phase") == "RolledBack"

    if not _until(all_pass, 120, 0.5):
        raise RuntimeError(f"the guardrails do not pass: {api.status(lab.namespace)}")
    time.sleep(10 + chance.uniform(0, 5))
    if api.status(lab.namespace)["phase"] != "Running":
        return None
    challenger.first_failure = None
    began = time.time()
    fault.break_it(challenger)
    found = _until(lambda: not lab.gateway.route_weights("predict").get("v2"), LONGEST, 0.05)
    first = challenger.first_failure if fault.shows else None
    seconds = time.time() - (first or began)
    if challenger.dead:
        challenger.revive()
    challenger.failing, challenger.seconds = fault.errors, HEALTHY_SECONDS
    return seconds if found else float("inf")


def play(cluster: Cluster, number: int, turns: Sequence[str], found: dict[str, list[Any]]) -> None:
    """Let one lab break again and again, and note the seconds."""
    lab, api, chance = (
        Lab(cluster, f"bench-{number}", {"v1": 0.6, "v2": 0.6}),
        Api(cluster),
        random.Random(number),
    )
    targets = [server.target for server in lab.servers.values()]
    cluster.scrape(lab.namespace, targets, interval=SCRAPE)
    edge = f"127.0.0.1:{lab.gateway.admin_port}"
    cluster.scrape(f"{lab.namespace}-edge", [edge], interval=SCRAPE, path="/stats/prometheus")
    load = Load(lab)
    try:
        for turn in turns:
            seconds = once(lab, api, FAULTS[turn], chance)
            broke = [
                f"{g['name']}: {g['message']}"
                for g in api.status(lab.namespace).get("guardrails", [])
                if g["state"] == "Breach"
            ]
            print(f"  {turn:8} {seconds or 0:6.1f} s  {'; '.join(broke)}", file=sys.stderr)
            found[turn].append(seconds)
            lab.delete_experiments()
    finally:
        load.close()
        lab.close()


def table(found: dict[str, list[float | None]]) -> str:
    """Median and worst of each fault."""
    lines = [f"{'fault':48} {'median':>8} {'worst':>8} {'faults':>7} {'false alarms':>13}"]
    for turn, all_of_it in found.items():
        seconds = [s for s in all_of_it if s is not None]
        if not seconds:
            continue
        lines.append(
            f"{FAULTS[turn].name:48} {statistics.median(seconds):6.1f} s {max(seconds):6.1f} s "
            f"{len(seconds):7} {len(all_of_it) - len(seconds):13}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the faults in several experiments at once, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of: {', '.join(FAULTS)}")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=4)
    arguments = parser.parse_args()
    wanted = list(arguments.faults or FAULTS)
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    turns = [name for name in wanted for _ in range(arguments.runs)]
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster.start(Path(directory) / "cluster", scrape_interval=SCRAPE) as cluster,
    ):
        chart.install(cluster, settle="10s")
        operator = chart.start(cluster, Path(directory) / "log")
        atexit.register(operator.stop)
        threads = [
            threading.Thread(target=play, args=(cluster, k, turns[k :: arguments.parallel], found))
            for k in range(arguments.parallel)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        operator.stop()
    print(table(found))
    return 0 if all(len(its) == arguments.runs for its in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
