"""Deliveries over real HTTP: what is sent, what is refused, and that no error holds an address."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from modelexperiment.adapters import alerts
from modelexperiment.adapters.alerts import HttpAlerter, secrets_of
from modelexperiment.adapters.kubernetes import NotFoundError
from modelexperiment.core.alert_records import AlertName, AlertRecord
from modelexperiment.core.alerting import receivers
from modelexperiment.core.notices import Notice
from modelexperiment.core.spec import SecretKey
from modelexperiment.ports import ConflictError, UnavailableError
from tests.core.builders import START, spec
from tests.e2e.receivers import Receiver

BREACH = AlertRecord(name=AlertName.GUARDRAIL_BREACHED, summary="broke", starts_at=START)
VERDICT = AlertRecord(name=AlertName.VERDICT_REACHED, summary="better", starts_at=START)
TOKEN = "hunter2"


@pytest.fixture
def server() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


async def no_secret(namespace: str, ref: SecretKey) -> str:
    raise AssertionError("no Secret was asked for")


def send(
    alert: dict[str, Any],
    *allowed: str,
    records: tuple[AlertRecord, ...] = (BREACH,),
    secret: Any = no_secret,
) -> None:
    """Deliver to one receiver."""

    async def once() -> None:
        alerter = HttpAlerter(secret, allowed, 0.5)
        try:
            (receiver,) = receivers(spec(alerts=[alert]))
            notices = [Notice("fraud", "fraud-v2", record) for record in records]
            await alerter.send(receiver, "fraud", notices)
        finally:
            await alerter.close()

    asyncio.run(once())


def refused(alert: dict[str, Any], *allowed: str, **how: Any) -> str:
    """Why a delivery failed; the text never holds the address."""
    with pytest.raises(UnavailableError) as caught:
        send(alert, *allowed, **how)
    said = str(caught.value)
    assert TOKEN not in said
    assert "http" not in said
    assert "127.0.0.1" not in said
    assert caught.value.__cause__ is None
    return said


def test_alertmanager_gets_all_at_once_at_its_own_path(server: Receiver) -> None:
    send(
        {"alertmanager": {"url": f"{server.url}/am/"}},
        f"{server.url}/am",
        records=(BREACH, VERDICT),
    )

    (delivery,) = server.deliveries
    assert delivery.path == "/am/api/v2/alerts"
    names = [alert["labels"]["alertname"] for alert in delivery.body]
    assert names == ["GuardrailBreached", "VerdictReached"]


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_webhooks_get_one_after_the_other_each_with_its_key(server: Receiver, kind: str) -> None:
    send({kind: {"url": f"{server.url}/{TOKEN}"}}, server.url, records=(BREACH, VERDICT))

    assert [d.path for d in server.deliveries] == [f"/{TOKEN}"] * 2
    assert len({d.key for d in server.deliveries}) == 2
    assert all(d.key.endswith("-firing") for d in server.deliveries)


def test_an_address_from_a_secret_is_asked_for_in_the_experiments_namespace(
    server: Receiver,
) -> None:
    asked = []

    async def secret(namespace: str, ref: SecretKey) -> str:
        asked.append((namespace, ref.name, ref.key))
        return f" {server.url}/{TOKEN}\n"

    send({"slack": {"secretRef": {"name": "chat"}}}, server.url, secret=secret)

    assert asked == [("fraud", "chat", "url")]
    assert [d.path for d in server.deliveries] == [f"/{TOKEN}"]


def test_what_a_secret_holds_is_checked_as_well(server: Receiver) -> None:
    async def secret(namespace: str, ref: SecretKey) -> str:
        return f"http://127.0.0.1:1/{TOKEN}"

    said = refused({"slack": {"secretRef": {"name": "chat"}}}, server.url, secret=secret)

    assert said == "its address is not allowed by ALERTS_ALLOWED_URLS"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Receiver, status: int) -> None:
    server.answer, server.location = status, f"{server.url}/elsewhere"

    said = refused({"webhook": {"url": f"{server.url}/{TOKEN}"}}, server.url)

    assert said == f"answered {status}, and redirects are not followed"
    assert len(server.deliveries) == 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_anything_but_a_success_is_a_failure(server: Receiver, status: int) -> None:
    server.answer = status

    said = refused({"webhook": {"url": f"{server.url}/{TOKEN}"}}, server.url)
    assert said == f"answered {status}"


def test_who_is_slow_is_not_waited_for(server: Receiver) -> None:
    server.delay = 2.0

    said = refused({"webhook": {"url": f"{server.url}/{TOKEN}"}}, server.url)
    assert said == "did not answer within 0.5 s"


def test_who_is_gone_is_said_without_an_address() -> None:
    url = f"http://127.0.0.1:1/{TOKEN}"

    assert refused({"webhook": {"url": url}}, url) == "refuses connections"


def test_who_speaks_another_protocol_is_said_without_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}"
        assert refused({"webhook": {"url": url}}, url) == "did not answer within 0.5 s"


@pytest.mark.parametrize(
    ("host", "says"),
    [
        # Neither asks a name server: the C library reads them as 169.254.169.254 and 127.0.0.1.
        ("0xa9fea9fe", "its name leads to an address that is link-local"),
        ("0x7f000001", "its name leads to an address that is the operator's own machine"),
        ("169.254.169.254", "its address is link-local"),
        ("[fd00:ec2::254]", "its address is link-local"),
        ("[::ffff:169.254.169.254]", "its address is link-local"),
    ],
)
def test_an_allowed_host_that_leads_astray_is_not_called(host: str, says: str) -> None:
    url = f"http://{host}/{TOKEN}"

    assert refused({"webhook": {"url": url}}, url).startswith(says)


def test_what_was_checked_is_what_is_connected_to(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers otherwise the second time is not asked a second time."""
    port = int(server.url.rsplit(":", 1)[1])
    answers = ["127.0.0.1", "169.254.169.254"]

    class NameServer:
        async def resolve(self, host: str, port: int, family: int) -> list[dict[str, Any]]:
            found = {"hostname": host, "host": answers.pop(0), "port": port, "proto": 0}
            return [{**found, "family": socket.AF_INET, "flags": socket.AI_NUMERICHOST}]

    monkeypatch.setattr(alerts, "ThreadedResolver", NameServer)
    url = f"http://localhost:{port}/{TOKEN}"

    send({"webhook": {"url": url}}, url)
    assert answers == ["169.254.169.254"]
    said = refused({"webhook": {"url": url}}, url)

    assert said.startswith("its name leads to an address that is link-local")
    assert len(server.deliveries) == 1


class Secrets:
    """What of the API server is asked for."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def secret(self, namespace: str, name: str) -> dict[str, str]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(self.answer)


def read(answer: Any, key: str = "url") -> str:
    api: Any = Secrets(answer)
    return asyncio.run(_text(secrets_of(api)("fraud", SecretKey(name="chat", key=key))))


async def _text(asked: Any) -> str:
    return str(await asked)


def test_a_secrets_key_is_decoded() -> None:
    assert read({"url": base64.b64encode(b"https://x").decode()}) == "https://x"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (NotFoundError("gone"), "there is no Secret chat"),
        (ConflictError("busy"), "the Secret chat can't be read now"),
        (UnavailableError("API server: 403 Forbidden"), "the Secret chat can't be read: API"),
        ({"other": TOKEN}, "the Secret chat has no key url"),
        ({"url": "%%%"}, "url in the Secret chat is no text"),
        ({"url": base64.b64encode(b"\xff\xfe").decode()}, "url in the Secret chat is no text"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_not_shown(
    answer: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnavailableError) as caught:
        read(answer)

    assert str(caught.value).startswith(says)
    assert TOKEN not in str(caught.value) + caplog.text
