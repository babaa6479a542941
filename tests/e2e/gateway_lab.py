"""The lab once more, with a Gateway API HTTPRoute in the place of the VirtualService."""

from __future__ import annotations

import json
from typing import Any

from localcluster.manifests import backend_hosts, gateway_api_gateway
from tests.e2e.lab import HOST, Lab, Manifest


class GatewayLab(Lab):
    """One namespace with a model's versions behind an HTTPRoute, each a host of its own."""

    def backend(self, version: str) -> str:
        """The host of a version."""
        return f"{version}.{self.namespace}.internal"

    def routing(self) -> list[Manifest]:
        """A Gateway, the versions' hosts and the route."""
        ports = {self.backend(v): server.port for v, server in self.servers.items()}
        return [
            *backend_hosts(self.namespace, ports),
            *gateway_api_gateway(self.namespace, "edge", self.gateway),
            self.http_route(),
        ]

    def http_route(self) -> Manifest:
        """An HTTPRoute as its owner wrote it: two rules, and fields and filters of all sorts."""
        champion = {
            "group": "networking.istio.io",
            "kind": "Hostname",
            "name": self.backend(next(iter(self.servers))),
            "port": 80,
        }
        said = {"set": [{"name": "x-served-by", "value": "champion"}]}
        everywhere = {"set": [{"name": "x-team", "value": "risk"}]}
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {
                "name": HOST,
                "namespace": self.namespace,
                "annotations": {"team.example/owner": "risk"},
            },
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "rules": [
                    {
                        "name": "admin",
                        "matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}],
                        "backendRefs": [champion],
                    },
                    {
                        "name": "predict",
                        "timeouts": {"request": "7s"},
                        "filters": [
                            {"type": "ResponseHeaderModifier", "responseHeaderModifier": everywhere}
                        ],
                        "backendRefs": [
                            {
                                **champion,
                                "filters": [
                                    {
                                        "type": "ResponseHeaderModifier",
                                        "responseHeaderModifier": said,
                                    }
                                ],
                            }
                        ],
                    },
                ],
            },
        }

    def route(self) -> Manifest:
        """The experiment's `spec.route`."""
        return {"gatewayAPI": {"httpRoute": HOST, "rule": "predict"}}

    def traffic(self, **percents: float) -> list[Manifest]:
        """The experiment's `spec.traffic`."""
        return [
            {"modelVersion": version, "percent": percent, "service": self.backend(version)}
            for version, percent in percents.items()
        ]

    def experiment(self, name: str = "fraud-v2", **spec: Any) -> Manifest:
        """A ModelExperiment of this lab; `spec` replaces fields of its spec."""
        return super().experiment(name, **{"traffic": self.traffic(v1=90, v2=10), **spec})

    def rule(self) -> Manifest:
        """The rule that is split, as the API server has it."""
        return dict(self.fetch("httproute", HOST)["spec"]["rules"][1])

    def patch_route(self, *operations: Manifest) -> None:
        """`kubectl patch` of the HTTPRoute, as somebody else does it."""
        self.cluster.kubectl(
            *("patch", "httproute", HOST, "-n", self.namespace),
            *("--type=json", "-p", json.dumps(operations)),
        )
