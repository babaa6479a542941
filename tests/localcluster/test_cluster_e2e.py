"""The real parts, started, used, broken and stopped."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, ClusterError, Gateway, manifests
from localcluster.build import build
from localcluster.catalog import missing_parts
from localcluster.processes import Processes, process_state
from localcluster.web import get_json, request, wait_until

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]
HOST = "fraud.fraud.svc.cluster.local"
LOOPBACK_FIRST_BYTE = "7F"


class ModelServer(http.server.ThreadingHTTPServer):
    """Answers every request with the name of its version."""

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_GET(self) -> None:
        body = self.server.version.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        # One write: with two, Nagle's algorithm and delayed acknowledgements cost 40 ms.
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output free of a line per request."""


@pytest.fixture(scope="module")
def model_ports() -> Iterator[dict[str, int]]:
    servers = [ModelServer(version) for version in ("v1", "v2")]
    yield {server.version: server.server_address[1] for server in servers}
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing_parts():
        build(sys.stderr)
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as started:
        started.kubectl("create", "namespace", "fraud")
        yield started


@pytest.fixture(scope="module")
def gateway(cluster: Cluster) -> Gateway:
    return cluster.gateway("istio-ingressgateway", "istio-system", {"istio": "ingressgateway"})


def answers(url: str, count: int) -> Counter[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found: Counter[str] = Counter()
    for _ in range(count):
        with opener.open(url, timeout=10) as answer:
            found[answer.read().decode()] += 1
    return found


def counted(gateway: Gateway, version: str) -> int:
    """How many requests of a version Envoy itself has answered with success."""
    labels = f'envoy_cluster_name="outbound|80|{version}|{HOST}",envoy_response_code_class="2"'
    name = f"envoy_cluster_upstream_rq_xx{{{labels}}} "
    lines = request(f"{gateway.admin_url}/stats/prometheus").decode().splitlines()
    [value] = [line.removeprefix(name) for line in lines if line.startswith(name)]
    return int(value)


def pids(cluster: Cluster) -> list[int]:
    processes = Processes(cluster.directory, detach=True)
    return [processes.record(part).pid for part in processes.names()]


def running(started: list[int]) -> list[int]:
    """Those that run still. An ended one that nobody has collected yet does not."""
    states = {pid: process_state(pid) for pid in started}
    return [pid for pid, state in states.items() if state is not None and not state.ended]


def listening_addresses(pid: int) -> set[str]:
    """Local addresses, as hexadecimal words of /proc/net/tcp, on which a process listens."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def test_requests_are_split_as_the_virtual_service_says(
    cluster: Cluster, gateway: Gateway, model_ports: dict[str, int]
) -> None:
    cluster.apply(
        *manifests.model_service("fraud", HOST, model_ports),
        *manifests.gateway_and_virtual_service("fraud", HOST, {"v1": 90, "v2": 10}, gateway),
    )
    gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    assert gateway.route_weights("predict") == {"v1": 90, "v2": 10}
    found = answers(gateway.url, 300)
    assert found["v1"] + found["v2"] == 300
    # Five standard deviations of Binomial(300, 0.1): one run in 2 million fails by chance.
    assert found["v2"] == pytest.approx(30, abs=26)
    assert {version: counted(gateway, version) for version in found} == found
    cluster.kubectl("delete", "virtualservice", "fraud", "-n", "fraud")


def test_requests_are_split_as_an_http_route_says(
    cluster: Cluster, model_ports: dict[str, int]
) -> None:
    gateway = cluster.gateway("gateway-api", "fraud", {"gateway": "api"})
    ports = {f"{version}.fraud.internal": port for version, port in model_ports.items()}
    weights = dict(zip(ports, (50, 50), strict=True))
    cluster.apply(
        *manifests.backend_hosts("fraud", ports),
        *manifests.gateway_api_gateway("fraud", "api", gateway),
        manifests.http_route("fraud", "fraud", "api", weights, rule="score"),
    )
    gateway.wait_for_weights("score", weights)
    found = answers(gateway.url, 100)
    assert set(found) == {"v1", "v2"}
    gateway.stop()
    assert gateway.part not in cluster.parts()


def test_objects_outlive_a_restart_of_etcd(cluster: Cluster) -> None:
    cluster.kubectl("create", "configmap", "kept", "-n", "fraud")
    cluster.kill("etcd")
    assert not cluster.alive("etcd")
    cluster.restart("etcd")
    wait_until(
        lambda: "kept" in cluster.kubectl("get", "configmaps", "-n", "fraud", check=False),
        lambda: "the configmap after the restart",
        timeout=30,
    )


def test_a_paused_prometheus_answers_again_when_resumed(cluster: Cluster) -> None:
    cluster.pause("prometheus")
    with pytest.raises(ClusterError, match="timed out"):
        get_json(f"{cluster.prometheus_url}/api/v1/status/buildinfo")
    assert cluster.alive("prometheus")
    cluster.resume("prometheus")
    assert get_json(f"{cluster.prometheus_url}/api/v1/status/buildinfo")["status"] == "success"


def test_prometheus_scrapes_what_it_is_told_until_it_is_told_not_to(
    cluster: Cluster, gateway: Gateway
) -> None:
    target = gateway.admin_url.removeprefix("http://")
    cluster.scrape("envoy", [target], labels={"team": "fraud"}, path="/stats/prometheus")
    query = f"{cluster.prometheus_url}/api/v1/query?query=up%7Bteam%3D%22fraud%22%7D"

    def up() -> list[str]:
        return [series["value"][1] for series in get_json(query)["data"]["result"]]

    wait_until(lambda: up() == ["1"], lambda: f"up is {up()}", timeout=15)
    cluster.unscrape("envoy")
    wait_until(lambda: up() == [], lambda: f"up is {up()}", timeout=15)


def test_a_job_that_prometheus_refuses_changes_nothing(cluster: Cluster) -> None:
    before = (cluster.directory / "prometheus.yml").read_text()
    with pytest.raises(ClusterError, match="reload"):
        cluster.scrape("bad", ["127.0.0.1:1"], interval="soon")
    assert (cluster.directory / "prometheus.yml").read_text() == before


def test_a_service_account_may_do_what_its_role_allows_and_no_more(cluster: Cluster) -> None:
    cluster.kubectl("create", "serviceaccount", "reader", "-n", "fraud")
    role = ["create", "rolebinding", "reader", "-n", "fraud", "--clusterrole=view"]
    cluster.kubectl(*role, "--serviceaccount=fraud:reader")
    kubeconfig = f"--kubeconfig={cluster.service_account_kubeconfig('fraud', 'reader')}"
    assert "kube-root-ca.crt" in cluster.kubectl(kubeconfig, "get", "configmaps")
    with pytest.raises(ClusterError, match="forbidden"):
        cluster.kubectl(kubeconfig, "create", "configmap", "written")
    with pytest.raises(ClusterError, match="forbidden"):
        cluster.kubectl(kubeconfig, "get", "configmaps", "-n", "default")


def test_a_deleted_owner_takes_its_dependants_along(cluster: Cluster) -> None:
    cluster.kubectl("create", "configmap", "owner", "-n", "fraud")
    uid = cluster.kubectl(
        "get", "configmap", "owner", "-n", "fraud", "-o", "jsonpath={.metadata.uid}"
    )
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "dependant", "namespace": "fraud", "ownerReferences": [reference]}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    cluster.kubectl("delete", "configmap", "owner", "-n", "fraud")
    cluster.kubectl("wait", "--for=delete", "configmap/dependant", "-n", "fraud", "--timeout=30s")


def test_helm_sees_the_cluster(cluster: Cluster) -> None:
    assert json.loads(cluster.helm("list", "--all-namespaces", "--output", "json")) == []


def test_nothing_listens_beyond_this_machine(cluster: Cluster, gateway: Gateway) -> None:
    for pid in pids(cluster):
        addresses = listening_addresses(pid)
        assert addresses
        # /proc/net/tcp shows an address's bytes last to first: 127.0.0.1 is 0100007F.
        assert all(address.endswith(LOOPBACK_FIRST_BYTE) for address in addresses), (pid, addresses)


def test_stop_leaves_neither_process_nor_file(tmp_path: Path) -> None:
    cluster = Cluster.start(tmp_path / "own")
    cluster.gateway("gw", "istio-system", {"istio": "ingressgateway"})
    cluster.pause("etcd")
    started = pids(cluster)
    assert len(started) == 6
    assert running(started) == started
    cluster.stop()
    assert not running(started)
    assert list(tmp_path.iterdir()) == []
    cluster.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, None])
def test_no_process_outlives_its_starter_however_that_ends(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    script = (
        "import sys; from pathlib import Path; from localcluster import Cluster\n"
        f"cluster = Cluster.start(Path({str(tmp_path / 'own')!r}))\n"
        "print('up', flush=True); sys.stdin.readline()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    started = pids(Cluster.attach(tmp_path / "own"))
    if number is not None:
        starter.send_signal(number)
    _, errors = starter.communicate(timeout=20)
    wait_until(lambda: not running(started), lambda: f"the end of {started}", timeout=10)
    # Nobody can tidy up after SIGKILL; the next start in the directory does.
    assert (tmp_path / "own").exists() is (number == signal.SIGKILL)
    assert errors.splitlines()[-1:] == ([b"KeyboardInterrupt"] if number == signal.SIGINT else [])


def localcluster(*args: str, expect: int = 0) -> list[str]:
    """The lines that the command prints."""
    result = subprocess.run(
        [sys.executable, "-m", "localcluster", *args],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.returncode == expect, result.stderr
    return result.stdout.splitlines()


def test_up_and_down(tmp_path: Path) -> None:
    directory = str(tmp_path / "own")
    first = localcluster("up", "--dir", directory)
    started: list[int] = []
    try:
        kubeconfig = first[-1]
        started = pids(Cluster.attach(Path(directory)))
        assert len(started) == 6
        cluster = Cluster.attach(Path(directory))
        assert kubeconfig == str(cluster.kubeconfig)
        assert "istio-system" in cluster.kubectl("get", "namespaces")
        [gateway] = cluster.gateways()
        assert any(gateway.url in line for line in first)
        assert any(cluster.prometheus_url in line for line in first)

        again = localcluster("up", "--dir", directory)
        assert "already running" in again[0]
        assert again[-1] == kubeconfig
        assert pids(cluster) == started

        cluster.kill("apiserver")
        anew = localcluster("up", "--dir", directory)
        assert "apiserver ended" in anew[0]
        assert not running(started)
        started = pids(Cluster.attach(Path(directory)))
        assert len(started) == 6
    finally:
        localcluster("down", "--dir", directory)
    assert not running(started)
    assert list(tmp_path.iterdir()) == []
    localcluster("down", "--dir", directory, expect=1)
