from __future__ import annotations

import base64
from pathlib import Path

from localcluster import config
from localcluster.config import P256_ORDER, Ports

PORTS = Ports(*range(20001, 20009))
DIRECTORY = Path("/cluster")


def test_a_signing_key_is_an_ec_private_key_of_p256() -> None:
    first, *body, last = config.signing_key().splitlines()
    assert first == "-----BEGIN EC PRIVATE KEY-----"
    assert last == "-----END EC PRIVATE KEY-----"
    der = base64.b64decode("".join(body))
    # RFC 5915: SEQUENCE { INTEGER 1, OCTET STRING of 32 bytes, [0] { OID prime256v1 } }
    assert der[:2] == bytes([0x30, len(der) - 2])
    assert der[2:7] == bytes([0x02, 0x01, 0x01, 0x04, 0x20])
    assert 1 <= int.from_bytes(der[7:39], "big") < P256_ORDER
    assert der[39:].hex() == "a00a06082a8648ce3d030107"


def test_two_clusters_never_share_a_key() -> None:
    assert config.signing_key() != config.signing_key()


def test_alertmanager_listens_on_loopback_and_has_no_peers() -> None:
    argv = config.alertmanager_argv(Path("/bin/part"), DIRECTORY, 20009)

    assert "--web.listen-address=127.0.0.1:20009" in argv
    assert "--cluster.listen-address=" in argv


def test_every_port_is_used() -> None:
    program = Path("/bin/part")
    words = " ".join(
        config.etcd_argv(program, DIRECTORY, PORTS)
        + config.apiserver_argv(program, DIRECTORY, PORTS)
        + config.controller_manager_argv(program, DIRECTORY, PORTS)
        + config.istiod_argv(program, DIRECTORY, PORTS)
        + config.prometheus_argv(program, DIRECTORY, PORTS)
    )
    assert all(str(port) in words for port in range(20001, 20009))


def test_a_kubeconfig_has_one_context_with_token_and_authority() -> None:
    content = config.kubeconfig("https://127.0.0.1:1", b"certificate", "secret", "fraud")
    [cluster], [user], [context] = content["clusters"], content["users"], content["contexts"]
    assert content["current-context"] == context["name"]
    assert context["context"] == {"cluster": "local", "user": "local", "namespace": "fraud"}
    assert user["user"] == {"token": "secret"}
    authority = cluster["cluster"]["certificate-authority-data"]
    assert base64.b64decode(authority) == b"certificate"


def test_an_envoy_says_who_it_is_and_where_istiod_is() -> None:
    bootstrap = config.envoy_bootstrap(
        "gw", "fraud", {"istio": "x"}, address="127.9.9.9", admin_port=1, istiod_grpc_port=2
    )
    node = bootstrap["node"]
    assert node["id"] == "router~127.9.9.9~gw.fraud~fraud.svc.cluster.local"
    assert node["metadata"]["LABELS"] == {"istio": "x"}
    assert node["metadata"]["NAMESPACE"] == "fraud"
    assert "INTERCEPTION_MODE" not in node["metadata"]
    [cluster] = bootstrap["static_resources"]["clusters"]
    [service] = bootstrap["dynamic_resources"]["ads_config"]["grpc_services"]
    assert service["envoy_grpc"]["cluster_name"] == cluster["name"]
    [group] = cluster["load_assignment"]["endpoints"]
    [endpoint] = group["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 2}


def test_a_sidecar_says_so_and_that_nothing_is_redirected_to_it() -> None:
    bootstrap = config.envoy_bootstrap(
        "app",
        "fraud",
        {"app": "x"},
        address="127.9.9.9",
        admin_port=1,
        istiod_grpc_port=2,
        kind="sidecar",
    )
    node = bootstrap["node"]
    assert node["id"] == "sidecar~127.9.9.9~app.fraud~fraud.svc.cluster.local"
    assert node["metadata"]["INTERCEPTION_MODE"] == "NONE"
    assert node["metadata"]["LABELS"] == {"app": "x"}
