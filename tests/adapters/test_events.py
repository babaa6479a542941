"""Kubernetes Events: repeated ones are counted, floods are held back, and none is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelexperiment.adapters.events import (
    BURST,
    MOST,
    REFILL,
    SAME,
    EventRecorder,
    NotThereError,
    event_body,
)
from modelexperiment.core.events import Event, Reason
from modelexperiment.ports import UnavailableError

CORRECTED = Event(Reason.ROUTE_CORRECTED, "put back to v1 90 / v2 10")


def seen(uid: str = "1") -> dict[str, Any]:
    metadata = {"name": "fraud-v2", "namespace": "fraud", "uid": uid, "resourceVersion": "7"}
    return {"metadata": metadata}


class Api:
    """The Events of an API server, by name."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.failure: Exception | None = None

    async def post_event(self, namespace: str, body: dict[str, Any]) -> None:
        if self.failure:
            raise self.failure
        self.events[body["metadata"]["name"]] = body

    async def count_event(self, namespace: str, name: str, count: int, last: str) -> None:
        if self.failure:
            raise self.failure
        if name not in self.events:
            raise NotThereError(name)
        self.events[name].update(count=count, lastTimestamp=last)

    def told(self) -> list[tuple[str, int]]:
        return [(body["message"], body["count"]) for body in self.events.values()]


class World:
    def __init__(self) -> None:
        self.api, self.now = Api(), 0.0
        self.recorder = EventRecorder(self.api, lambda: self.now)

    def post(self, *events: Event, uid: str = "1", after: float = 1.0) -> None:
        for event in events:
            self.now += after
            asyncio.run(self.recorder.post(seen(uid), event))


def corrected(message: str) -> Event:
    return Event(Reason.ROUTE_CORRECTED, message)


def test_the_same_again_raises_the_count_of_the_event_that_is_there() -> None:
    world = World()

    world.post(*[CORRECTED] * 5)

    assert world.api.told() == [(CORRECTED.message, 5)]
    (body,) = world.api.events.values()
    assert body["lastTimestamp"] >= body["firstTimestamp"]


def test_another_message_is_another_event() -> None:
    world = World()

    world.post(corrected("a"), corrected("b"), corrected("b"))

    assert world.api.told() == [("a", 1), ("b", 2)]


def test_a_flood_is_held_back_and_is_in_the_next_events_count() -> None:
    world = World()

    world.post(*(corrected(str(i)) for i in range(BURST + 20)), after=0.0)
    assert len(world.api.events) == BURST

    world.now += REFILL
    world.post(corrected("later"), after=0.0)
    assert len(world.api.events) == BURST + 1
    assert sum(count for _, count in world.api.told()) == BURST + 21


def test_a_flood_of_one_kind_keeps_no_other_from_being_told() -> None:
    world = World()
    world.post(*(corrected(str(i)) for i in range(BURST + 1)), after=0.0)

    world.post(Event(Reason.ROLLED_BACK, "v1 gets everything"), after=0.0)
    world.post(CORRECTED, uid="2", after=0.0)

    told = [message for message, _ in world.api.told()]
    assert told[-2:] == ["v1 gets everything", CORRECTED.message]


def test_what_was_long_ago_is_told_anew() -> None:
    world = World()

    world.post(CORRECTED, CORRECTED, after=SAME + 1)

    assert world.api.told() == [(CORRECTED.message, 1)] * 2


def test_an_event_that_the_api_server_has_forgotten_is_made_anew() -> None:
    world = World()
    world.post(CORRECTED)
    world.api.events.clear()

    world.post(CORRECTED)

    assert world.api.told() == [(CORRECTED.message, 1)]


def test_what_could_not_be_posted_is_counted_with_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.api.failure = UnavailableError("API server: 500")
    world.post(CORRECTED)
    world.api.failure = None

    world.post(CORRECTED)

    assert world.api.told() == [(CORRECTED.message, 2)]
    assert "event RouteCorrected was not posted: API server: 500" in caplog.text


def test_memory_is_bounded() -> None:
    world = World()

    world.post(*[CORRECTED] * 2)
    for number in range(MOST):
        world.post(CORRECTED, uid=f"other-{number}", after=0.0)
    world.post(CORRECTED)

    counts = [count for _, count in world.api.told()]
    assert (counts[0], counts[-1]) == (2, 1)


def test_a_long_name_and_message_fit() -> None:
    long = {"metadata": {**seen()["metadata"], "name": "x" * 253}}

    body = event_body(long, corrected("y" * 5000))

    assert len(body["metadata"]["name"]) <= 253
    assert len(body["message"]) <= 1024
    assert body["type"] == "Warning"
