"""The dashboard as a whole: board, watch and web server, started and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from modelexperiment.dashboard.app import build
from modelexperiment.dashboard.board import Board
from modelexperiment.dashboard.follow import follow
from modelexperiment.dashboard.reports import Render, Reports
from modelexperiment.ports import ExperimentSource


@dataclass(frozen=True)
class Binding:
    """Where it is served, and by which names it may be asked beside the machine's own."""

    port: int
    """0: any free one."""
    address: str = "127.0.0.1"
    hosts: Sequence[str] = ()


class Dashboard:
    """A running dashboard."""

    def __init__(self, runner: web.AppRunner, reports: Reports, following: asyncio.Task[None]):
        self._runner, self._reports, self._following = runner, reports, following

    @classmethod
    async def start(
        cls, binding: Binding, source: ExperimentSource, render: Render, namespaces: Sequence[str]
    ) -> Dashboard:
        """Serve; no namespaces: all of them. OSError where the port can't be had."""
        board, reports = Board(), Reports(source, render)
        runner = web.AppRunner(
            build(board, reports, binding.hosts), access_log=None, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, binding.address, binding.port).start()
        except OSError:
            await runner.cleanup()
            raise
        return cls(runner, reports, asyncio.create_task(follow(board, source, namespaces)))

    @property
    def port(self) -> int:
        """The port that it is served at."""
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """End it."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._runner.cleanup()
        self._reports.close()
