"""Keeps the board as the API server is: a list by pages, then a watch, and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from modelexperiment.dashboard.board import Board
from modelexperiment.ports import Change, ExperimentSource, ExpiredError, UnavailableError

_log = logging.getLogger(__name__)
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
_BREATH = 0.1


async def follow(board: Board, source: ExperimentSource, namespaces: Sequence[str]) -> None:
    """Keep the board up to date until cancelled; no namespaces: all of them."""
    wanted: list[str | None] = list(namespaces) or [None]
    board.expect(wanted)
    await asyncio.gather(*(_follow(board, source, namespace) for namespace in wanted))


async def _follow(board: Board, source: ExperimentSource, namespace: str | None) -> None:
    failures, version = 0, ""
    while True:
        try:
            version = version or await read(board, source, namespace)
            board.well(namespace)
            failures = 0
            async for change in source.watch(namespace, version):
                version = change.object["metadata"]["resourceVersion"]
                _take(board, change)
        except ExpiredError:
            version = ""
        except UnavailableError as error:
            board.failed(namespace, str(error))
        except Exception:
            # The dashboard is never what ends an operator, nor what it silently stops showing.
            _log.exception("the dashboard can't take a change in")
            board.failed(namespace, "a change can't be taken in; the log says more")
            version = ""
        else:
            # A proxy that ends every watch at once must not make this a loop without rest.
            await asyncio.sleep(_BREATH)
            continue
        await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
        failures += 1


async def read(board: Board, source: ExperimentSource, namespace: str | None) -> str:
    """Read all experiments; gives the version that a watch goes on from.

    By pages, for reading a thousand at once would hold the operator's loop for too long.
    """
    keys, more = set(), ""
    while True:
        found = await source.page(namespace, more)
        for item in found.items:
            board.put(item)
            keys.add((item["metadata"]["namespace"], item["metadata"]["name"]))
        more = found.more
        if not more:
            board.listed(namespace, keys)
            return found.version


def _take(board: Board, change: Change) -> None:
    metadata = change.object["metadata"]
    if change.type in ("ADDED", "MODIFIED"):
        board.put(change.object)
    elif change.type == "DELETED":
        board.drop((metadata["namespace"], metadata["name"]))
