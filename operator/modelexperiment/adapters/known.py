"""What the API server was last heard to say of objects that are watched anyway.

A poll that finds nothing to do asks the API server nothing. That is safe, because nothing is
written on the word of what stands here: a status carries the resourceVersion that it is based on,
and before a route is written all is read anew. What is out of date can only keep the operator from
seeing that there is something to do, and not for long:

- Events of a watch replace what is here, and let the experiment be worked on at once.
- What the API server answers to a request of the operator's own may be newer than what the watch
  tells next. resourceVersions can't be compared, so until the watch tells that very version,
  another one only lets the object be read anew; so does one told while the request was under way.
- A watch may stall without ending: nothing is taken for longer than TRUSTED seconds without a word
  that it is still so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

TRUSTED = 60.0
# What nobody asks for any more is dropped each so many answers.
SWEEP = 1024


class Address(NamedTuple):
    """Where an object is."""

    group: str
    plural: str
    namespace: str
    name: str


@dataclass(slots=True)
class Heard:
    """An object as the API server has told it, or that there is none."""

    version: str
    """Its resourceVersion; "" where there is no object."""
    text: bytes | None
    """It as JSON, a fifth of what it takes as a dict; None where there is no object."""
    at: float
    watched: bool
    """Whether the watch has come as far as this."""

    @property
    def body(self) -> dict[str, Any] | None:
        """The object, made anew for each who asks."""
        return None if self.text is None else dict(json.loads(self.text))


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A request whose answer is awaited, and the version that was heard of meanwhile."""

    told: str | None = None


class Known:
    """Keeps objects of the kinds that are watched, once they were asked for.

    `namespaces` are those that are watched; none: all.
    """

    def __init__(
        self,
        kinds: Collection[tuple[str, str]] = (),
        namespaces: Collection[str] = (),
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kinds = frozenset(kinds)
        self._namespaces = frozenset(namespaces)
        self._steady = steady
        self._heard: dict[Address, Heard] = {}
        self._under_way: dict[Address, set[_UnderWay]] = {}
        self._kept = 0

    def __len__(self) -> int:
        return len(self._heard)

    def keeps(self, where: Address) -> bool:
        """Whether an object is of those that are watched."""
        watched = not self._namespaces or where.namespace in self._namespaces
        return watched and (where.group, where.plural) in self._kinds

    def recall(self, where: Address) -> Heard | None:
        """What is known of an object, or None where it has to be asked for."""
        heard = self._heard.get(where)
        if heard is None or self._steady() - heard.at >= TRUSTED:
            return None
        return heard

    def told(self, group: str, plural: str, event: str | None, body: Mapping[str, Any]) -> bool:
        """Take in an event of a watch; gives whether it is any news."""
        metadata = body["metadata"]
        where = Address(group, plural, metadata["namespace"], metadata["name"])
        version = "" if event == "DELETED" else str(metadata["resourceVersion"])
        for request in self._under_way.get(where, ()):
            request.told = version
        heard = self._heard.get(where)
        if heard is None:
            return True
        if heard.version == version:
            heard.watched, heard.at = True, self._steady()
            return False
        if heard.watched and version:
            self._keep(where, version, body, watched=True)
        else:
            del self._heard[where]
        return True

    async def asking(
        self, where: Address, answer: Awaitable[dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Wait for the answer to a request to read or write an object, and take it in.

        The answer is the object, or None where there is none.
        """
        if not self.keeps(where):
            return await answer
        request = _UnderWay()
        self._under_way.setdefault(where, set()).add(request)
        # A request that fails may have been carried out all the same.
        self._heard.pop(where, None)
        try:
            body = await answer
        finally:
            others = self._under_way[where]
            others.discard(request)
            if not others:
                del self._under_way[where]
        version = str(body["metadata"]["resourceVersion"]) if body else ""
        for other in others:
            other.told = version
        if request.told in (None, version):
            self._keep(where, version, body, watched=request.told is not None)
        return body

    def _keep(
        self, where: Address, version: str, body: Mapping[str, Any] | None, *, watched: bool
    ) -> None:
        text = None if body is None else json.dumps(dict(body), separators=(",", ":")).encode()
        now = self._steady()
        self._heard[where] = Heard(version, text, now, watched)
        self._kept += 1
        if self._kept % SWEEP == 0:
            self._heard = {w: heard for w, heard in self._heard.items() if now - heard.at < TRUSTED}
