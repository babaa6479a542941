"""/metrics, /healthz and /readyz, and what else a process serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


class Health(NamedTuple):
    """What a probe is told."""

    well: bool
    text: str


Check = Callable[[], Health]


def _answer(check: Check) -> Callable[[web.Request], web.Response]:
    def handler(_: web.Request) -> web.Response:
        found = check()
        return web.Response(status=200 if found.well else 503, text=f"{found.text}\n")

    return handler


async def serve(
    port: int,
    registry: CollectorRegistry,
    alive: Check,
    ready: Check,
    *,
    routes: Iterable[web.RouteDef] = (),
    max_body: int = 1 << 20,
) -> web.AppRunner:
    """Serve on all addresses, bodies up to `max_body` bytes; the caller cleans the runner up."""

    async def metrics(_: web.Request) -> web.Response:
        # In a thread: with thousands of experiments it takes a while, and a rollback must not wait.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(request: web.Request) -> web.Response:
        return _answer(alive)(request)

    async def readyz(request: web.Request) -> web.Response:
        return _answer(ready)(request)

    app = web.Application(client_max_size=max_body)
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            *routes,
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
