"""Users stay on their version through the sidecar of whoever calls the model, too."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster, Gateway
from localcluster.manifests import ISTIO, istio_gateway, model_service, sidecar_egress
from localcluster.web import get_json
from tests.e2e.lab import HOST, Lab, Manifest, OperatorProcess, eventually
from tests.e2e.users import Found, ask_at, keyed, predicted, table, users, z_scores

pytestmark = pytest.mark.e2e

USERS = users(1_000)
TRAFFIC = [{"modelVersion": "v1", "percent": 70}, {"modelVersion": "v2", "percent": 30}]


class SidecarLab(Lab):
    """A model that a gateway and the sidecar of one caller lead to."""

    sidecar: Gateway

    @property
    def host(self) -> str:
        """The model's whole name, which is the only one that the gateway knows."""
        return f"{HOST}.{self.namespace}.svc.cluster.local"

    def routing(self) -> list[Manifest]:
        """The model serves the port on which the caller's sidecar listens."""
        # Else it would listen for every host of the cluster until it has its own Sidecar.
        self.cluster.apply(nothing_leaves(self.namespace))
        self.sidecar = self.cluster.sidecar("caller", self.namespace, {"app": "caller"})
        ports = {version: server.port for version, server in self.servers.items()}
        return [
            *model_service(self.namespace, self.host, ports, port=self.sidecar.port),
            sidecar_egress(self.namespace, "caller", self.sidecar),
            istio_gateway(self.namespace, "edge", self.gateway),
            self.virtual_service(),
        ]

    def virtual_service(self) -> Manifest:
        """One for both; a sidecar takes no route for any host whatever."""
        service = super().virtual_service()
        service["spec"] |= {"hosts": [HOST], "gateways": ["edge", "mesh"]}
        return service

    def route(self) -> Manifest:
        """There is no Service that would tell the port."""
        route = super().route()
        route["istio"]["port"] = self.sidecar.port
        return route

    def get(self, path: str = "/predict", headers: Any = None) -> Any:
        """One request through the gateway."""
        return super().get(path, {"host": self.host, **(headers or {})})

    def close(self) -> None:
        """Take the sidecar away as well."""
        super().close()
        self.sidecar.stop()


def nothing_leaves(namespace: str) -> Manifest:
    return {
        "apiVersion": ISTIO,
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"egress": [{"hosts": ["~/*"]}]},
    }


@pytest.fixture
def lab(cluster: Cluster, operator: OperatorProcess) -> Iterator[SidecarLab]:
    """Both proxies lead to the champion."""
    made = SidecarLab(cluster, f"lab-{uuid.uuid4().hex[:8]}", {"v1": 0.6, "v2": 0.6})
    yield made
    made.close()


def test_users_are_kept_by_a_sidecar_as_by_a_gateway_and_by_it_alone(
    lab: SidecarLab, capsys: pytest.CaptureFixture[str]
) -> None:
    assignment, analysis = {"header": "x-user-id"}, {"interval": "1s", "unit": "Request"}
    manifest = lab.experiment(traffic=TRAFFIC, assignment=assignment, analysis=analysis)
    lab.apply(manifest)
    lab.wait_phase("Running")
    wait_for(lab.gateway, 70)
    wait_for(lab.sidecar, 70)

    expected = predicted(table(lab), USERS)
    outside, inside = through(lab, lab.gateway), through(lab, lab.sidecar)

    scores = z_scores(inside, {"v1": 70, "v2": 30})
    with capsys.disabled():
        print(
            f"\nnot as predicted: {wrong(outside, expected)} by the gateway, "
            f"{wrong(inside, expected)} by the sidecar of {len(USERS)}; z {scores}"
        )
    assert outside == expected
    assert inside == expected
    assert max(map(abs, scores.values())) < 3
    assert places(lab) == {
        ("GATEWAY", lab.gateway.port, *virtual_host(lab.gateway)),
        ("SIDECAR_OUTBOUND", lab.sidecar.port, *virtual_host(lab.sidecar)),
    }
    # The other route of the same virtual host is left as it was.
    assert not keyed(lab.sidecar, "admin")

    # Without gateways a VirtualService is the sidecars' alone.
    lab.cluster.kubectl(
        *("patch", "virtualservice", HOST, "-n", lab.namespace),
        *("--type=merge", "-p", '{"spec": {"gateways": null}}'),
    )
    eventually(
        lambda: places(lab) == {("SIDECAR_OUTBOUND", lab.sidecar.port, *virtual_host(lab.sidecar))},
        "the filter is for sidecars only",
    )
    for version, arm in zip((60, 40), manifest["spec"]["traffic"], strict=True):
        arm["percent"] = version
    lab.apply(manifest)
    wait_for(lab.sidecar, 60)
    eventually(lambda: table(lab).table.split == {"v1": 60.0, "v2": 40.0}, "the status says so")
    ramped = through(lab, lab.sidecar)
    assert ramped == predicted(table(lab), USERS)
    movers = {user for user in USERS if ramped[user].version != inside[user].version}
    assert {inside[user].version for user in movers} == {"v1"}
    eventually(lambda: lab.gateway.route("predict") is None, "the gateway has it no more")
    assert lab.condition("RoutesReady")["reason"] == "StickyUnproven"


def wait_for(envoy: Gateway, champion: int) -> None:
    """Wait until an Envoy splits by the user."""
    envoy.wait_for_weights("predict", {"v1": champion, "v2": 100 - champion}, timeout=30)
    eventually(lambda: keyed(envoy), f"{envoy.name} chooses by the user")


def through(lab: SidecarLab, envoy: Gateway) -> Found:
    return ask_at(envoy, lab.host, USERS)


def wrong(found: Found, expected: Found) -> int:
    return sum(found[user] != expected[user] for user in expected)


def places(lab: SidecarLab) -> set[tuple[Any, ...]]:
    """What the experiment's EnvoyFilter matches: context, port, virtual host."""
    listed = lab.cluster.kubectl("get", "envoyfilter", "-n", lab.namespace, "-o", "name")
    (name,) = (line.partition("/")[2] for line in listed.split())
    matches = [patch["match"] for patch in lab.fetch("envoyfilter", name)["spec"]["configPatches"]]
    return {
        (m["context"], (route := m["routeConfiguration"])["portNumber"], route["vhost"]["name"])
        for m in matches
    }


def virtual_host(envoy: Gateway) -> list[str]:
    """The virtual hosts that hold the route, by Envoy's own configuration."""
    return [
        host["name"]
        for section in get_json(f"{envoy.admin_url}/config_dump")["configs"]
        for entry in section.get("dynamic_route_configs", [])
        for host in entry["route_config"].get("virtual_hosts", [])
        if any(route.get("name") == "predict" for route in host.get("routes", []))
    ]
