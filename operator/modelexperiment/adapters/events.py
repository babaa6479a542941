"""Kubernetes Events about experiments, without floods.

As client-go's recorder does it: what is told again raises the `count` of the Event that is there,
and each kind of news of an object has a bucket of tokens. What finds the bucket empty is not lost:
it is in the count of the next one that is posted. Buckets are by reason, so that a flood of one
kind never keeps a rollback from being told.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from modelexperiment.core.crd import GROUP, KIND, VERSION
from modelexperiment.core.events import Event
from modelexperiment.ports import ConflictError, Object, UnavailableError

COMPONENT = "modelexperiment"
# Of one reason, of one object: this many at once, and then one every so many seconds.
BURST = 10
REFILL = 60.0
# An Event that was told this long ago is not gone on with: the API server keeps it for an hour.
SAME = 600.0
# Of objects and reasons that are remembered; the ones seen longest ago are forgotten first.
MOST = 4096

_log = logging.getLogger(__name__)

_Topic = tuple[str, str]
"""An object's uid, and a reason."""


class NotThereError(Exception):
    """The Event is in the API server no more."""


class EventApi(Protocol):
    """What of the API server is needed here."""

    async def post_event(self, namespace: str, body: dict[str, Any]) -> None:
        """Create an Event."""

    async def count_event(self, namespace: str, name: str, count: int, last: str) -> None:
        """Set an Event's count and last time; NotThereError where it is gone."""


@dataclass
class _Last:
    """What was posted last of a topic, and the tokens that are left."""

    tokens: float
    refilled: float
    message: str = ""
    name: str = ""
    count: int = 0
    posted: float = 0.0
    unsaid: int = 0


class EventRecorder:
    """Posts Events."""

    def __init__(self, api: EventApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._topics: OrderedDict[_Topic, _Last] = OrderedDict()

    async def post(self, seen: Object, event: Event) -> None:
        """Post an Event about an object, or raise the count of the last one; never fails."""
        last = self._topic((seen["metadata"]["uid"], str(event.reason)))
        if last.tokens < 1:
            last.unsaid += 1
            return
        last.tokens -= 1
        try:
            await self._say(seen, event, last)
        except (UnavailableError, ConflictError, NotThereError) as error:
            last.unsaid += 1
            _log.warning("event %s was not posted: %s", event.reason, error)

    def _topic(self, topic: _Topic) -> _Last:
        now = self._clock()
        last = self._topics.setdefault(topic, _Last(float(BURST), now))
        self._topics.move_to_end(topic)
        if len(self._topics) > MOST:
            self._topics.popitem(last=False)
        last.tokens = min(BURST, last.tokens + (now - last.refilled) / REFILL)
        last.refilled = now
        return last

    async def _say(self, seen: Object, event: Event, last: _Last) -> None:
        namespace, now = seen["metadata"]["namespace"], self._clock()
        again = event.message == last.message and last.name and now - last.posted < SAME
        if again:
            count = last.count + 1 + last.unsaid
            try:
                await self._api.count_event(namespace, last.name, count, _timestamp())
                last.count, last.posted, last.unsaid = count, now, 0
                return
            except NotThereError:
                pass
        body = event_body(seen, event)
        body["count"] = 1 + last.unsaid
        await self._api.post_event(namespace, body)
        last.message, last.name = event.message, body["metadata"]["name"]
        last.count, last.posted, last.unsaid = body["count"], now, 0


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event_body(seen: Object, event: Event) -> dict[str, Any]:
    """The Kubernetes Event about an experiment."""
    metadata, now = seen["metadata"], _timestamp()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200]}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "reason": str(event.reason),
        "message": event.message[:1000],
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
