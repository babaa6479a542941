"""Copies by a real Envoy, two real servers with the middleware: what is counted is what was served.

The champion runs under gunicorn with two forked workers (WSGI), the shadow under uvicorn (ASGI).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from localcluster import Cluster, Gateway
from localcluster.manifests import istio_gateway, model_service
from localcluster.ports import free_ports
from localcluster.web import answers, get_json
from tests.comparer.processes import comparing, prediction
from tests.e2e.lab import Manifest, OperatorProcess, eventually
from tests.e2e.predicting import score

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
HOST = "fraud"
# As long as Envoy keeps its connections: else it may meet one that is just being closed.
KEEP = "90"
GUNICORN = ("gunicorn", "--worker-class", "gthread", "--threads", "4", "--keep-alive", KEEP)
GUNICORN += ("--graceful-timeout", "1")
UVICORN = ("uvicorn", "--timeout-keep-alive", KEEP, "--log-level", "warning", "--lifespan", "off")
UVICORN += ("--timeout-graceful-shutdown", "1")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server; one that waits for its connections to be closed is ended at once."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Place:
    """A namespace with an Envoy, and model servers on their own ports."""

    def __init__(self, cluster: Cluster, directory: Path, cleanup: ExitStack) -> None:
        self.cluster, self.directory, self._cleanup = cluster, directory, cleanup
        self.namespace = f"shadow-{uuid.uuid4().hex[:8]}"
        cluster.kubectl("create", "namespace", self.namespace)
        cleanup.callback(cluster.kubectl, "delete", "namespace", self.namespace, "--wait=false")
        self.gateway: Gateway = cluster.gateway("edge", self.namespace, {"gateway": self.namespace})
        cleanup.callback(self.gateway.stop)

    def serve(self, version: str, comparer: str, asgi: bool = False) -> int:
        """Start a model server that tells a comparer; gives its port."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m"]
        if asgi:
            command += [*UVICORN, "--port", str(port), "tests.e2e.predicting:asgi_app"]
        else:
            workers = ("--workers", "2", "--bind", f"127.0.0.1:{port}")
            command += [*GUNICORN, *workers, "tests.e2e.predicting:wsgi_app"]
        environment = {**os.environ, "MODEL_VERSION": version, "COMPARER_URL": comparer}
        with (self.directory / f"{version}-{port}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment)
        self._cleanup.callback(end, process)
        eventually(lambda: answers(f"http://127.0.0.1:{port}/served"), f"{version} answers", 60)
        return port

    def route(self, ports: Mapping[str, int], http: list[Manifest]) -> None:
        """Lead requests to the servers."""
        host = f"{HOST}.{self.namespace}.svc.cluster.local"
        service = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": HOST, "namespace": self.namespace},
            "spec": {"hosts": ["*"], "gateways": ["edge"], "http": http},
        }
        self.cluster.apply(
            *model_service(self.namespace, host, ports),
            istio_gateway(self.namespace, "edge", self.gateway),
            service,
        )


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as cleanup:
        yield Place(cluster, tmp_path, cleanup)


def to(version: str) -> Manifest:
    return {"destination": {"host": HOST, "subset": version}}


class Caller:
    """One connection to Envoy."""

    def __init__(self, gateway: Gateway) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)

    def ask(self, number: int, path: str = "/predict") -> dict[str, Any]:
        """A prediction; anything but an answer of 200 fails."""
        self._connection.request("GET", f"{path}?number={number}")
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return dict(json.loads(body))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def test_what_is_counted_is_what_was_served(place: Place, tmp_path: Path) -> None:
    with comparing(tmp_path / "comparer.log") as comparer:
        ports = {"v1": place.serve("v1", comparer.url)}
        ports["v3"] = place.serve("v3", comparer.url, asgi=True)
        http_route = {"name": "predict", "route": [to("v1")], "mirrors": [to("v3")]}
        place.route(ports, [http_route])
        place.cluster.scrape(place.namespace, [f"127.0.0.1:{comparer.port}"])

        def served() -> list[int]:
            return list(get_json(f"http://127.0.0.1:{ports['v3']}/served"))

        def copied() -> bool:
            before = served()[0]
            answered = place.gateway.listens() and answers(f"{place.gateway.url}/predict?number=1")
            time.sleep(0.2)
            return answered and served()[0] > before

        eventually(copied, "requests are copied")
        before = comparer.samples("comparisons_total")["fraud", "v3", "v1"]
        copies = served()
        caller = Caller(place.gateway)
        for number in range(2_000):
            answer = caller.ask(number)
            assert answer == {"version": "v1", "outputs": [{"score": score(number, "v1")}]}
        caller.close()
        eventually(lambda: served()[0] - copies[0] == 2_000, "all copies have come")
        total, tenths = (now - then for now, then in zip(served(), copies, strict=True))
        assert (total, tenths) == (2_000, 200)

        def seen(metric: str, **labels: str) -> float:
            """What Prometheus itself has."""
            given = {"job": place.namespace, "model": "fraud", **labels}
            selector = ", ".join(f'{name}="{value}"' for name, value in given.items())
            query = quote(f"{metric}{{{selector}}}")
            found = get_json(f"{place.cluster.prometheus_url}/api/v1/query?query={query}")
            return sum(float(one["value"][1]) for one in found["data"]["result"])

        for version, against in (("v3", "v1"), ("v1", "v3")):
            pair = {"version": version, "against": against}
            eventually(
                lambda pair=pair: seen("model_shadow_comparisons_total", **pair) >= before + total,
                "Prometheus has them all",
            )
            assert seen("model_shadow_comparisons_total", **pair) == before + total
            # The numbers of the beginning are no tenth ones.
            assert seen("model_shadow_disagreements_total", **pair) == tenths
            assert seen("model_shadow_difference_sum", **pair) == 0.25 * tenths
        assert seen("model_shadow_unpaired_total") == 0
        print(f"{total} copies served, {tenths} disagree; Prometheus has the same, both ways")


def gated(namespace: str) -> Manifest:
    """A challenger that serves nobody before it agrees, by the comparer's counters."""
    matchers = f'{{job="{namespace}", model="fraud", against="v1"}}'
    events = {"events": f'model_shadow_predictions_total{{job="{namespace}", model="fraud"}}'}
    metric = {"name": "used", "role": "Primary", "versionLabel": "version", "rate": events}
    return {
        "apiVersion": "experiments.mlops.dev/v1alpha1",
        "kind": "ModelExperiment",
        "metadata": {"name": "fraud-gated", "namespace": namespace},
        "spec": {
            "traffic": [
                {"modelVersion": "v1", "percent": 50},
                {"modelVersion": "v3", "percent": 50},
            ],
            "shadow": {
                "modelVersion": "v3",
                "maxDivergence": 0.25,
                "comparisons": f"model_shadow_comparisons_total{matchers}",
                "disagreements": f"model_shadow_disagreements_total{matchers}",
                "versionLabel": "version",
            },
            "route": {"istio": {"virtualService": HOST, "httpRoute": "predict", "host": HOST}},
            "metrics": [metric],
            "analysis": {"interval": "1s"},
        },
    }


def test_the_gate_opens_by_what_the_comparer_counts(
    place: Place, operator: OperatorProcess, tmp_path: Path
) -> None:
    """The operator copies, the servers tell, the comparer counts, and the operator decides."""
    cluster, namespace = place.cluster, place.namespace

    def status() -> dict[str, Any]:
        found = cluster.kubectl("get", "mexp", "fraud-gated", "-n", namespace, "-o", "json")
        return dict(json.loads(found).get("status", {}))

    with comparing(tmp_path / "comparer.log") as comparer:
        ports = {"v1": place.serve("v1", comparer.url)}
        ports["v3"] = place.serve("v3", comparer.url, asgi=True)
        place.route(ports, [{"name": "predict", "route": [to("v1")]}])
        cluster.scrape(namespace, [f"127.0.0.1:{comparer.port}"])
        url = f"{place.gateway.url}/predict?number=1"
        eventually(lambda: place.gateway.listens() and answers(url), "the route")
        cluster.kubectl("apply", "-f", "-", input=json.dumps(gated(namespace)))
        # Every version's series is there before it serves anybody.
        assert comparer.post(prediction("trial", "v3"))[0] == 202
        eventually(lambda: status().get("phase") == "Shadowing", "it shadows", 60)
        caller = Caller(place.gateway)
        answered: list[str] = []
        for number in range(20_000):
            # A tenth disagrees, which is under the limit.
            answered.append(str(caller.ask(number)["version"]))
            time.sleep(0.01)
            if answered[-1] == "v3":
                break
        caller.close()
        shadow = status()["shadow"]
        print(f"open after {len(answered)} answers: {shadow}")
        assert (answered[-1], shadow["state"]) == ("v3", "Pass")
        assert set(answered[:-1]) == {"v1"}
        # What it counted by then is a part of what the comparer counted, a tenth of it disagreeing.
        counted = comparer.samples("comparisons_total")["fraud", "v3", "v1"]
        assert 50 < shadow["comparisons"] <= counted
        assert 0 < shadow["disagreements"] <= 1 + counted / 10
        cluster.kubectl("delete", "mexp", "fraud-gated", "-n", namespace, "--timeout=30s")


def test_no_answer_waits_for_a_comparer_that_is_dead_or_silent(
    place: Place, tmp_path: Path
) -> None:
    (dead,) = free_ports(1)
    with comparing(tmp_path / "log") as comparer, socket.create_server(("127.0.0.1", 0)) as silent:
        told = {
            "none": "",
            "alive": comparer.url,
            "dead": f"http://127.0.0.1:{dead}",
            # It takes connections, and never answers.
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        ports = {name: place.serve(name, url) for name, url in told.items()}
        place.route(
            ports,
            [{"match": [{"uri": {"prefix": f"/{name}"}}], "route": [to(name)]} for name in told],
        )
        for name in told:
            url = f"{place.gateway.url}/{name}?number=1"
            eventually(lambda url=url: answers(url), f"the route to {name}")
        caller = Caller(place.gateway)
        taken: dict[str, list[float]] = {name: [] for name in told}
        for number in range(400):
            # In turn, so that whatever else the machine does falls on all alike.
            for name in told:
                begun = time.perf_counter()
                answer = caller.ask(number, f"/{name}")
                taken[name].append(time.perf_counter() - begun)
                expected = {"version": name, "outputs": [{"score": score(number, name)}]}
                assert answer == expected
        caller.close()
    for name in told:
        more = [one - usual for one, usual in zip(taken[name], taken["none"], strict=True)]
        apart = statistics.median(more)
        print(
            f"comparer {name}: median {1e3 * statistics.median(taken[name]):.2f} ms, "
            f"{1e3 * apart:+.2f} ms against none, longest {1e3 * max(taken[name]):.1f} ms"
        )
        # Whoever waited for a post that fails would wait a second, or one in so many would.
        assert apart < 0.05
        assert statistics.mean(more) < 0.05
