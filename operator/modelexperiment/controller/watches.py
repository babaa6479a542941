"""Which watches are open: what readiness means; and the end of them all.

kopf does not tell. So it gets an HTTP session of the operator's own, that notes how the API server
answers each request to watch. A watch is opened anew every minute, so one that no longer can be is
seen within that time.

A watch that the API server refuses for good ends kopf, and with it the process: it starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
from yarl import URL

from modelexperiment.core.crd import GROUP, PLURAL, VERSION

_ROOT = f"/apis/{GROUP}/{VERSION}"
# kopf gives its own tasks five seconds to end. Once in a while one of them never does.
ENDING = 10.0


class WatchesLostError(Exception):
    """Nothing is watched any more."""


class Watches:
    """How the API server answered the last request to list or watch, by path."""

    def __init__(self, namespaces: Sequence[str] = ()) -> None:
        self._wanted = [f"{_ROOT}/namespaces/{name}/{PLURAL}" for name in namespaces]
        self._wanted = self._wanted or [f"{_ROOT}/{PLURAL}"]
        self._open: set[str] = set()
        self._failed: dict[str, str] = {}
        self._login: kopf.ConnectionInfo | None = None
        self.ending = asyncio.Event()
        """Set once kopf has begun to end, whyever."""

    async def run(self, operator: Coroutine[Any, Any, None], patience: float = ENDING) -> None:
        """Run kopf until it has ended in order; WatchesLostError where it failed, or hangs then.

        `patience` is how long it may take to end, in seconds.
        """
        watching = asyncio.create_task(operator)
        ending = asyncio.create_task(self.ending.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watching}, timeout=patience)
            if not watching.done():
                raise TimeoutError(f"kopf has not ended within {patience:g} s")
            watching.result()
        except Exception as error:
            raise WatchesLostError(f"the watches have ended: {error}") from error
        finally:
            # Not waited for: that is what it may never do.
            watching.cancel()
            ending.cancel()

    def answered(self, url: URL, status: int) -> None:
        """Note an answer to a request."""
        if status >= 400:
            self.failed(url, f"the API server answers {status}")
        elif url.query.get("watch") == "true":
            self._failed.pop(url.path, None)
            self._open.add(url.path)

    def failed(self, url: URL, why: str) -> None:
        """Note a request without an answer, or with one that says no."""
        if url.path in self._open or url.path in self._wanted:
            self._open.discard(url.path)
            self._failed[url.path] = why

    def wrong(self) -> str | None:
        """What is missing; None while all watches are open that there should be."""
        if self.ending.is_set():
            return "the watches are ending"
        for path, why in self._failed.items():
            return f"{path} can't be watched: {why}"
        for path in self._wanted:
            if path not in self._open:
                return f"the watch of {path} is not open yet"
        return None

    def session(self, login: kopf.ConnectionInfo | None) -> kopf.AiohttpSession | None:
        """A session that notes all answers; None where the same login was refused before."""
        if login is None or login == self._login:
            return None
        self._login = login
        return kopf.AiohttpSession(
            server=login.server,
            default_namespace=login.default_namespace,
            priority=login.priority,
            expiration=login.expiration,
            aiohttp_session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=login.as_ssl_context()),
                headers=login.as_http_headers(),
                proxy=login.proxy_url,
                trust_env=login.trust_env,
                trace_configs=[self._trace()],
            ),
        )

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()

        async def ended(
            _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams
        ) -> None:
            self.answered(params.url, params.response.status)

        async def raised(
            _: aiohttp.ClientSession,
            __: SimpleNamespace,
            params: aiohttp.TraceRequestExceptionParams,
        ) -> None:
            self.failed(params.url, str(params.exception) or type(params.exception).__name__)

        trace.on_request_end.append(ended)
        trace.on_request_exception.append(raised)
        return trace
