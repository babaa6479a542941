"""A real Prometheus that lets in only who shows a certificate, and a password, token or tenant."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import yaml

from localcluster import catalog
from localcluster.ports import free_ports
from modelexperiment.adapters.prometheus import Access, PrometheusSource
from modelexperiment.ports import UnavailableError
from tests.e2e.lab import eventually

pytestmark = pytest.mark.e2e

PASSWORD = "s3cret-word"
# bcrypt of PASSWORD, at its least cost.
HASH = "$2b$04$ZCBHyfaddWLGMHg4qVLr9ObQ70Phw2DJGMD.yImk3FNEOW30WnfVC"


def ask(access: Access, url: str = "") -> float:
    """Ask for the time."""

    async def run() -> float:
        source = PrometheusSource(5, 1, access)
        try:
            return await source.now(url or access.url)
        finally:
            await source.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """One with TLS, client certificates and basic authentication; gives what it asks for."""
    home = tmp_path_factory.mktemp("prometheus")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    for name, issuer in (("server", authority), ("operator", authority), ("stranger", stranger)):
        made = issuer.issue_cert("127.0.0.1", "localhost")
        made.cert_chain_pems[0].write_to_path(str(home / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(home / f"{name}.key"))
    (home / "password").write_text(PASSWORD + "\n")
    web = {
        "tls_server_config": {
            "cert_file": "server.pem",
            "key_file": "server.key",
            "client_ca_file": "ca.pem",
            "client_auth_type": "RequireAndVerifyClientCert",
        },
        "basic_auth_users": {"operator": HASH},
    }
    (home / "web.yml").write_text(yaml.safe_dump(web))
    (home / "prometheus.yml").write_text("{}")
    (port,) = free_ports(1)
    access = Access(
        url=f"https://127.0.0.1:{port}",
        username="operator",
        password_file=str(home / "password"),
        ca_file=str(home / "ca.pem"),
        cert_file=str(home / "operator.pem"),
        key_file=str(home / "operator.key"),
    )
    argv = [
        str(catalog.program("prometheus")),
        f"--config.file={home / 'prometheus.yml'}",
        f"--web.config.file={home / 'web.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(access), "Prometheus answers", 60)
        yield access
    finally:
        process.terminate()
        process.wait(30)


def _answers(access: Access) -> bool:
    try:
        return ask(access) > 0
    except UnavailableError:
        return False


def test_certificate_and_password_let_the_operator_in(prometheus: Access) -> None:
    assert ask(prometheus) > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"username": "", "password_file": ""}, "answered 401: Unauthorized"),
        ({"cert_file": "", "key_file": ""}, "can't be reached: "),
        ({"ca_file": ""}, "CERTIFICATE_VERIFY_FAILED"),
        ({"password_file": "/nowhere"}, "can't be asked: /nowhere: No such file or directory"),
    ],
    ids=["no password", "no certificate", "an unknown authority", "a missing file"],
)
def test_whatever_is_missing_is_said(prometheus: Access, change: dict[str, str], says: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        ask(replace(prometheus, **change))

    assert says in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_stranger_s_certificate_is_refused(prometheus: Access) -> None:
    home = Path(prometheus.ca_file).parent
    theirs = {"cert_file": str(home / "stranger.pem"), "key_file": str(home / "stranger.key")}
    with pytest.raises(UnavailableError, match="can't be reached"):
        ask(replace(prometheus, **theirs))


class TestHeaders:
    """What is sent, as a server sees it."""

    @pytest.fixture
    def server(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        seen: list[dict[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(dict(self.headers))
                data = {"resultType": "scalar", "result": [1.0, "1"]}
                body = json.dumps({"status": "success", "data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                return

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
            thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
            thread.start()
            yield f"http://127.0.0.1:{listening.server_port}", seen
            listening.shutdown()
            thread.join()

    def test_a_rotated_token_is_used_at_once(
        self, server: tuple[str, list[dict[str, str]]], tmp_path: Path
    ) -> None:
        url, seen = server
        token = tmp_path / "token"
        access = Access(url=url, token_file=str(token), tenant="team-a")

        async def run() -> None:
            source = PrometheusSource(5, 1, access)
            for secret in ("first", "second"):
                token.write_text(secret + "\n")
                await source.number(url, "up", 1)
            await source.close()

        asyncio.run(run())

        assert [headers["Authorization"] for headers in seen] == ["Bearer first", "Bearer second"]
        assert {headers["X-Scope-OrgID"] for headers in seen} == {"team-a"}

    def test_another_address_sees_no_credential(
        self, server: tuple[str, list[dict[str, str]]], tmp_path: Path
    ) -> None:
        url, seen = server
        (tmp_path / "token").write_text("secret")
        access = Access(url="http://own:9090", token_file=str(tmp_path / "token"), tenant="team-a")
        ask(access, url)

        assert not {"Authorization", "X-Scope-OrgID"} & seen[0].keys()
