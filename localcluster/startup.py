"""From an empty directory to running parts: files, order of starting, waiting until ready.

etcd, kube-apiserver and Prometheus start at once, since the API server waits for etcd by itself.
What talks to the API server follows when it is ready, while the CRDs are being applied.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import yaml

from . import catalog, config
from .config import LOOPBACK, Ports
from .errors import ClusterError
from .files import write_private, write_yaml
from .processes import Processes
from .web import answers, wait_until

STATE = "cluster.json"
APISERVER_CERTIFICATE = "apiserver-certificates/apiserver.crt"
READY_TIMEOUT = 120.0
START_ATTEMPTS = 3
PORT_TAKEN = "address already in use"

Started = TypeVar("Started")


class PortTakenError(ClusterError):
    """Another program took a port between its choice and its use: start again with others."""


def with_free_ports(attempt: Callable[[], Started]) -> Started:
    """What ``attempt`` starts, tried again with other ports where one was taken."""
    for _ in range(START_ATTEMPTS - 1):
        try:
            return attempt()
        except PortTakenError:
            continue
    return attempt()


def claim_directory(directory: Path) -> None:
    """Make the directory, or take an empty one; leftovers of an ended cluster are removed.

    Raises ClusterError where a cluster runs in it, or where it holds anything else: a cluster
    removes its directory when it stops.
    """
    if (directory / STATE).exists():
        leftover = Processes(directory, detach=True)
        running = [name for name in leftover.names() if leftover.alive(name)]
        if running:
            raise ClusterError(f"a cluster runs in {directory} ({', '.join(running)})")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(directory.iterdir()):
        raise ClusterError(f"{directory} is not empty and holds no cluster")


def discard(processes: Processes) -> None:
    """End all processes of a directory, and remove it."""
    processes.kill_all()
    with suppress(FileNotFoundError):
        shutil.rmtree(processes.directory)


def write_files(directory: Path, scrape_interval: str) -> str:
    """Write what the parts read at their start; returns the administrator's token."""
    token = secrets.token_hex(16)
    write_private(directory / "service-account.key", config.signing_key())
    write_private(directory / "tokens.csv", f'{token},admin,admin,"system:masters"\n')
    write_yaml(directory / "mesh.yaml", config.mesh_config())
    write_yaml(directory / "prometheus.yml", config.prometheus_config(scrape_interval))
    return token


def start_storage(processes: Processes, ports: Ports) -> None:
    """Start the parts that need no other part, and wait for the API server."""
    directory = processes.directory
    etcd, apiserver = catalog.program("etcd"), catalog.program("kube-apiserver")
    processes.spawn("etcd", config.etcd_argv(etcd, directory, ports))
    processes.spawn("apiserver", config.apiserver_argv(apiserver, directory, ports))
    prometheus = catalog.program("prometheus")
    processes.spawn("prometheus", config.prometheus_argv(prometheus, directory, ports))
    urls = config.ready_urls(ports)
    for part in ("etcd", "apiserver", "prometheus"):
        wait_ready(processes, part, urls[part])


def start_controllers(processes: Processes, ports: Ports) -> None:
    """Start the parts that are clients of the API server; they become ready on their own."""
    directory = processes.directory
    manager = catalog.program("kube-controller-manager")
    processes.spawn("controller-manager", config.controller_manager_argv(manager, directory, ports))
    istiod = catalog.program("pilot-discovery")
    processes.spawn(
        "istiod", config.istiod_argv(istiod, directory, ports), config.istiod_environment()
    )


def write_admin_kubeconfig(directory: Path, ports: Ports, token: str) -> None:
    """Write the administrator's kubeconfig; the API server has made its certificate by now."""
    authority = (directory / APISERVER_CERTIFICATE).read_bytes()
    server = f"https://{LOOPBACK}:{ports.apiserver}"
    content = config.kubeconfig(server, authority, token, "default")
    write_private(directory / "kubeconfig", yaml.safe_dump(content))


def wait_ready(processes: Processes, part: str, url: str) -> None:
    """Wait until a part answers.

    Raises PortTakenError where it found its port taken, else ClusterError with the end of its
    output where it ended or is not ready in time.
    """

    def ready() -> bool:
        if answers(url):
            return True
        if processes.alive(part):
            return False
        tail = processes.log_tail(part)
        kind = PortTakenError if PORT_TAKEN in tail.lower() else ClusterError
        raise kind(f"{part} ended:\n{tail}")

    wait_until(ready, lambda: f"{part} ready\n{processes.log_tail(part)}", READY_TIMEOUT)
