"""Alertmanager, Slack-compatible and generic webhooks: one POST each, to allowed addresses only.

An address that comes from a Secret is a secret, and so is one that stands in the manifest. No error
that leaves this module therefore holds an address, a host or an answer's body.
"""

from __future__ import annotations

import base64
import binascii
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.addresses import forbidden, is_allowed, parse_address
from modelexperiment.core.alerting import Receiver
from modelexperiment.core.notices import Notice, alertmanager_body, slack_body, webhook_body
from modelexperiment.core.spec import SecretKey
from modelexperiment.ports import ConflictError, UnavailableError

SecretReader = Callable[[str, SecretKey], Awaitable[str]]
"""Reads a Secret's key in a namespace; UnavailableError that names Secret and key."""


class ForbiddenAddressError(OSError):
    """An allowed name leads to an address that must not be called."""


class _GuardedResolver(AbstractResolver):
    """Resolves names for the connection that follows, and refuses what must not be called.

    What is checked here is what is connected to: nobody asks the name server again in between.
    """

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of a host; ForbiddenAddressError where one is not to be called."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            why = forbidden(host, one["host"])
            if why:
                raise ForbiddenAddressError(f"its name leads to an address that {why}")
        return found

    async def close(self) -> None:
        """Nothing is held."""


class HttpAlerter:
    """An Alerter over HTTP. To be made, used and closed within one event loop."""

    def __init__(self, read_secret: SecretReader, allowed: Sequence[str], timeout: float) -> None:
        self._read_secret = read_secret
        self._allowed = allowed
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_GuardedResolver(), use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=timeout),
            headers={"User-Agent": "modelexperiment"},
            # Kept from one experiment's receiver, a cookie would go to another's.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(self, receiver: Receiver, namespace: str, notices: Sequence[Notice]) -> None:
        """Tell a receiver of alerts; UnavailableError, without any address, where that fails."""
        url = await self._address(receiver, namespace)
        if receiver.kind == "alertmanager":
            body = alertmanager_body(notices, datetime.now(UTC))
            await self._post(URL(url) / "api" / "v2" / "alerts", body, {})
            return
        make = slack_body if receiver.kind == "slack" else webhook_body
        for notice in notices:
            await self._post(URL(url), make(notice), {"Idempotency-Key": notice.idempotency_key})

    async def _address(self, receiver: Receiver, namespace: str) -> str:
        endpoint = receiver.endpoint
        if endpoint.secret_ref is not None:
            url = (await self._read_secret(namespace, endpoint.secret_ref)).strip()
        else:
            url = endpoint.url or ""
        if not is_allowed(url, self._allowed):
            raise UnavailableError("its address is not allowed by ALERTS_ALLOWED_URLS")
        host = parse_address(url).host
        # A literal address is not resolved, so that the resolver never sees it.
        why = forbidden(host, host) if ":" in host or host.replace(".", "").isdigit() else None
        if why:
            raise UnavailableError(f"its address {why}")
        return url

    async def _post(self, url: URL, body: Any, headers: dict[str, str]) -> None:
        try:
            async with self._session.post(
                url, json=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except Exception as error:
            # Whatever it is, its text may hold the address.
            raise UnavailableError(self._explained(error)) from None
        if 300 <= status < 400:
            raise UnavailableError(f"answered {status}, and redirects are not followed")
        if not 200 <= status < 300:
            raise UnavailableError(f"answered {status}")

    def _explained(self, error: Exception) -> str:
        """What went wrong, in words that are known to hold no address."""
        if isinstance(error, TimeoutError):
            return f"did not answer within {self._timeout:g} s"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return "its certificate is not valid"
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, ForbiddenAddressError):
            return str(cause)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return "its name can't be resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "refuses connections"
        return f"can't be reached ({type(cause).__name__})"


def secrets_of(api: Api) -> SecretReader:
    """A reader of Secrets by the API server."""

    async def read(namespace: str, ref: SecretKey) -> str:
        try:
            data = await api.secret(namespace, ref.name)
        except NotFoundError:
            raise UnavailableError(f"there is no Secret {ref.name}") from None
        except ConflictError:
            raise UnavailableError(f"the Secret {ref.name} can't be read now") from None
        except UnavailableError as error:
            raise UnavailableError(f"the Secret {ref.name} can't be read: {error}") from None
        if ref.key not in data:
            raise UnavailableError(f"the Secret {ref.name} has no key {ref.key}")
        try:
            return base64.b64decode(data[ref.key], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise UnavailableError(f"{ref.key} in the Secret {ref.name} is no text") from None

    return read
