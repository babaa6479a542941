"""Prometheus' HTTP API.

Numbers come as strings, and a partial answer (with `warnings`) looks whole: it is refused, as are
redirects, which would call an address that nobody allowed.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from modelexperiment.adapters.proxies import behind_proxy
from modelexperiment.core.counting import Labels, Series
from modelexperiment.ports import QueryError, UnavailableError

_BAD_QUERY = (400, 422)
# For so many seconds after a Prometheus has told its time, it is not asked for it again.
TIME_HOLDS = 1.0


@dataclass(frozen=True)
class Access:
    """What the operator's own Prometheus asks of those that call it; for its address alone.

    Another address that a manifest may name never sees a credential.
    """

    url: str
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    tenant: str = ""

    def headers(self) -> dict[str, str]:
        """What each request says of who asks.

        The secret is read anew for each: whoever rotates it restarts nobody.
        """
        found = {"X-Scope-OrgID": self.tenant} if self.tenant else {}
        if self.token_file:
            found["Authorization"] = f"Bearer {_secret(self.token_file)}"
        elif self.username:
            password = _secret(self.password_file)
            login = b64encode(f"{self.username}:{password}".encode()).decode()
            found["Authorization"] = f"Basic {login}"
        return found

    @property
    def tls_files(self) -> tuple[str, ...]:
        """The files that make its TLS context."""
        return tuple(file for file in (self.ca_file, self.cert_file, self.key_file) if file)


def _secret(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise UnavailableError(f"can't be asked: {path}: {error.strerror}") from None


class _Tls:
    """The TLS context of an access, made anew when one of its files has changed."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._written: tuple[int, ...] | None = None
        self._context: ssl.SSLContext | bool = True

    def context(self) -> ssl.SSLContext | bool:
        """What aiohttp takes for `ssl`: a context, or True for the platform's authorities."""
        access = self._access
        try:
            written = tuple(os.stat(file).st_mtime_ns for file in access.tls_files)  # noqa: PTH116
            if access.tls_files and written != self._written:
                made = ssl.create_default_context(cafile=access.ca_file or None)
                if access.cert_file:
                    made.load_cert_chain(access.cert_file, access.key_file or None)
                self._context, self._written = made, written
        except OSError as error:
            # What OpenSSL finds wrong with a file is one, too, and names none.
            where = error.filename or ", ".join(access.tls_files)
            raise UnavailableError(f"can't be asked: {where}: {error.strerror}") from None
        return self._context


class _Told(NamedTuple):
    """A time that a Prometheus has told, and when by the clock that never steps."""

    time: float
    heard: float


class PrometheusSource:
    """A MetricSource for any number of Prometheus servers; `timed` goes around every query.

    To be used and closed within one event loop.
    """

    def __init__(
        self,
        timeout: float,
        workers: int,
        access: Access | None = None,
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._access = access
        self._tls = _Tls(access) if access else None
        self._timed = timed
        self._steady = steady
        self._under_way = asyncio.Semaphore(workers)
        self._opened: aiohttp.ClientSession | None = None
        self._told: dict[str, _Told] = {}
        self._asking: dict[str, asyncio.Task[_Told]] = {}

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                # To unpack an answer costs more than it saves where the server is near.
                headers={"User-Agent": "modelexperiment", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=behind_proxy(),
            )
        return self._opened

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _query(self, url: str, query: str, at: float | None) -> list[Any]:
        params = {"query": query, "timeout": f"{self._timeout:g}s"}
        if at is not None:
            params["time"] = f"{at:.3f}"
        async with self._under_way:
            with self._timed():
                try:
                    return _result(*await self._get(url, params))
                except UnavailableError as error:
                    raise UnavailableError(f"Prometheus {url} {error}") from None

    async def _get(self, url: str, params: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of an answer."""
        own = self._access if self._access and self._access.url == url else None
        try:
            async with self._session.get(
                f"{url}/api/v1/query",
                params=params,
                headers=own.headers() if own else None,
                ssl=self._tls.context() if own and self._tls else True,
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read()
        except TimeoutError:
            raise UnavailableError("did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"can't be reached: {_root(error)}") from None

    async def now(self, url: str) -> float:
        """The server's own time, seconds since 1970: at most as much behind as its answer took.

        All who ask within a second share one answer, to which what has passed since is added.
        """
        told = self._told.get(url)
        if told is not None and (passed := self._steady() - told.heard) < TIME_HOLDS:
            return told.time + passed
        asking = self._asking.get(url)
        if asking is None or asking.done():
            asking = self._asking[url] = asyncio.create_task(self._ask_time(url))
        # One who gives up does not let the others go without.
        return (await asyncio.shield(asking)).time

    async def _ask_time(self, url: str) -> _Told:
        found = await self._query(url, "time()", None)
        told = self._told[url] = _Told(float(found[0]), self._steady())
        return told

    async def samples(self, url: str, query: str, at: float) -> list[Series]:
        """Raw samples of a range selector, evaluated at a time."""
        return [
            Series(
                _labels(found["metric"]),
                [(float(time), float(value)) for time, value in found.get("values", ())],
            )
            for found in await self._query(url, query, at)
        ]

    async def last_values(self, url: str, query: str, at: float) -> dict[Labels, float]:
        """An instant vector by labels, the metric's name included."""
        return {
            _labels(found["metric"]): float(found["value"][1])
            for found in await self._query(url, query, at)
        }

    async def number(self, url: str, query: str, at: float) -> float | str:
        """The one number that a query gives, or in words why it gives none."""
        found = await self._query(url, query, at)
        if not found:
            return "returns nothing"
        if not isinstance(found[0], dict):
            text = found[1]
        elif len(found) > 1:
            raise QueryError(f"gives {len(found)} series instead of one number: aggregate it")
        elif "value" not in found[0]:
            raise QueryError("gives a range or a native histogram instead of one number")
        else:
            text = found[0]["value"][1]
        try:
            value = float(text)
        except ValueError:
            raise QueryError(f'gives the string "{text[:40]}" instead of a number') from None
        return value if math.isfinite(value) else f"returns {text}"


def _labels(metric: dict[str, str]) -> Labels:
    return tuple(sorted(metric.items()))


def _result(status: int, body: bytes) -> list[Any]:
    """The results in a whole answer; QueryError, or UnavailableError without the server's name."""
    if status in _BAD_QUERY:
        raise QueryError(_error_of(body))
    if status != 200:
        raise UnavailableError(f"answered {status}: {_error_of(body)}")
    try:
        answer = json.loads(body)
        warnings, found = answer.get("warnings"), answer["data"]["result"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnavailableError("gave an answer that is not Prometheus' JSON") from None
    if warnings:
        raise UnavailableError(f"gave a partial answer: {'; '.join(map(str, warnings))[:200]}")
    if not isinstance(found, list):
        raise UnavailableError("gave an answer without a list of results")
    return found


def _error_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return " ".join(body.decode(errors="replace").split())[:80] or "nothing"


def _root(error: Exception) -> str:
    """The innermost reason of a connection error, without the address that was called."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)[:160]
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
        # A name that is not known has a number of another list.
        known = cause.errno > 0
        return os.strerror(cause.errno) if known else str(cause.strerror)
    return str(cause)[:160] or type(cause).__name__
