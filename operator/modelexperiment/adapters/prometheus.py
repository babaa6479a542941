"""Prometheus' HTTP API, through prometheus-api-client in a bounded pool of threads.

The client is synchronous, gives numbers as strings, and drops warnings (a partial answer looks
whole) and redirects (which would call an address that nobody allowed); the session below refuses
both.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from modelexperiment.adapters.proxies import behind_proxy
from modelexperiment.core.counting import Labels, Series
from modelexperiment.ports import QueryError, UnavailableError

T = TypeVar("T")
_BAD_QUERY = (400, 422)
# For so many seconds after a Prometheus has told its time, it is not asked for it again.
TIME_HOLDS = 1.0
# Where requests looks for the authorities that everything is to be checked against.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


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


class _Credentials(AuthBase):
    """Reads the secret anew for each request: whoever rotates it restarts nobody."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access.token_file:
            request.headers["Authorization"] = f"Bearer {_secret(self._access.token_file)}"
        elif self._access.username:
            password = _secret(self._access.password_file)
            HTTPBasicAuth(self._access.username.encode(), password.encode())(request)
        return request


def _secret(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise UnavailableError(f"can't be asked: {path}: {error.strerror}") from None


class _Session(requests.Session):
    """Refuses redirects, partial answers and everything that is not a success."""

    def __init__(self, access: Access | None) -> None:
        super().__init__()
        # To look into the environment, and for a netrc, takes as long as the rest of a request.
        self.trust_env = behind_proxy() or any(os.environ.get(name) for name in _BUNDLES)
        # To unpack an answer costs more than it saves where the server is near.
        self.headers["Accept-Encoding"] = "identity"
        if access is None:
            return
        self.auth = _Credentials(access)
        self.verify = access.ca_file or True
        self.cert = (access.cert_file, access.key_file) if access.cert_file else None
        if access.tenant:
            self.headers["X-Scope-OrgID"] = access.tenant

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and check the answer."""
        kwargs["allow_redirects"] = False
        response = super().request(*args, **kwargs)
        if response.status_code in _BAD_QUERY:
            raise QueryError(_error_of(response))
        if response.status_code != 200:
            raise UnavailableError(f"answered {response.status_code}: {_error_of(response)}")
        if b'"warnings"' in response.content and response.json().get("warnings"):
            warnings = "; ".join(map(str, response.json()["warnings"]))
            raise UnavailableError(f"gave a partial answer: {warnings[:200]}")
        return response


def _error_of(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:80] or "nothing"


class _Told(NamedTuple):
    """A time that a Prometheus has told, and when by the clock that never steps."""

    time: float
    heard: float


class PrometheusSource:
    """A MetricSource for any number of Prometheus servers; `timed` goes around every query."""

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
        self._timed = timed
        self._steady = steady
        self._told: dict[str, _Told] = {}
        self._asking: dict[str, asyncio.Task[_Told]] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prometheus")
        self._local = threading.local()

    async def close(self) -> None:
        """Stop the threads, without waiting for queries under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _client(self, url: str) -> PrometheusConnect:
        clients: dict[str, PrometheusConnect] = self._local.__dict__.setdefault("clients", {})
        if url not in clients:
            # One retry for a kept-alive connection that the server has closed; the next poll is
            # the retry for everything else.
            retry = Retry(total=1, read=False, status=0, redirect=False)
            access = self._access if self._access and self._access.url == url else None
            clients[url] = PrometheusConnect(
                url, session=_Session(access), retry=retry, timeout=self._timeout
            )
        return clients[url]

    async def _query(self, url: str, query: str, at: float | None) -> list[Any]:
        params = {} if at is None else {"time": f"{at:.3f}"}
        params["timeout"] = f"{self._timeout:g}s"

        def ask() -> list[Any]:
            answer = self._client(url).custom_query(query, params=params)
            if not isinstance(answer, list):
                raise UnavailableError("gave an answer without a list of results")
            return answer

        def ask_timed() -> list[Any]:
            with self._timed():
                return _explained(f"Prometheus {url}", ask)

        return await asyncio.get_running_loop().run_in_executor(self._pool, ask_timed)

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


def _explained(who: str, ask: Callable[[], T]) -> T:
    """Ask, and turn every failure into one line that says who failed and how."""
    try:
        return ask()
    except UnavailableError as error:
        raise UnavailableError(f"{who} {error}") from None
    except requests.Timeout:
        raise UnavailableError(f"{who} did not answer in time") from None
    except (json.JSONDecodeError, requests.JSONDecodeError, KeyError, TypeError):
        raise UnavailableError(f"{who} gave an answer that is not Prometheus' JSON") from None
    except requests.RequestException as error:
        raise UnavailableError(f"{who} can't be reached: {_root(error)}") from None
    except PrometheusApiClientException as error:
        raise UnavailableError(f"{who} failed: {str(error)[:200]}") from None


def _root(error: BaseException) -> str:
    """The innermost reason of a connection error, without the address of an object in memory."""
    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    text = str(reason)
    return text.rsplit("object at 0x", 1)[-1].split(">: ", 1)[-1][:160]
