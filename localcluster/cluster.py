"""A running cluster: start it, use it, break parts of it, stop it.

Everything about a cluster is in its directory: configuration, records of the processes, their
output. So another process can attach to it, and whoever stops it ends exactly what was started.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import catalog, config, scraping, startup
from .config import LOOPBACK, Ports
from .crds import wait_established
from .errors import ClusterError
from .files import write_json, write_yaml
from .gateway import Gateway, part_name
from .locks import file_lock
from .ports import free_ports
from .processes import Processes, base_environment
from .startup import STATE

COMMAND_TIMEOUT = 300
ALERTMANAGER = "alertmanager"


class Cluster:
    """A real Kubernetes API with istiod and Prometheus, on loopback.

    Made by ``start`` or ``attach``. As a context manager it stops at the end. Unless started with
    ``detach``, its processes end with this process, even if that is killed.
    """

    def __init__(self, directory: Path, ports: Ports, *, detach: bool) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.prometheus_url = f"http://{LOOPBACK}:{ports.prometheus}"
        self.apiserver_url = f"https://{LOOPBACK}:{ports.apiserver}"
        self._ports = ports
        self._processes = Processes(directory, detach=detach)
        self._owner = os.getpid()

    @classmethod
    def start(
        cls, directory: Path, *, detach: bool = False, scrape_interval: str = "1s"
    ) -> Cluster:
        """Start all parts in a new or empty directory and wait until they are ready.

        Raises ClusterError where a part is not built, ends, or is not ready in time, or where
        the directory is in use.
        """
        directory = directory.absolute()

        def attempt() -> Cluster:
            startup.claim_directory(directory)
            ports = Ports(*free_ports(len(fields(Ports))))
            cluster = cls(directory, ports, detach=detach)
            try:
                cluster._start(scrape_interval)
            except BaseException:
                cluster.stop()
                raise
            return cluster

        return startup.with_free_ports(attempt)

    def _start(self, scrape_interval: str) -> None:
        if not self._processes.detach:
            atexit.register(self._stop_at_exit)
        write_json(self.directory / STATE, self._first_state())
        token = startup.write_files(self.directory, scrape_interval)
        startup.start_storage(self._processes, self._ports)
        startup.write_admin_kubeconfig(self.directory, self._ports, token)
        startup.start_controllers(self._processes, self._ports)
        self.kubectl("create", "namespace", "istio-system")
        self.apply(*(file.read_text() for file in catalog.crd_files()))
        wait_established(self.kubectl)
        for part in ("controller-manager", "istiod"):
            self._wait_ready(part)
        self._write_state(lambda state: state.update(ready=True))

    def _first_state(self) -> dict[str, Any]:
        return {
            "ready": False,
            "detach": self._processes.detach,
            "kubeconfig": str(self.kubeconfig),
            "apiserver": self.apiserver_url,
            "prometheus": self.prometheus_url,
            "ports": asdict(self._ports),
            "gateways": {},
        }

    @classmethod
    def attach(cls, directory: Path) -> Cluster:
        """A handle to a cluster that somebody else started.

        What is started through the handle ends with this process, unless the cluster is detached.
        Raises ClusterError where none is in the directory, or where it is not up yet.
        """
        directory = directory.absolute()
        try:
            state = json.loads((directory / STATE).read_text())
        except FileNotFoundError:
            raise ClusterError(f"there is no cluster in {directory}") from None
        if not state["ready"]:
            raise ClusterError(f"the cluster in {directory} is not up")
        return cls(directory, Ports(**state["ports"]), detach=state["detach"])

    def stop(self, *, keep_logs: bool = False) -> None:
        """End every process of this cluster and remove its directory.

        With ``keep_logs`` the directory stays, to be read. Stopping twice does nothing.
        """
        atexit.unregister(self._stop_at_exit)
        if keep_logs:
            self._processes.kill_all()
        else:
            startup.discard(self._processes)

    def _stop_at_exit(self) -> None:
        # A fork inherits the exit handlers, but the cluster is its parent's.
        if os.getpid() == self._owner:
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; returns its standard output.

        Raises ClusterError with its standard error where it fails, unless ``check`` is off.
        """
        return self._run([str(catalog.kubectl()), *args], input=input, check=check)

    def helm(self, *args: str) -> str:
        """Run Helm as administrator; returns its standard output, raises ClusterError."""
        return self._run([str(catalog.program("helm")), *args], input=None, check=True)

    def apply(self, *manifests: Mapping[str, Any] | str) -> None:
        """Server-side apply of manifests: mappings, or YAML texts of one or more documents."""
        texts = [text if isinstance(text, str) else json.dumps(text) for text in manifests]
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", input="\n---\n".join(texts)
        )

    def _run(self, argv: list[str], *, input: str | None, check: bool) -> str:
        environment = base_environment(self.directory)
        result = subprocess.run(
            argv,
            input=input,
            env=environment | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        if check and result.returncode != 0:
            command = " ".join([Path(argv[0]).name, *argv[1:]])
            raise ClusterError(f"{command}: {result.stderr.strip()}")
        return result.stdout

    def scrape(
        self,
        job: str,
        targets: Sequence[str],
        *,
        labels: Mapping[str, str] | None = None,
        interval: str = "1s",
        path: str = "/metrics",
    ) -> None:
        """Let Prometheus scrape ``targets`` (host:port) as ``job``, in place of what it had."""

        def edit(before: scraping.Configuration) -> scraping.Configuration:
            return scraping.with_scrape_job(
                before, job, targets, labels=labels or {}, interval=interval, path=path
            )

        scraping.change(self.directory, self.prometheus_url, edit)

    def unscrape(self, job: str) -> None:
        """Let Prometheus scrape a job no more: its series end, and their past stays.

        Takes effect within some seconds.
        """
        scraping.change(
            self.directory,
            self.prometheus_url,
            lambda before: scraping.without_targets(before, job),
        )

    def alertmanager(self) -> str:
        """The URL of an Alertmanager, which is started when it is first asked for.

        Its name for ``kill`` and the like is ``alertmanager``.
        """
        if not self._processes.alive(ALERTMANAGER):
            startup.with_free_ports(self._start_alertmanager)
        return f"http://{LOOPBACK}:{self._state()['alertmanager']}"

    def _start_alertmanager(self) -> None:
        [port] = free_ports(1)
        write_yaml(self.directory / "alertmanager.yml", config.alertmanager_config())
        self._write_state(lambda state: state.update(alertmanager=port))
        program = catalog.program(ALERTMANAGER)
        argv = config.alertmanager_argv(program, self.directory, port)
        self._processes.spawn(ALERTMANAGER, argv)
        self._wait_ready(ALERTMANAGER)

    def gateway(self, name: str, namespace: str, labels: Mapping[str, str]) -> Gateway:
        """An Envoy that istiod configures as a gateway with these labels.

        One that runs already under this name is returned as it is.
        """
        return self._proxy("router", name, namespace, labels)

    def sidecar(self, name: str, namespace: str, labels: Mapping[str, str]) -> Gateway:
        """An Envoy that istiod configures as the sidecar of a workload with these labels.

        Its application would send requests to ``url``, where it listens once a ``Sidecar`` says
        so: see ``manifests.sidecar_egress``. Names are shared with gateways.
        """
        return self._proxy("sidecar", name, namespace, labels)

    def _proxy(
        self, kind: config.ProxyKind, name: str, namespace: str, labels: Mapping[str, str]
    ) -> Gateway:
        part = part_name(name, namespace)
        known = self._state()["gateways"].get(part)
        if known is None or not self._processes.alive(part):
            known = startup.with_free_ports(
                lambda: self._start_proxy(kind, name, namespace, labels)
            )
        return self._gateway_handle(known)

    def _start_proxy(
        self, kind: config.ProxyKind, name: str, namespace: str, labels: Mapping[str, str]
    ) -> dict[str, Any]:
        part = part_name(name, namespace)
        port, admin_port = free_ports(2)
        known: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict(labels)}
        known |= {"address": _identity(), "port": port, "admin_port": admin_port}
        bootstrap = self.directory / f"{part}.json"
        write_json(
            bootstrap,
            config.envoy_bootstrap(
                name,
                namespace,
                labels,
                address=known["address"],
                admin_port=admin_port,
                istiod_grpc_port=self._ports.istiod_grpc,
                kind=kind,
            ),
        )
        self._write_state(lambda state: state["gateways"].update({part: known}))
        self._processes.spawn(part, config.envoy_argv(catalog.envoy(), bootstrap))
        self._wait_ready(part)
        return known

    def _stop_gateway(self, part: str) -> None:
        self._processes.forget(part)
        self._write_state(lambda state: state["gateways"].pop(part))

    def gateways(self) -> list[Gateway]:
        """The gateways that have been started and not stopped."""
        return [self._gateway_handle(known) for known in self._state()["gateways"].values()]

    def _gateway_handle(self, known: Mapping[str, Any]) -> Gateway:
        part = part_name(known["name"], known["namespace"])
        return Gateway(**known, _stop=lambda: self._stop_gateway(part))

    def service_account_kubeconfig(
        self, namespace: str, name: str, *, duration: str = "24h"
    ) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount (TokenRequest)."""
        token = self.kubectl("create", "token", name, "-n", namespace, f"--duration={duration}")
        authority = (self.directory / startup.APISERVER_CERTIFICATE).read_bytes()
        content = config.kubeconfig(self.apiserver_url, authority, token.strip(), namespace)
        path = self.directory / f"kubeconfig-{namespace}-{name}"
        write_yaml(path, content)
        return path

    def parts(self) -> list[str]:
        """Names of all parts: etcd, apiserver, controller-manager, istiod, prometheus, gateways."""
        return self._processes.names()

    def alive(self, part: str) -> bool:
        """Whether the process of a part runs, or is paused."""
        return self._processes.alive(part)

    def log(self, part: str) -> Path:
        """The file with a part's output."""
        return self._processes.log(part)

    def resident_bytes(self, part: str) -> int:
        """Resident memory of a running part, in bytes."""
        return self._processes.resident_bytes(part)

    def kill(self, part: str) -> None:
        """End a part at once (SIGKILL), as a crash would."""
        self._processes.kill(part)

    def restart(self, part: str) -> None:
        """End a part if it runs, start it again on its data and ports, and wait until ready."""
        self._processes.respawn(part)
        self._wait_ready(part)

    def pause(self, part: str) -> None:
        """Stop a part from running (SIGSTOP): its connections stay open, and nothing answers."""
        self._processes.pause(part)

    def resume(self, part: str) -> None:
        """Let a paused part run on (SIGCONT)."""
        self._processes.resume(part)

    def _wait_ready(self, part: str) -> None:
        state = self._state()
        gateways = state["gateways"]
        if part in gateways:
            url = f"http://{LOOPBACK}:{gateways[part]['admin_port']}/ready"
        elif part == ALERTMANAGER:
            url = f"http://{LOOPBACK}:{state['alertmanager']}/-/ready"
        else:
            url = config.ready_urls(self._ports)[part]
        startup.wait_ready(self._processes, part, url)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.directory / STATE).read_text())
        return state

    def _write_state(self, edit: Callable[[dict[str, Any]], object]) -> None:
        with file_lock(self.directory / "state.lock"):
            state = self._state()
            edit(state)
            write_json(self.directory / STATE, state)


def _identity() -> str:
    """A loopback address that no endpoint uses, as the identity of one more proxy."""
    return f"127.{random.randint(100, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
