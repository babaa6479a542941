"""Everything around one experiment: a namespace, an Envoy, model servers, a route, traffic."""

from __future__ import annotations

import copy
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localcluster import Cluster, Gateway
from localcluster.manifests import istio_gateway, model_service
from tests.e2e.servers import ModelServer

Manifest = dict[str, Any]
HOST = "fraud"


def eventually(check: Callable[[], object], what: str, timeout: float = 30.0) -> Any:
    """Wait until `check` gives something true, and return that."""
    end = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}; last: {found!r}")
        time.sleep(0.1)


class OperatorProcess:
    """`modelexperiment run` as a process, which can be killed and started again."""

    def __init__(self, kubeconfig: Path, log: Path, **environment: str) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            # Where the tests have the package from, or another checkout's operator would run.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "KUBECONFIG": str(kubeconfig),
            "POD_NAME": "operator-under-test",
            "METRICS_PORT": "0",
            "PROMETHEUS_SETTLE": "1s",
            **environment,
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modelexperiment", "run"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def change(self, **environment: str) -> dict[str, str]:
        """Change the environment of the next start; gives the one that there was."""
        before = dict(self._environment)
        self._environment.update(environment)
        return before

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; gives the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()


class Lab:
    """One namespace with a model of two versions behind a real Envoy."""

    def __init__(self, cluster: Cluster, namespace: str, versions: Mapping[str, float]) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.servers = {v: ModelServer(v, correct) for v, correct in versions.items()}
        cluster.kubectl("create", "namespace", namespace)
        labels = {"gateway": namespace}
        self.gateway: Gateway = cluster.gateway("edge", namespace, labels)
        cluster.apply(*self.routing())
        cluster.scrape(namespace, [server.target for server in self.servers.values()])
        first = self.backend(next(iter(self.servers)))
        eventually(
            lambda: self.gateway.route_weights("predict") == {first: 100} and self.get()[0] == 200,
            "Envoy routes to the champion",
        )

    def routing(self) -> list[Manifest]:
        """What leads requests to the model servers."""
        return [
            *model_service(
                self.namespace,
                f"{HOST}.{self.namespace}.svc.cluster.local",
                {v: server.port for v, server in self.servers.items()},
            ),
            istio_gateway(self.namespace, "edge", self.gateway),
            self.virtual_service(),
        ]

    def backend(self, version: str) -> str:
        """What Envoy calls a version's servers."""
        return version

    def wait_split(self, **weights: int) -> None:
        """Wait until Envoy itself splits like this."""
        expected = {self.backend(version): weight for version, weight in weights.items()}
        self.gateway.wait_for_weights("predict", expected)

    def virtual_service(self) -> Manifest:
        """A VirtualService as its owner wrote it: two http routes, and fields of all sorts."""
        champion = {"destination": {"host": HOST, "subset": next(iter(self.servers))}}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {
                "name": HOST,
                "namespace": self.namespace,
                "annotations": {"team.example/owner": "risk"},
            },
            "spec": {
                "hosts": ["*"],
                "gateways": ["edge"],
                "http": [
                    {
                        "name": "admin",
                        "match": [{"uri": {"prefix": "/admin"}}],
                        "rewrite": {"uri": "/"},
                        "route": [copy.deepcopy(champion)],
                    },
                    {
                        "name": "predict",
                        "timeout": "7s",
                        "retries": {"attempts": 0},
                        "corsPolicy": {"allowMethods": ["GET"], "maxAge": "24h"},
                        "route": [copy.deepcopy(champion)],
                    },
                ],
            },
        }

    def experiment(self, name: str = "fraud-v2", **spec: Any) -> Manifest:
        """A ModelExperiment of this lab; `spec` replaces fields of its spec."""
        versions = list(self.servers)
        selectors = {"successes": "fraud_correct_total", "trials": "fraud_labelled_total"}
        manifest: Manifest = {
            "apiVersion": "experiments.mlops.dev/v1alpha1",
            "kind": "ModelExperiment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "traffic": [
                    {"modelVersion": versions[0], "percent": 90},
                    {"modelVersion": versions[1], "percent": 10},
                ],
                "route": self.route(),
                "metrics": [
                    {
                        "name": "accuracy",
                        "role": "Primary",
                        "versionLabel": "version",
                        "proportion": {
                            k: f'{v}{{job="{self.namespace}"}}' for k, v in selectors.items()
                        },
                        "minimumEffect": {"relative": 5},
                    }
                ],
                "analysis": {"interval": "1s"},
                **spec,
            },
        }
        return manifest

    def route(self) -> Manifest:
        """The experiment's `spec.route`."""
        return {"istio": {"virtualService": HOST, "httpRoute": "predict", "host": HOST}}

    def error_guardrail(self, **changes: Any) -> Manifest:
        """A guardrail on the share of errors."""
        job = f'job="{self.namespace}", version="{{{{version}}}}"'
        query = (
            f"sum(rate(fraud_errors_total{{{job}}}[5s])) "
            f"/ sum(rate(fraud_requests_total{{{job}}}[5s]))"
        )
        return {"name": "errors", "query": query, "max": 0.05, **changes}

    def apply(self, manifest: Manifest) -> None:
        """`kubectl apply`."""
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))

    def fetch(self, kind: str, name: str) -> Manifest:
        """An object from the API server; {} where there is none."""
        found = self.cluster.kubectl(
            "get", kind, name, "-n", self.namespace, "-o", "json", check=False
        )
        return dict(json.loads(found)) if found else {}

    def status(self, name: str = "fraud-v2") -> Manifest:
        """The status of an experiment."""
        return dict(self.fetch("mexp", name).get("status", {}))

    def condition(self, type_: str, name: str = "fraud-v2") -> Manifest:
        """One condition of an experiment; {} where it is not there."""
        conditions = self.status(name).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def guardrail_state(self, guardrail: str, name: str = "fraud-v2") -> str | None:
        """The state of a guardrail's first challenger, once it is there."""
        found = self.status(name).get("guardrails", [])
        return next((str(g["state"]) for g in found if g["name"] == guardrail), None)

    def events(self, name: str = "fraud-v2") -> list[tuple[str, str]]:
        """(reason, message) of the Events about an experiment, oldest first."""
        found = self.cluster.kubectl(
            "get",
            "events",
            "-n",
            self.namespace,
            "-o",
            "json",
            f"--field-selector=involvedObject.name={name}",
        )
        items = sorted(json.loads(found)["items"], key=lambda e: e["metadata"]["creationTimestamp"])
        return [(e["reason"], e["message"]) for e in items]

    def wait_phase(self, phase: str, name: str = "fraud-v2", timeout: float = 60.0) -> Manifest:
        """Wait for a phase, and give the status."""
        return dict(
            eventually(
                lambda: (s := self.status(name)).get("phase") == phase and s,
                f"phase {phase}",
                timeout,
            )
        )

    def destinations(self) -> list[tuple[str, int]]:
        """(subset, weight) of the VirtualService's route `predict`."""
        route = self.fetch("virtualservice", HOST)["spec"]["http"][1]["route"]
        return [(d["destination"]["subset"], d.get("weight", 0)) for d in route]

    def get(self, path: str = "/predict", headers: Mapping[str, str] | None = None) -> Any:
        """One request through Envoy: (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def send(self, number: int, path: str = "/predict") -> Counter[str]:
        """Send requests on one connection; counts the answers' bodies (the versions)."""
        answers: Counter[str] = Counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        for _ in range(number):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
            answers[body if answer.status == 200 else str(answer.status)] += 1
        connection.close()
        return answers

    def delete_experiments(self) -> None:
        """`kubectl delete` all experiments, which must not hang."""
        self.cluster.kubectl(
            "delete", "mexp", "--all", "-n", self.namespace, "--timeout=30s", "--wait"
        )

    def close(self) -> None:
        """Take everything away again."""
        self.delete_experiments()
        self.cluster.unscrape(self.namespace)
        for server in self.servers.values():
            server.stop()
        self.gateway.stop()
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")


class Traffic:
    """A steady stream of requests in the background, bounded by `close` and by a deadline."""

    def __init__(self, lab: Lab, per_second: float, longest: float = 120.0) -> None:
        self.answers: Counter[str] = Counter()
        self._lab = lab
        self._pause = 1 / per_second
        self._end = time.monotonic() + longest
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set() and time.monotonic() < self._end:
            self.answers += self._lab.send(1)
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
