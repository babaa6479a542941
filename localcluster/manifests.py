"""Manifests for model servers that run on this machine, as pure builders.

There is no kubelet, so there are no pods, and the endpoints of a Kubernetes Service may not be
loopback addresses. Those of an Istio ServiceEntry may: each version of a model is an endpoint on
127.0.0.1 with a label, and a subset of a DestinationRule selects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import LOOPBACK
from .gateway import Gateway

Manifest = dict[str, Any]

ISTIO = "networking.istio.io/v1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
VERSION_LABEL = "version"


def model_service(
    namespace: str, host: str, ports_by_version: Mapping[str, int], *, port: int = 80
) -> list[Manifest]:
    """A model's versions as one host: a ServiceEntry, and a DestinationRule of a subset each.

    ``host`` is a DNS name, for instance fraud.NAMESPACE.svc.cluster.local, which a VirtualService
    of that namespace may shorten to fraud. ``ports_by_version`` are the model servers' ports on
    127.0.0.1; ``port`` is the host's own. Both objects go by the host's first label.
    """
    rule = {
        "host": host,
        # Model servers speak plain HTTP, and have no sidecar.
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
        "subsets": [
            {"name": version, "labels": {VERSION_LABEL: version}} for version in ports_by_version
        ],
    }
    name = host.partition(".")[0]
    entry = _service_entry(namespace, name, host, port, _endpoints(ports_by_version))
    return [entry, _object(ISTIO, "DestinationRule", namespace, name, rule)]


def gateway_and_virtual_service(
    namespace: str,
    host: str,
    weights: Mapping[str, int],
    gateway: Gateway,
    *,
    name: str | None = None,
    route: str = "predict",
    port: int = 80,
) -> list[Manifest]:
    """An Istio Gateway for a running Envoy, and a VirtualService that splits by subset.

    ``weights`` sum to 100. Every request that reaches ``gateway.url`` takes the http route named
    ``route``. Both objects are called ``name``, by default the host's first label.
    """
    name = name or host.partition(".")[0]
    destinations = [
        {
            "destination": {"host": host, "subset": subset, "port": {"number": port}},
            "weight": weight,
        }
        for subset, weight in weights.items()
    ]
    virtual_service = {
        "hosts": ["*"],
        "gateways": [name],
        "http": [{"name": route, "route": destinations}],
    }
    return [
        istio_gateway(namespace, name, gateway),
        _object(ISTIO, "VirtualService", namespace, name, virtual_service),
    ]


def istio_gateway(namespace: str, name: str, gateway: Gateway) -> Manifest:
    """An Istio Gateway that lets a running Envoy listen, for any host."""
    server = {
        "port": {"number": gateway.port, "name": "http", "protocol": "HTTP"},
        "hosts": ["*"],
        "bind": LOOPBACK,
    }
    spec = {"selector": dict(gateway.labels), "servers": [server]}
    return _object(ISTIO, "Gateway", namespace, name, spec)


def sidecar_egress(namespace: str, name: str, sidecar: Gateway) -> Manifest:
    """An Istio Sidecar that lets a running Envoy listen for the hosts of its namespace.

    Only hosts with a port of that number are reached through it.
    """
    listener = {
        "port": {"number": sidecar.port, "name": "http", "protocol": "HTTP"},
        "bind": LOOPBACK,
        "captureMode": "NONE",
        "hosts": ["./*"],
    }
    spec = {"workloadSelector": {"labels": dict(sidecar.labels)}, "egress": [listener]}
    return _object(ISTIO, "Sidecar", namespace, name, spec)


def backend_hosts(
    namespace: str, ports_by_host: Mapping[str, int], *, port: int = 80
) -> list[Manifest]:
    """A ServiceEntry per host, for routes that tell versions apart by host (Gateway API)."""
    return [
        _service_entry(namespace, host.replace(".", "-"), host, port, [_endpoint(target)])
        for host, target in ports_by_host.items()
    ]


def gateway_api_gateway(namespace: str, name: str, gateway: Gateway) -> list[Manifest]:
    """A Gateway API Gateway for a running Envoy, and the ServiceEntry that leads istiod to it.

    Where no Service stands for the proxy, istiod finds it by a host whose endpoint is the
    proxy's own address.
    """
    host = f"{name}.{namespace}.gateway.internal"
    listener = {
        "name": "http",
        "port": gateway.port,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    proxy = {"address": gateway.address, "ports": {"http": gateway.port}}
    entry = _service_entry(namespace, f"{name}-proxy", host, gateway.port, [proxy])
    spec = {
        "gatewayClassName": "istio",
        "addresses": [{"type": "Hostname", "value": host}],
        "listeners": [listener],
    }
    return [entry, _object(GATEWAY_API, "Gateway", namespace, name, spec)]


def http_route(
    namespace: str,
    name: str,
    gateway_name: str,
    weights: Mapping[str, int],
    *,
    rule: str = "predict",
    port: int = 80,
) -> Manifest:
    """An HTTPRoute of one named rule that splits among hosts of ServiceEntries by weight."""
    backends = [
        {
            "group": "networking.istio.io",
            "kind": "Hostname",
            "name": host,
            "port": port,
            "weight": weight,
        }
        for host, weight in weights.items()
    ]
    spec = {
        "parentRefs": [{"name": gateway_name}],
        "rules": [{"name": rule, "backendRefs": backends}],
    }
    return _object(GATEWAY_API, "HTTPRoute", namespace, name, spec)


def _endpoints(ports_by_version: Mapping[str, int]) -> list[Manifest]:
    return [
        _endpoint(port) | {"labels": {VERSION_LABEL: version}}
        for version, port in ports_by_version.items()
    ]


def _endpoint(port: int) -> Manifest:
    return {"address": LOOPBACK, "ports": {"http": port}}


def _service_entry(
    namespace: str, name: str, host: str, port: int, endpoints: list[Manifest]
) -> Manifest:
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
        "endpoints": endpoints,
    }
    return _object(ISTIO, "ServiceEntry", namespace, name, spec)


def _object(api_version: str, kind: str, namespace: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
