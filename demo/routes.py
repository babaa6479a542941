"""The manifests that lead the flights to the model servers: what a team has before any experiment.

One host with a subset per version, an Istio Gateway, and a VirtualService whose one http route
sends everything to v1. The VirtualService takes predictions only: labels and metrics are none of
the callers' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcluster.manifests import model_service

Manifest = dict[str, Any]

NAMESPACE = "flights"
MODEL_HOST = "delays.flights.internal"
PUBLIC_HOST = "flights.demo.internal"
ROUTE = "predict"
NAME = "delays"
OWNER = "modelexperiment-demo"
OWN = f"app.kubernetes.io/managed-by={OWNER}"


def service(address: str, ports: Mapping[str, int]) -> list[Manifest]:
    """The model's versions as one host; every version listens at the same address."""
    entry, rule = model_service(NAMESPACE, MODEL_HOST, ports)
    for endpoint in entry["spec"]["endpoints"]:
        endpoint["address"] = address
    return [entry, rule]


def istio_gateway(selector: Mapping[str, str], port: int, bind: str | None) -> Manifest:
    """Let the proxies with these labels take requests for the public host."""
    server = {
        "port": {"number": port, "name": f"http-{port}", "protocol": "HTTP"},
        "hosts": [PUBLIC_HOST],
    }
    if bind:
        server["bind"] = bind
    return _istio("Gateway", {"selector": dict(selector), "servers": [server]})


def virtual_service(champion: str, challenger: str) -> Manifest:
    """Everything to the champion; the challenger is listed and gets nothing yet."""
    destinations = [
        {
            "destination": {"host": MODEL_HOST, "subset": version, "port": {"number": 80}},
            "weight": weight,
        }
        for version, weight in ((champion, 100), (challenger, 0))
    ]
    route = {
        "name": ROUTE,
        "match": [{"uri": {"exact": "/predict"}}],
        "route": destinations,
    }
    return _istio("VirtualService", {"hosts": [PUBLIC_HOST], "gateways": [NAME], "http": [route]})


def namespace() -> Manifest:
    """Where all of this lives."""
    labels = {"app.kubernetes.io/managed-by": OWNER}
    metadata = {"name": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _istio(kind: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": spec,
    }
