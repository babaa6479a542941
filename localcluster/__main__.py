"""Build, start and stop the real parts: ``python -m localcluster {build,up,down}``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from . import catalog, manifests
from .build import build
from .cluster import Cluster
from .errors import ClusterError
from .locks import file_lock
from .processes import Processes
from .startup import STATE, discard

INGRESS = "istio-ingressgateway"
INGRESS_NAMESPACE = "istio-system"
INGRESS_LABELS = {"istio": "ingressgateway"}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # So that an orderly end also follows a SIGTERM.
    signal.signal(signal.SIGTERM, _interrupt)
    options = parser().parse_args(argv)
    try:
        options.command(options)
    except ClusterError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlocalcluster: interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m localcluster", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("build", help="build what is missing, once, into the cache")
    add.set_defaults(command=lambda _: build(sys.stderr))
    default = catalog.cache_root() / "cluster"
    for name, command, text in (
        ("up", up, "start the parts and leave them running; prints the kubeconfig's path last"),
        ("down", down, "end exactly what `up` started, and remove its directory"),
    ):
        add = commands.add_parser(name, help=text)
        add.add_argument("--dir", type=Path, default=default, help=f"default: {default}")
        add.set_defaults(command=command)
    return top


def up(options: argparse.Namespace) -> None:
    """Start a whole environment, or tell of the one that runs."""
    with file_lock(catalog.cache_root() / "up.lock"):
        cluster = running_cluster(options.dir)
        if cluster is None:
            cluster = start(options.dir)
        else:
            print(f"already running in {cluster.directory}")
    print(f"kubernetes  {cluster.apiserver_url}")
    print(f"prometheus  {cluster.prometheus_url}")
    for gateway in cluster.gateways():
        print(f"gateway     {gateway.url}  ({gateway.namespace}/{gateway.name})")
        print(f"envoy admin {gateway.admin_url}")
    print(cluster.kubeconfig, flush=True)


def start(directory: Path) -> Cluster:
    """Start a detached cluster with one ingress gateway, scraped by Prometheus."""
    cluster = Cluster.start(directory, detach=True)
    try:
        gateway = cluster.gateway(INGRESS, INGRESS_NAMESPACE, INGRESS_LABELS)
        cluster.apply(manifests.istio_gateway(INGRESS_NAMESPACE, "ingressgateway", gateway))
        target = gateway.admin_url.removeprefix("http://")
        cluster.scrape(INGRESS, [target], path="/stats/prometheus")
    except BaseException:
        cluster.stop()
        raise
    return cluster


def running_cluster(directory: Path) -> Cluster | None:
    """The cluster in a directory if all of its parts run; what is left of a broken one is ended."""
    processes = Processes(directory.absolute(), detach=True)
    ended = [part for part in processes.names() if not processes.alive(part)]
    try:
        cluster = Cluster.attach(directory)
    except ClusterError:
        processes.kill_all()
        return None
    if not ended:
        return cluster
    print(f"the cluster in {directory} broke ({', '.join(ended)} ended): starting anew")
    cluster.stop()
    return None


def down(options: argparse.Namespace) -> None:
    """Stop the cluster of a directory, also one that never became ready."""
    directory = options.dir.absolute()
    with file_lock(catalog.cache_root() / "up.lock"):
        if not (directory / STATE).exists():
            raise ClusterError(f"there is no cluster in {directory}")
        discard(Processes(directory, detach=True))
    print(f"stopped, {directory} removed")


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
