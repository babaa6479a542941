"""The time that waits are measured by: Prometheus' own, which the counts are measured by as well.

A node's clock can be wrong, and is put right by a step: an hour forward would end a wait of an hour
(`guardrailTimeout`, a step of the rollout) at once, and an hour back would double it. So each
answer of a Prometheus sets the time, and what has passed since is taken from the clock that never
steps. Only an operator that has just started and has heard no Prometheus yet takes its node's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """The present, by Prometheus; `wall` and `steady` give seconds, the first since 1970."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steady = steady
        self._started = wall() - steady()
        self._ahead: dict[str, float] = {}

    def heard(self, url: str, at: float) -> None:
        """Take a Prometheus' time, in seconds since 1970, for the present."""
        self._ahead[url] = at - self._steady()

    def now(self, url: str | None) -> datetime:
        """The present by the Prometheus of that address, or by the node's clock at the start."""
        ahead = self._ahead.get(url, self._started) if url else self._started
        return datetime.fromtimestamp(ahead + self._steady(), UTC)
