"""The comparer as a process: takes posts, counts, exposes. In memory, or through Redis."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from modelexperiment.adapters.web import Health, serve
from modelexperiment.comparer.agreement import Rule
from modelexperiment.comparer.comparer import Comparer
from modelexperiment.comparer.predictions import (
    MAX_BODY,
    Prediction,
    PredictionError,
    read_predictions,
)
from modelexperiment.comparer.series import Series
from modelexperiment.settings import SettingsError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What `modelexperiment compare` is told."""

    port: int = 8080
    window: float = 60.0
    """Seconds within which predictions for one request come."""
    most: int = 100_000
    """Requests that are remembered at once."""
    rule: Rule = field(default_factory=Rule)
    redis: str = ""
    """URL of a Redis; "": everything is in this process' memory."""
    partitions: int = 8
    """Streams in Redis that the requests are spread over."""
    stream_length: int = 100_000
    """Predictions that Redis keeps of each stream."""


class UnavailableError(Exception):
    """Predictions can't be taken in now."""


class Sink(Protocol):
    """Where predictions go."""

    async def take(self, predictions: Sequence[Prediction]) -> None:
        """Take all of them in, or none.

        Raises:
            PredictionError: where a version has no room.
            UnavailableError: where they can't be stored now.
        """

    async def run(self) -> None:
        """Work until cancelled."""

    def ready(self) -> Health:
        """Whether predictions can be taken in."""


class MemorySink:
    """Pairs in this process' memory."""

    def __init__(self, series: Series, options: Options) -> None:
        self._series = series
        self._comparer = Comparer(series, options.window, options.most)

    async def take(self, predictions: Sequence[Prediction]) -> None:
        """Count at once."""
        self._comparer.take(predictions, asyncio.get_running_loop().time())
        self._series.remembered.set(len(self._comparer))

    async def run(self) -> None:
        """Let what waits in vain be counted, whether or not anything comes in."""
        while True:
            await asyncio.sleep(1)
            self._comparer.expire(asyncio.get_running_loop().time())
            self._series.remembered.set(len(self._comparer))

    def ready(self) -> Health:
        """Always."""
        return Health(True, "ok")


class Service:
    """POST /v1/predictions, and /metrics, /healthz, /readyz."""

    def __init__(self, options: Options, series: Series, sink: Sink) -> None:
        self._options, self._series, self._sink = options, series, sink

    async def predictions(self, request: web.Request) -> web.Response:
        """202 where all are taken in; else nothing is, and one line says why."""
        try:
            await self._sink.take(read_predictions(await request.read()))
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(413, "too_large", f"body: must have at most {MAX_BODY:,} bytes")
        except PredictionError as why:
            return self._refuse(400, why.reason, str(why))
        except UnavailableError as why:
            return self._refuse(503, "unavailable", str(why))
        return web.Response(status=202)

    def _refuse(self, status: int, reason: str, why: str) -> web.Response:
        self._series.rejected(reason)
        return web.Response(status=status, text=f"{why}\n")

    async def _serve(self) -> web.AppRunner:
        try:
            return await serve(
                self._options.port,
                self._series.registry,
                lambda: Health(True, "ok"),
                self._sink.ready,
                routes=[web.post("/v1/predictions", self.predictions)],
                max_body=MAX_BODY,
            )
        except OSError as why:
            raise SettingsError(f"--port: {why.strerror}, got {self._options.port}") from None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. SettingsError where the port can't be used."""
        runner = await self._serve()
        working = asyncio.create_task(self._sink.run())
        stopped = asyncio.create_task(stop.wait())
        _log.info("comparing on port %d", self._options.port)
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            # First no more comes in, then what came in is left in order.
            await runner.cleanup()
            working.cancel()
            stopped.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)


async def _main(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    series = Series(options.rule)
    sink: Sink
    if options.redis:
        # Imported here: its client is an extra.
        from modelexperiment.comparer.stream import RedisSink

        sink = RedisSink(series, options)
    else:
        sink = MemorySink(series, options)
    await Service(options, series, sink).run(stop)


def run_service(options: Options) -> None:
    """Run until told to stop. SettingsError where the port can't be used."""
    asyncio.run(_main(options))
