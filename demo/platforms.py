"""The cluster under the demo: one that the demo starts, or one that is there already.

Either way it is a Kubernetes API with Istio, Prometheus and an Envoy gateway. A cluster that
``python -m localcluster up`` has started is recognised by the ``cluster.json`` beside its
kubeconfig; of any other cluster the addresses come from the environment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from demo import routes
from demo.errors import DemoError
from localcluster import Cluster, ClusterError, Gateway, catalog

JOB = "flights"
SCRAPE_INTERVAL = "1s"
SCRAPED_WITHIN = 60.0
COMMAND_TIMEOUT = 180
VARIABLES = ("PROMETHEUS_URL", "GATEWAY_URL", "GATEWAY_PORT", "MODEL_ADDRESS", "MODEL_PORTS")
INGRESS_LABELS = {"istio": "ingressgateway"}


class Platform(Protocol):
    """What the demo needs of a cluster."""

    prometheus_url: str
    gateway_url: str
    model_address: str
    model_ports: Sequence[int]

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl; its standard output. Raises ClusterError where it fails."""
        ...

    def helm(self, *args: str) -> str:
        """Run Helm; its standard output. Raises ClusterError where it fails."""
        ...

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount."""
        ...

    def istio_gateway(self) -> dict[str, Any]:
        """The Istio Gateway through which the demo's requests come in."""
        ...

    def scrape(self, targets: Sequence[str]) -> None:
        """See to it that Prometheus scrapes the model servers (host:port)."""
        ...

    def scrape_no_more(self) -> None:
        """Undo ``scrape``."""
        ...

    def split(self) -> Mapping[str, int] | None:
        """Weight of each version in Envoy's own configuration; None where Envoy can't be asked."""
        ...


class LocalPlatform:
    """A cluster of the package ``localcluster``, whoever has started it."""

    model_address = "127.0.0.1"
    model_ports: Sequence[int] = (0, 0)

    def __init__(self, cluster: Cluster, gateway: Gateway) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self.prometheus_url = cluster.prometheus_url
        self.gateway_url = gateway.url
        self.kubectl = cluster.kubectl
        self.helm = cluster.helm
        self.service_account_kubeconfig = cluster.service_account_kubeconfig

    def istio_gateway(self) -> dict[str, Any]:
        """On the port of the one Envoy, on this machine only."""
        return routes.istio_gateway(self._gateway.labels, self._gateway.port, "127.0.0.1")

    def scrape(self, targets: Sequence[str]) -> None:
        """Add the model servers to Prometheus' configuration."""
        self._cluster.scrape(JOB, targets, interval=SCRAPE_INTERVAL)

    def scrape_no_more(self) -> None:
        """Take the model servers out of Prometheus' configuration."""
        self._cluster.unscrape(JOB)

    def split(self) -> Mapping[str, int] | None:
        """From Envoy's /config_dump."""
        return self._gateway.route_weights(routes.ROUTE)


@contextmanager
def started(directory: Path) -> Iterator[Platform]:
    """A cluster that is started here, and stopped at the end."""
    with Cluster.start(directory, scrape_interval=SCRAPE_INTERVAL) as cluster:
        gateway = cluster.gateway("istio-ingressgateway", "istio-system", INGRESS_LABELS)
        yield LocalPlatform(cluster, gateway)


def given(kubeconfig: Path, environment: Mapping[str, str], scratch: Path) -> Platform:
    """The cluster of a kubeconfig. Raises DemoError where its addresses are not known."""
    if not kubeconfig.is_file():
        raise DemoError(f"KUBECONFIG={kubeconfig}: there is no such file")
    explicit = "GATEWAY_URL" in environment or "PROMETHEUS_URL" in environment
    if explicit or not kubeconfig.with_name("cluster.json").exists():
        return GivenPlatform(kubeconfig, environment, scratch)
    cluster = Cluster.attach(kubeconfig.parent)
    gateways = cluster.gateways()
    if not gateways:
        raise DemoError(f"the cluster of {kubeconfig} has no gateway: start it anew with `up`")
    return LocalPlatform(cluster, gateways[0])


class GivenPlatform:
    """Somebody else's cluster, known by its kubeconfig and the environment."""

    def __init__(self, kubeconfig: Path, environment: Mapping[str, str], scratch: Path) -> None:
        self._environment = {**environment, "KUBECONFIG": str(kubeconfig.absolute())}
        self._scratch = scratch
        self.prometheus_url = _required(environment, "PROMETHEUS_URL").rstrip("/")
        self.gateway_url = _required(environment, "GATEWAY_URL").rstrip("/")
        self.model_address = environment.get("MODEL_ADDRESS", "127.0.0.1")
        self.model_ports: Sequence[int] = _ports(environment, "MODEL_PORTS", "18101,18102")
        (self._gateway_port,) = _ports(environment, "GATEWAY_PORT", "80")

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl as the user of the kubeconfig."""
        return self._run([str(catalog.kubectl()), *args], input)

    def helm(self, *args: str) -> str:
        """Run the Helm on the PATH as the user of the kubeconfig."""
        helm = shutil.which("helm") or str(catalog.program("helm"))
        return self._run([helm, *args], None)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """The given kubeconfig's cluster with the ServiceAccount's token in place of its user."""
        text = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        content = json.loads(text)
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=1h").strip()
        content["users"][0]["user"] = {"token": token}
        path = self._scratch / f"kubeconfig-{name}"
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    def istio_gateway(self) -> dict[str, Any]:
        """On the port of the ingress gateway inside the cluster."""
        return routes.istio_gateway(INGRESS_LABELS, self._gateway_port, None)

    def scrape(self, targets: Sequence[str]) -> None:
        """Wait until the series are there: this Prometheus is not the demo's to configure."""
        url = f"{self.prometheus_url}/api/v1/query?query="
        url += urllib.parse.quote("count(flight_predictions_total)")
        deadline = time.monotonic() + SCRAPED_WITHIN
        while not _query(url):
            if time.monotonic() > deadline:
                raise DemoError(
                    f"Prometheus at {self.prometheus_url} has no flight_predictions_total: let it "
                    f"scrape {' and '.join(targets)} every second or two"
                )
            time.sleep(1)

    def scrape_no_more(self) -> None:
        """Nothing: it is not the demo's to configure."""

    def split(self) -> Mapping[str, int] | None:
        """Unknown: a cluster's own Envoy does not show its configuration to the outside."""
        return None

    def _run(self, argv: list[str], input: str | None) -> str:
        done = subprocess.run(
            argv,
            input=input,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"{Path(argv[0]).name} {' '.join(argv[1:3])}: {done.stderr.strip()}")
        return done.stdout


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value.startswith("http"):
        raise DemoError(
            f"{name}={value}: with KUBECONFIG it must be the URL that the demo is to use"
        )
    return value


def _ports(environment: Mapping[str, str], name: str, default: str) -> list[int]:
    """As many ports as the default has."""
    text = environment.get(name, default)
    ports = text.split(",")
    if len(ports) != len(default.split(",")) or not all(port.isdecimal() for port in ports):
        raise DemoError(f"{name}={text}: must look like {default}")
    return [int(port) for port in ports]


def _query(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)["data"]["result"]
    except OSError as error:
        raise DemoError(f"Prometheus does not answer: {error}") from None
