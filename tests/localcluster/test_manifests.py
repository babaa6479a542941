from __future__ import annotations

from localcluster import manifests
from localcluster.gateway import Gateway

HOST = "fraud.fraud.svc.cluster.local"
GATEWAY = Gateway(
    name="gw",
    namespace="istio-system",
    labels={"istio": "ingressgateway"},
    address="127.9.9.9",
    port=20080,
    admin_port=20081,
    _stop=lambda: None,
)


def test_each_version_is_an_endpoint_that_its_subset_selects() -> None:
    entry, rule = manifests.model_service("fraud", HOST, {"v1": 1001, "v2": 1002})
    assert entry["kind"] == "ServiceEntry"
    assert entry["metadata"] == rule["metadata"] == {"name": "fraud", "namespace": "fraud"}
    assert entry["spec"]["hosts"] == [rule["spec"]["host"]] == [HOST]
    labelled = {
        endpoint["labels"]["version"]: (endpoint["address"], endpoint["ports"]["http"])
        for endpoint in entry["spec"]["endpoints"]
    }
    assert labelled == {"v1": ("127.0.0.1", 1001), "v2": ("127.0.0.1", 1002)}
    assert [subset["labels"] for subset in rule["spec"]["subsets"]] == [
        {"version": "v1"},
        {"version": "v2"},
    ]
    assert rule["spec"]["trafficPolicy"]["tls"]["mode"] == "DISABLE"


def test_the_virtual_service_splits_behind_a_gateway_on_the_envoys_port() -> None:
    gateway, service = manifests.gateway_and_virtual_service(
        "fraud", HOST, {"v1": 90, "v2": 10}, GATEWAY, route="score"
    )
    [server] = gateway["spec"]["servers"]
    assert server["port"]["number"] == GATEWAY.port
    assert server["bind"] == "127.0.0.1"
    assert gateway["spec"]["selector"] == GATEWAY.labels
    assert service["spec"]["gateways"] == [gateway["metadata"]["name"]]
    [route] = service["spec"]["http"]
    assert route["name"] == "score"
    split = {entry["destination"]["subset"]: entry["weight"] for entry in route["route"]}
    assert split == {"v1": 90, "v2": 10}


def test_a_gateway_api_gateway_points_at_the_envoys_identity() -> None:
    entry, gateway = manifests.gateway_api_gateway("fraud", "gw", GATEWAY)
    [address] = gateway["spec"]["addresses"]
    assert entry["spec"]["hosts"] == [address["value"]]
    [endpoint] = entry["spec"]["endpoints"]
    assert endpoint == {"address": "127.9.9.9", "ports": {"http": 20080}}
    [listener] = gateway["spec"]["listeners"]
    assert listener["port"] == GATEWAY.port


def test_an_http_route_splits_among_the_hosts_of_service_entries() -> None:
    ports = {"v1.fraud.internal": 1001, "v2.fraud.internal": 1002}
    entries = manifests.backend_hosts("fraud", ports)
    route = manifests.http_route("fraud", "fraud", "gw", dict.fromkeys(ports, 50), rule="score")
    [rule] = route["spec"]["rules"]
    assert rule["name"] == "score"
    backends = [backend["name"] for backend in rule["backendRefs"]]
    assert backends == [host for entry in entries for host in entry["spec"]["hosts"]]
    assert [backend["weight"] for backend in rule["backendRefs"]] == [50, 50]


def test_a_sidecar_listens_on_loopback_for_the_hosts_of_its_namespace() -> None:
    sidecar = manifests.sidecar_egress("fraud", "caller", GATEWAY)
    [listener] = sidecar["spec"]["egress"]
    assert (listener["bind"], listener["port"]["number"]) == ("127.0.0.1", GATEWAY.port)
    assert listener["hosts"] == ["./*"]
    assert sidecar["spec"]["workloadSelector"]["labels"] == GATEWAY.labels
