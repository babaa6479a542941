"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType

from modelexperiment.core.fields import format_duration

_WIDTH = 30


class Progress:
    """Counts steps up to a total; shows part and time left, at most ten times a second."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what, self._done = max(1, total), what, 0.0
        self._began = time.monotonic()
        self._shown = self._began
        self._visible = False

    def step(self) -> None:
        """One more is done."""
        self.reach((self._done + 1) / self._total)

    def reach(self, part: float) -> None:
        """This part of the whole is done, from 0 to 1."""
        self._done = part * self._total
        now = time.monotonic()
        if now - self._shown < 0.1 or not sys.stderr.isatty():
            return
        self._shown, self._visible = now, True
        filled = round(part * _WIDTH)
        left = (now - self._began) * (1 / part - 1) if part > 0 else 0.0
        bar = "#" * filled + "." * (_WIDTH - filled)
        text = f"\r[{bar}] {self._done:,.0f} of {self._total:,} {self._what}"
        sys.stderr.write(f"{text}, {_left(left)} left  ")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visible:
            sys.stderr.write("\r\033[K")


def _left(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))
