"""A challenger that breaks, and the time until Envoy itself no longer sends it anything.

The clock starts with the first failed answer that the client sees, and stops when Envoy's own
configuration (``/config_dump`` of its admin port) gives the champion everything. What the operator
says of itself plays no part. Where Envoy can't be asked, the clock stops with the last answer of
the challenger.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request

from demo.errors import DemoError
from demo.models import VERSIONS
from demo.platforms import Platform
from demo.traffic import Replay

BROKEN_SHARE = 0.3
LOOK_SECONDS = 0.05
SILENCE_SECONDS = 5.0
GIVE_UP_SECONDS = 180.0
CHAMPION, CHALLENGER = VERSIONS


class Breakage:
    """Lets the challenger fail, and takes the time in a thread of its own."""

    def __init__(self, challenger_url: str, replay: Replay, platform: Platform) -> None:
        self._url = challenger_url
        self._replay = replay
        self._platform = platform
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._champion_only: float | None = None
        self.on = False

    def begin(self) -> None:
        """Switch the failures on."""
        self.on = True
        self._replay.watch_errors()
        body = json.dumps({"share": BROKEN_SHARE}).encode()
        urllib.request.urlopen(f"{self._url}/faults", body, timeout=5).close()
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the time has been taken."""
        return self.on and not self._thread.is_alive()

    @property
    def seconds(self) -> float | None:
        """From the first failed answer to the end of the challenger's traffic."""
        first = self._replay.progress().first_error
        if first is None or self._champion_only is None:
            return None
        return self._champion_only - first

    def told(self) -> str:
        """The time in words. Raises DemoError where the challenger has kept its traffic."""
        if self.seconds is None:
            message = f"{CHALLENGER} still had traffic {GIVE_UP_SECONDS:g} s after it broke"
            raise DemoError(message)
        failed = self._replay.progress().errors.get(CHALLENGER, 0)
        seen = "the last answer of " + CHALLENGER
        if self._platform.split() is not None:
            seen = f"{CHAMPION} at 100 % in Envoy's own configuration"
        return f"{self.seconds:.1f} s from the first failed answer to {seen}; {failed} failed"

    def _wait(self) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while self._champion_only is None and time.monotonic() < deadline:
            self._champion_only = self._look()
            time.sleep(LOOK_SECONDS)

    def _look(self) -> float | None:
        """When the champion was left alone, if it is."""
        split = self._platform.split()
        now = time.monotonic()
        if split is None:
            last = self._replay.progress().last_answer.get(CHALLENGER, now)
            return last if now - last > SILENCE_SECONDS else None
        return now if champion_only(split) else None


def champion_only(split: object) -> bool:
    """Whether these weights give everything to the champion."""
    if not isinstance(split, dict):
        return False
    return {version for version, weight in split.items() if weight} == {CHAMPION}
