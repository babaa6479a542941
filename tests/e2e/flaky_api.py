"""A proxy before the API server that fails in the ways in which what stands there can."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import yaml
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web

from localcluster import Cluster
from localcluster.ports import free_ports

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class FlakyApi:
    """Passes everything on, whole or as it comes; `seen` counts what it did instead.

    It refuses a third of all requests with 429 while it `throttles`. The next `gone` watches are
    answered with 410, by turns as an answer and as an event of the stream. After `stall` a watch
    that was open gives nothing more and does not end; a new one works.
    """

    def __init__(self, cluster: Cluster, account: Path) -> None:
        self.throttles = False
        self.gone = 0
        self.seen: Counter[str] = Counter()
        (self._port,) = free_ports(1)
        self._upstream = cluster.apiserver_url
        self._requests = 0
        self._generation = 0
        self._watching: set[asyncio.Task[None]] = set()
        self.kubeconfig = account.with_name("kubeconfig-through-proxy")
        config = yaml.safe_load(account.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self.kubeconfig.chmod(0o600)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> None:
        # Loopback, and the API server's certificate is its own.
        self._session = ClientSession(connector=TCPConnector(ssl=False, limit=0))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    def close(self) -> None:
        """Listen no more."""

        async def stop() -> None:
            for task in self._watching:
                task.cancel()
            await self._runner.cleanup()
            await self._session.close()
            # Connections are closed in the loop's next rounds.
            await asyncio.sleep(0.2)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def end_watches(self) -> None:
        """Hang up on whoever watches, the stalled too."""
        for task in list(self._watching):
            self._loop.call_soon_threadsafe(task.cancel)

    def stall(self) -> None:
        """Let every watch that is open now give nothing more, and not end either."""
        self._generation += 1

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self._requests += 1
        if self.throttles and self._requests % 3 == 0:
            self.seen["429"] += 1
            return _status(429, "TooManyRequests", "slow down", {"Retry-After": "1"})
        if watch and self.gone:
            self.gone -= 1
            self.seen["410"] += 1
            return await _gone(request, as_event=self.gone % 2 == 0)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = f"{self._upstream}{request.raw_path}"
        body = await request.read() or None
        timeout = ClientTimeout(total=None if watch else 60)
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body, timeout=timeout
            ) as found:
                kept = {k: v for k, v in found.headers.items() if k.lower() not in _HOP}
                kept.pop("Content-Encoding", None)
                if not watch:
                    return web.Response(status=found.status, headers=kept, body=await found.read())
                answer = web.StreamResponse(status=found.status, headers=kept)
                await answer.prepare(request)
                following = asyncio.create_task(self._follow(found, answer))
                self._watching.add(following)
                try:
                    await asyncio.wait({following})
                finally:
                    following.cancel()
                    self._watching.discard(following)
                if (following.cancelled() or following.exception()) and request.transport:
                    request.transport.abort()
                return answer
        except (ClientError, TimeoutError, ConnectionError) as error:
            self.seen[type(error).__name__] += 1
            if request.transport:
                request.transport.close()
            return web.Response(status=502)

    async def _follow(self, found: ClientResponse, answer: web.StreamResponse) -> None:
        opened = self._generation
        async for chunk in found.content.iter_any():
            if opened == self._generation:
                await answer.write(chunk)
            else:
                self.seen["stalled"] += 1
        if opened != self._generation:
            # The server has ended it; whoever watches does not hear of that either.
            await asyncio.sleep(600)


async def _gone(request: web.Request, *, as_event: bool) -> web.StreamResponse:
    refusal = _status(410, "Expired", "too old resource version: 1 (2)", {})
    if not as_event:
        return refusal
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    await answer.write(b'{"type":"ERROR","object":' + bytes(refusal.body or b"") + b"}\n")  # type: ignore[arg-type]
    return answer


def _status(code: int, reason: str, message: str, headers: dict[str, str]) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return web.json_response(
        {**body, "reason": reason, "message": message}, status=code, headers=headers
    )
