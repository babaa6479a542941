"""An experiment's report, drawn when somebody asks for it, one at a time and not too often."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from modelexperiment.commands.files import InputError
from modelexperiment.commands.page import Page
from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.dashboard.board import Body, Key, packed
from modelexperiment.dashboard.markup import Html
from modelexperiment.dashboard.pages import text_page
from modelexperiment.dashboard.secrets import without_secrets
from modelexperiment.ports import Object

_log = logging.getLogger(__name__)
_KEPT = 32
# Drawing takes half a second of a processor that polls need as well.
PAUSE = 5.0

Render = Callable[[Experiment, ExperimentStatus], str]
"""Makes the page of an experiment; InputError where it can't."""


class Reader(Protocol):
    """Where one experiment is read."""

    async def get(self, namespace: str, name: str) -> Object | None:
        """The experiment as it is now, or None."""


@dataclass(frozen=True)
class _Drawn:
    version: str
    at: float
    body: Body


class Reports:
    """The reports that were drawn last."""

    def __init__(
        self, reader: Reader, render: Render, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader, self._render, self._clock = reader, render, clock
        self._drawn: OrderedDict[Key, _Drawn] = OrderedDict()
        self._drawing = asyncio.Lock()
        # Matplotlib is not made for more than one thread.
        self._thread = ThreadPoolExecutor(1, "report")

    def close(self) -> None:
        """End the thread, once it has drawn what it draws."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def page(self, key: Key, version: str) -> Body | None:
        """The report of an experiment whose resourceVersion is known; None where it is gone.

        UnavailableError where the API server does not answer.
        """
        found = self._kept(key, version)
        if found:
            return found
        async with self._drawing:
            # Somebody else may have asked for the same.
            found = self._kept(key, version)
            if found:
                return found
            seen = await self._reader.get(*key)
            if seen is None:
                self._drawn.pop(key, None)
                return None
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._thread, self._draw, seen)
            self._drawn[key] = _Drawn(seen["metadata"]["resourceVersion"], self._clock(), body)
            self._drawn.move_to_end(key)
            while len(self._drawn) > _KEPT:
                self._drawn.popitem(last=False)
            return body

    def _kept(self, key: Key, version: str) -> Body | None:
        found = self._drawn.get(key)
        if found and (found.version == version or self._clock() - found.at < PAUSE):
            self._drawn.move_to_end(key)
            return found.body
        return None

    def _draw(self, seen: Object) -> Body:
        shown = without_secrets(seen)
        try:
            experiment = parse_experiment(shown)
            status = ExperimentStatus.model_validate(shown.get("status") or {})
            return packed(Html(self._render(experiment, status)))
        except InputError as error:
            why = str(error)
        except (ManifestError, ValidationError) as error:
            why = f"report: {error}"
        except Exception as error:
            _log.exception("no report of %s", shown["metadata"]["name"])
            why = f"report: {error}"
        return packed(_as_text(shown, why))


def _as_text(shown: Object, why: str) -> Html:
    """What `modelexperiment status` says, where no report can be drawn."""
    metadata = shown["metadata"]
    try:
        said = Page(shown, datetime.now(UTC)).text()
    except ValidationError as error:
        said = str(error)
    return text_page(f"{metadata['namespace']}/{metadata['name']}", why, said)
