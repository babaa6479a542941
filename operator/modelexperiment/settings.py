"""The operator's settings: environment variables, read once into one frozen dataclass.

The chart's values map to them one by one; a wrong value ends the operator with one line that
names the variable.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from modelexperiment.core.addresses import parse_address
from modelexperiment.core.fields import parse_duration


class SettingsError(ValueError):
    """An environment variable that can't be used."""


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())


def _addresses(text: str) -> tuple[str, ...]:
    found = _list(text)
    for entry in found:
        parse_address(entry)
    return found


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("must be a whole number from 1 up")
    return int(text)


def _lease(text: str) -> timedelta:
    found = parse_duration(text)
    if found < timedelta(seconds=3):
        raise ValueError("must be at least 3s")
    return found


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError("must be a port, 0 for none")
    return int(text)


def _is_ip_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _ip_address(text: str) -> str:
    if not _is_ip_address(text):
        raise ValueError("must be an IP address")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    found = _list(text)
    for host in found:
        if not _HOST.fullmatch(host) and not _is_ip_address(host):
            raise ValueError("must be names of hosts, without scheme and port")
    return found


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?")
_PAIRS = (
    ("prometheus_username", "prometheus_password_file"),
    ("prometheus_cert_file", "prometheus_key_file"),
)


@dataclass(frozen=True)
class Settings:
    """Everything that the platform decides about the operator."""

    prometheus_url: str = ""
    """Default Prometheus of experiments that name none."""
    prometheus_allowed_urls: tuple[str, ...] = ()
    """Further Prometheus addresses that a manifest may name; no other is ever called."""
    prometheus_external_url: str = ""
    """Where people find that Prometheus, for links in the status. Default: where it is read."""
    prometheus_timeout: timedelta = timedelta(seconds=10)
    """How long one query may take."""
    prometheus_settle: timedelta = timedelta(seconds=10)
    """Samples younger than this are not counted yet: as long as a scrape may take (its timeout)."""
    prometheus_lateness: timedelta = timedelta(seconds=30)
    """How much later than that a sample may be stored and is still counted. A target that is gone
    holds the count back for as long."""
    prometheus_lookback: timedelta = timedelta(minutes=5)
    """How far back a series' last earlier sample is looked for first."""
    prometheus_workers: int = 10
    """Queries under way at once."""
    prometheus_token_file: str = ""
    """File of a bearer token for prometheus_url, read anew at each query, since tokens rotate."""
    prometheus_username: str = ""
    """User name for prometheus_url (basic authentication)."""
    prometheus_password_file: str = ""
    """File of its password, read anew at each query."""
    prometheus_ca_file: str = ""
    """Certificates that prometheus_url's own is checked against. Default: the system's."""
    prometheus_cert_file: str = ""
    """The operator's own certificate for prometheus_url (mutual TLS)."""
    prometheus_key_file: str = ""
    """Its private key."""
    prometheus_tenant: str = ""
    """Sent to prometheus_url as X-Scope-OrgID, for Mimir, Cortex and multi-tenant Thanos."""
    alerts_allowed_urls: tuple[str, ...] = ()
    """Addresses that spec.alerts may name, and all that lies below them; no other is called."""
    alerts_timeout: timedelta = timedelta(seconds=10)
    """How long a receiver may take to answer."""
    mlflow_url: str = ""
    """Default MLflow of experiments that are tracked and name none."""
    mlflow_allowed_urls: tuple[str, ...] = ()
    """Further MLflow addresses that a manifest may name; no other is ever called."""
    mlflow_timeout: timedelta = timedelta(seconds=10)
    """How long one request may take."""
    mlflow_workers: int = 2
    """Experiments that are sent to MLflow at once."""
    envoy_filter_namespace: str = ""
    """Where the EnvoyFilters that keep users on their version are put: a gateway's namespace, or
    Istio's root namespace for all proxies. None: each experiment's own."""
    probe_allowed_urls: tuple[str, ...] = ()
    """Addresses that an experiment's assignment.probe may ask; no other is ever called."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none: all of them."""
    namespace: str = ""
    """The operator's own namespace, for its Lease. Default: the kubeconfig's, else "default"."""
    identity: str = ""
    """This process' name in the Lease. Default: the host's name and the process' id."""
    leader_election: bool = True
    """Whether to wait for the Lease before doing anything."""
    lease_name: str = "modelexperiment"
    """The Lease's name."""
    lease_duration: timedelta = timedelta(seconds=15)
    """How long the Lease holds without being renewed, from 3s up."""
    workers: int = 8
    """Experiments that are worked on at once."""
    metrics_port: int = 8080
    """Port of /metrics, /healthz and /readyz; 0: none."""
    dashboard_port: int = 0
    """Port of the dashboard; 0: none. It asks nobody who they are."""
    dashboard_address: str = "127.0.0.1"
    """Where it listens: by default where only `kubectl port-forward` and a proxy beside it are."""
    dashboard_hosts: tuple[str, ...] = ()
    """Names that it may be asked by beside localhost: those of the proxy before it."""
    log_format: str = "json"
    """json or text."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def __post_init__(self) -> None:
        """SettingsError where settings contradict each other."""
        if self.prometheus_token_file and self.prometheus_username:
            raise SettingsError(
                "PROMETHEUS_TOKEN_FILE: can't be used together with PROMETHEUS_USERNAME, got both"
            )
        if self.dashboard_port and self.dashboard_port == self.metrics_port:
            raise SettingsError(
                f"DASHBOARD_PORT: must be another one than METRICS_PORT, got {self.dashboard_port}"
            )
        for one, other in _PAIRS:
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                given, missing = (one, other) if getattr(self, one) else (other, one)
                raise SettingsError(
                    f"{missing.upper()}: is needed with {given.upper()}, got nothing"
                )


_READERS: dict[str, Callable[[str], Any]] = {
    "prometheus_url": lambda text: text.rstrip("/"),
    "prometheus_external_url": lambda text: text.rstrip("/"),
    "prometheus_allowed_urls": _list,
    "prometheus_workers": _positive,
    "alerts_allowed_urls": _addresses,
    "mlflow_url": lambda text: text.rstrip("/"),
    "mlflow_allowed_urls": _list,
    "mlflow_workers": _positive,
    "probe_allowed_urls": _list,
    "watch_namespaces": _list,
    "leader_election": _flag,
    "lease_duration": _lease,
    "workers": _positive,
    "metrics_port": _port,
    "dashboard_port": _port,
    "dashboard_address": _ip_address,
    "dashboard_hosts": _hosts,
    "log_format": _one_of("json", "text"),
    "log_level": _one_of("debug", "info", "warning", "error"),
}
_MLFLOW_SECRETS = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
_NAMES = {"namespace": "POD_NAMESPACE", "identity": "POD_NAME"}


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; SettingsError that names the variable and its value."""
    found: dict[str, Any] = {}
    for field in fields(Settings):
        name = _NAMES.get(field.name, field.name.upper())
        text = environment.get(name, "")
        if not text:
            continue
        default = parse_duration if field.type == "timedelta" else str
        read = _READERS.get(field.name, default)
        try:
            found[field.name] = read(text)
        except ValueError as why:
            raise SettingsError(f"{name}: {why}, got {text}") from None
    _check_mlflow(found, environment)
    found.setdefault("identity", f"{socket.gethostname()}-{os.getpid()}")
    return Settings(**found)


def _check_mlflow(found: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """MLflow's client shows its credentials to whatever it calls: then to one address only."""
    secret = next((name for name in _MLFLOW_SECRETS if environment.get(name)), None)
    if secret and found.get("mlflow_allowed_urls"):
        others = ",".join(found["mlflow_allowed_urls"])
        raise SettingsError(
            f"MLFLOW_ALLOWED_URLS: can't be used together with {secret}, got {others}"
        )
