"""The command lines and configuration files of the parts, as pure functions.

Each function returns what one part is started with; ``cluster`` writes it down and starts it.
Everything listens on 127.0.0.1 only.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

LOOPBACK = "127.0.0.1"
ISSUER = "https://kubernetes.default.svc"
ProxyKind = Literal["router", "sidecar"]
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Ports:
    """The TCP ports of one cluster."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    istiod_grpc: int
    istiod_http: int
    istiod_monitoring: int
    prometheus: int


def ready_urls(ports: Ports) -> dict[str, str]:
    """For each part the URL that answers with success once the part is ready."""
    return {
        "etcd": f"http://{LOOPBACK}:{ports.etcd}/readyz",
        "apiserver": f"https://{LOOPBACK}:{ports.apiserver}/readyz",
        "controller-manager": f"https://{LOOPBACK}:{ports.controller_manager}/healthz",
        "istiod": f"http://{LOOPBACK}:{ports.istiod_http}/ready",
        "prometheus": f"http://{LOOPBACK}:{ports.prometheus}/-/ready",
    }


def signing_key() -> str:
    """A fresh P-256 private key, PEM, for ServiceAccount tokens.

    RFC 5915's ECPrivateKey, whose public half is optional: a random number below the curve's
    order is a whole key, so neither openssl nor a library is needed.
    """
    number = 1 + secrets.randbelow(P256_ORDER - 1)
    curve = bytes.fromhex("a00a06082a8648ce3d030107")
    body = b"\x02\x01\x01\x04\x20" + number.to_bytes(32, "big") + curve
    der = b"\x30" + bytes([len(body)]) + body
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{lines}\n-----END EC PRIVATE KEY-----\n"


def kubeconfig(server: str, certificate_authority: bytes, token: str, namespace: str) -> Any:
    """A kubeconfig for one user with a token."""
    authority = base64.b64encode(certificate_authority).decode()
    context = {"cluster": "local", "user": "local", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "local",
                "cluster": {"server": server, "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": "local", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": context}],
        "current-context": "local",
    }


def etcd_argv(program: Path, directory: Path, ports: Ports) -> list[str]:
    """Etcd of one member, without fsync: it need survive a crash of etcd, not of the machine."""
    client = f"http://{LOOPBACK}:{ports.etcd}"
    peer = f"http://{LOOPBACK}:{ports.etcd_peer}"
    return [
        str(program),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_argv(program: Path, directory: Path, ports: Ports) -> list[str]:
    """kube-apiserver with RBAC, its own self-signed certificate, and tokens from a file."""
    key = directory / "service-account.key"
    return [
        str(program),
        f"--etcd-servers=http://{LOOPBACK}:{ports.etcd}",
        f"--secure-port={ports.apiserver}",
        f"--bind-address={LOOPBACK}",
        # Nobody dials this address; a loopback one would be refused in the endpoints of
        # `kubernetes`, and with the reconciler off these endpoints are not written at all.
        "--advertise-address=10.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={directory / 'apiserver-certificates'}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-account-issuer={ISSUER}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def controller_manager_argv(program: Path, directory: Path, ports: Ports) -> list[str]:
    """kube-controller-manager: owner references, deletion of namespaces, ServiceAccounts."""
    return [
        str(program),
        f"--kubeconfig={directory / 'kubeconfig'}",
        "--leader-elect=false",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.controller_manager}",
        f"--cert-dir={directory / 'controller-manager-certificates'}",
    ]


def istiod_argv(program: Path, directory: Path, ports: Ports) -> list[str]:
    """Istiod without certificates, webhooks and injection: gateways over plain text only."""
    return [
        str(program),
        "discovery",
        f"--kubeconfig={directory / 'kubeconfig'}",
        f"--meshConfig={directory / 'mesh.yaml'}",
        "--networksConfig=/dev/null",
        f"--grpcAddr={LOOPBACK}:{ports.istiod_grpc}",
        f"--httpAddr={LOOPBACK}:{ports.istiod_http}",
        "--httpsAddr=",
        "--secureGRPCAddr=",
        f"--monitoringAddr={LOOPBACK}:{ports.istiod_monitoring}",
        "--ctrlz_port=0",
    ]


def istiod_environment() -> dict[str, str]:
    """Istiod's settings that have no flag."""
    return {
        "POD_NAMESPACE": "istio-system",
        "POD_NAME": "istiod",
        # Filters of Istio's own proxy, which a stock Envoy does not have.
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
        "ENABLE_CA_SERVER": "false",
        "PILOT_CERT_PROVIDER": "none",
        "VALIDATION_WEBHOOK_CONFIG_NAME": "",
        "INJECTION_WEBHOOK_CONFIG_NAME": "",
        # It would make a Deployment per Gateway; here the gateways are started by hand.
        "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    }


def mesh_config() -> dict[str, Any]:
    """Mesh settings: with automatic mutual TLS a stock Envoy would wait for certificates."""
    return {"enableAutoMtls": False, "enablePrometheusMerge": False}


def prometheus_argv(program: Path, directory: Path, ports: Ports) -> list[str]:
    """Prometheus with reload over HTTP."""
    return [
        str(program),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{ports.prometheus}",
        "--web.enable-lifecycle",
    ]


def prometheus_config(scrape_interval: str) -> dict[str, Any]:
    """Prometheus' configuration without any job yet."""
    return {
        "global": {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval},
        "scrape_configs": [],
    }


def alertmanager_argv(program: Path, directory: Path, port: int) -> list[str]:
    """Alertmanager alone, without peers."""
    return [
        str(program),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--cluster.listen-address=",
    ]


def alertmanager_config() -> dict[str, Any]:
    """Alertmanager's configuration: it takes alerts in, and tells nobody."""
    return {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


def envoy_bootstrap(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    *,
    address: str,
    admin_port: int,
    istiod_grpc_port: int,
    kind: ProxyKind = "router",
) -> dict[str, Any]:
    """Envoy's bootstrap as a router (gateway) or a sidecar that istiod configures.

    ``address`` is the identity of the proxy in istiod's eyes; it must be no endpoint's address, or
    istiod gives the proxy that endpoint's labels.
    """
    metadata = {
        "NAMESPACE": namespace,
        "LABELS": dict(labels),
        "CLUSTER_ID": "Kubernetes",
        "ISTIO_VERSION": "1.31.0",
        "INSTANCE_IPS": address,
    }
    if kind == "sidecar":
        # Nothing is redirected to the proxy here: its application asks it on a port of its own.
        metadata["INTERCEPTION_MODE"] = "NONE"
    return {
        "node": {
            "id": f"{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
            "cluster": f"{name}.{namespace}",
            "metadata": metadata,
        },
        "admin": {"address": _socket_address(admin_port)},
        "stats_config": {"use_all_default_tags": False, "stats_tags": _stats_tags()},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_istiod_cluster(istiod_grpc_port)]},
    }


def _stats_tags() -> list[dict[str, str]]:
    """Which parts of a statistic's name become labels.

    Envoy's own pattern ends a cluster's name at its first dot, and hosts are full of dots. Istio
    ends the name in a semicolon for that reason, and its proxies have this pattern. The others are
    Envoy's own.
    """
    kept = ("response_code", "response_code_class", "http_conn_manager_prefix", "listener_address")
    return [
        {"tag_name": "envoy.cluster_name", "regex": r"^cluster(\.(.+);)"},
        *({"tag_name": f"envoy.{name}"} for name in kept),
    ]


def envoy_argv(program: Path, bootstrap: Path) -> list[str]:
    """One worker thread; no hot restart, whose shared memory would be one per machine."""
    return [
        str(program),
        "--config-path",
        str(bootstrap),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]


def _istiod_cluster(port: int) -> dict[str, Any]:
    http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{http2}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _socket_address(port)}}
    return {
        "name": "istiod",
        "alt_stat_name": "istiod;",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {http2: options},
        "load_assignment": {
            "cluster_name": "istiod",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
