"""What is known of all experiments, and the list that is written from it, each filter once.

A reader's request finds the list written already, or lets a thread write it: the loop that polls
and rolls back only hands it over.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from modelexperiment.dashboard.listing import Filter
from modelexperiment.dashboard.markup import Html
from modelexperiment.dashboard.pages import Freshness, list_page
from modelexperiment.dashboard.summary import Object, Summary, summarize

Key = tuple[str, str]
_KEPT = 8
# Speed counts more than the last tenth.
_LEVEL = 5


class Body(NamedTuple):
    """A page as it is sent."""

    compressed: bytes
    etag: str


def packed(html: Html) -> Body:
    """A page, compressed, with a tag that changes where the page does."""
    raw = html.encode()
    digest = hashlib.blake2b(raw, digest_size=12).hexdigest()
    return Body(gzip.compress(raw, _LEVEL, mtime=0), f'"{digest}"')


class Board:
    """The experiments' summaries, by namespace and name."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._summaries: dict[Key, Summary] = {}
        self._versions: dict[Key, str] = {}
        self._written: OrderedDict[object, Body] = OrderedDict()
        self._changes = 0
        self._writing = asyncio.Lock()
        self._unread: set[str | None] = set()
        self._troubles: dict[str | None, str] = {}
        self.read_once = asyncio.Event()
        """All there are have been read once."""

    def expect(self, sources: Iterable[str | None]) -> None:
        """Name what experiments are read from: namespaces, or None for all of them."""
        self._unread = set(sources)

    def put(self, seen: Object) -> None:
        """Take an object in, new or changed."""
        metadata = seen["metadata"]
        key = metadata["namespace"], metadata["name"]
        self._versions[key] = metadata["resourceVersion"]
        found = summarize(seen)
        if self._summaries.get(key) != found:
            self._summaries[key] = found
            self._changes += 1

    def drop(self, key: Key) -> None:
        """Forget an experiment that is gone."""
        self._versions.pop(key, None)
        if self._summaries.pop(key, None):
            self._changes += 1

    def listed(self, source: str | None, keys: set[Key]) -> None:
        """All of a source were put; whatever else there was of it is gone."""
        of_source = [k for k in self._summaries if source is None or k[0] == source]
        for key in of_source:
            if key not in keys:
                self.drop(key)
        self._unread.discard(source)
        if not self._unread and not self.read_once.is_set():
            self.read_once.set()
            self._changes += 1

    def failed(self, source: str | None, why: str) -> None:
        """Note what keeps a source from being up to date."""
        self._troubles[source] = why

    def well(self, source: str | None) -> None:
        """Note that a source is up to date again."""
        self._troubles.pop(source, None)

    def version(self, key: Key) -> str | None:
        """The resourceVersion that was seen last; None of one that is not there."""
        return self._versions.get(key)

    @property
    def freshness(self) -> Freshness:
        """Whether what is shown is what there is."""
        return Freshness(self.read_once.is_set(), next(iter(self._troubles.values()), ""))

    async def page(self, chosen: Filter) -> Body:
        """The list as this filter has it."""
        async with self._writing:
            now = self._now()
            freshness = self.freshness
            # What is long over sinks in the list as time goes by; an hour is soon enough.
            key = (self._changes, chosen, freshness, now.replace(minute=0, second=0, microsecond=0))
            if key not in self._written:
                everything = list(self._summaries.values())
                self._written[key] = await asyncio.to_thread(
                    lambda: packed(list_page(everything, chosen, freshness, now))
                )
                while len(self._written) > _KEPT:
                    self._written.popitem(last=False)
            self._written.move_to_end(key)
            return self._written[key]
