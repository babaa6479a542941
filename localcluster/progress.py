"""How far a build is, and how long the rest takes.

Each step has a typical time. What the finished steps really took says how fast this machine and its
network are; the estimate of the rest is the typical time scaled by that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

LINE_SECONDS = 15.0
# Typical seconds that the scale starts from: a first quick step must not halve the whole estimate.
PRIOR_SECONDS = 60.0
# A step that takes longer than expected is guessed to need this much of its time so far again.
OVERRUN = 0.1


def remaining_seconds(typical: Sequence[float], measured: Sequence[float], elapsed: float) -> float:
    """Estimated seconds until all steps are done.

    ``typical`` are the seconds of every step, ``measured`` those that the finished ones took, and
    ``elapsed`` the seconds since the current one began.
    """
    done = len(measured)
    if done == len(typical):
        return 0.0
    scale = (sum(measured) + PRIOR_SECONDS) / (sum(typical[:done]) + PRIOR_SECONDS)
    current = max(typical[done] * scale - elapsed, OVERRUN * elapsed)
    return current + scale * sum(typical[done + 1 :])


def duration(seconds: float) -> str:
    """A duration for people: "40 s", "12 min", "1 h 05 min"."""
    if seconds < 90:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Shows the steps of a build: one line kept up to date on a terminal, else one per 15 s."""

    def __init__(
        self,
        typical: Sequence[float],
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._typical = list(typical)
        self._measured: list[float] = []
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._label = ""
        self._began = self._shown = clock()

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """The next step, for as long as the block runs."""
        self._label = label
        self._began = self._clock()
        self._show()
        yield
        self._measured.append(self._clock() - self._began)
        if len(self._measured) == len(self._typical):
            self.close()

    def tick(self) -> None:
        """To be called often while a step runs; shows something when it is time to."""
        if self._terminal or self._clock() - self._shown >= LINE_SECONDS:
            self._show()

    def close(self) -> None:
        """Leave the terminal's line, so that what follows starts on a new one."""
        if self._terminal and self._label:
            self._stream.write("\n")
            self._stream.flush()
            self._label = ""

    def _show(self) -> None:
        self._shown = self._clock()
        elapsed = self._shown - self._began
        left = remaining_seconds(self._typical, self._measured, elapsed)
        so_far = f", {duration(elapsed)} so far" if elapsed >= LINE_SECONDS else ""
        line = (
            f"[{len(self._measured) + 1}/{len(self._typical)}] {self._label}{so_far};"
            f" about {duration(left)} left in all"
        )
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
