"""A due-time queue: every experiment is worked on when it is due, by one worker at a time.

One queue with a few workers instead of a timer for each object: 2,000 objects then cost a fifth
of the CPU and no task of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

_log = logging.getLogger(__name__)


class Key(NamedTuple):
    """An experiment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


K = TypeVar("K", bound=Hashable)
Work = Callable[[K], Awaitable[float | None]]
"""Works on a key; gives the seconds after which to do so again, None for not at all."""


class DueQueue(Generic[K]):
    """Calls `work` for each key when it is due, never twice at once for one key."""

    def __init__(self, work: Work[K], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._busy: set[K] = set()
        self._parked: dict[K, float] = {}
        self._wakeup = asyncio.Event()
        self._turn = asyncio.Lock()
        self.beat = 0.0
        """Loop time at which the loop last moved, for the liveness probe."""
        self.taken = 0.0
        """Loop time at which a worker last took or ended something."""

    def add(self, key: K, delay: float = 0.0) -> None:
        """Let a key be due after `delay` seconds, or before, if it is already."""
        due = asyncio.get_running_loop().time() + delay
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._push(due, key)

    def _push(self, due: float, key: K) -> None:
        entry = (due, next(self._order), key)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            # Who waits for a later one would sleep too long.
            self._wakeup.set()

    def forget(self, key: K) -> None:
        """Drop a key that is gone."""
        self._due.pop(key, None)

    def __len__(self) -> int:
        return len(self._due) + len(self._busy)

    def stalled(self) -> float:
        """Seconds for which something has been due without any worker taking or ending a thing."""
        now = asyncio.get_running_loop().time()
        overdue = min(self._due.values(), default=now)
        return max(0.0, now - max(overdue, self.taken))

    async def run(self) -> None:
        """Work until cancelled."""
        self.taken = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _beat(self) -> None:
        # Of its own: workers that all wait for a slow service are no stuck loop.
        while True:
            self.beat = asyncio.get_running_loop().time()
            await asyncio.sleep(1.0)

    async def _worker(self) -> None:
        while True:
            key = await self._next()
            try:
                delay = await self._work(key)
            except Exception:
                _log.exception("%s: unexpected failure", key)
                delay = 30.0
            finally:
                self._release(key)
            if delay is not None:
                self.add(key, delay)

    def _release(self, key: K) -> None:
        """Let a key be worked on again, and queue it if it became due meanwhile."""
        self.taken = asyncio.get_running_loop().time()
        self._busy.discard(key)
        due = self._parked.pop(key, None)
        if due is not None and self._due.get(key) == due:
            self._push(due, key)

    async def _next(self) -> K:
        loop = asyncio.get_running_loop()
        # One looks at the clock for all: they would wake together, and but one find something.
        async with self._turn:
            while True:
                key = self._take(loop.time())
                if key is not None:
                    return key
                timeout = min(max(self._wait(loop.time()), 0.001), 1.0)
                self._wakeup.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wakeup.wait(), timeout)

    def _wait(self, now: float) -> float:
        return self._heap[0][0] - now if self._heap else 1.0

    def _take(self, now: float) -> K | None:
        """The next key that is due and that nobody works on."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue
            if key in self._busy:
                # Aside until its work is done, or everybody idle would look for it all the time.
                self._parked[key] = due
                continue
            del self._due[key]
            self._busy.add(key)
            self.taken = now
            return key
        return None
