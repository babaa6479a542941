"""What is known of watched objects: never older than an own write, and not trusted for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from modelexperiment.adapters.known import SWEEP, TRUSTED, Address, Known

KIND = ("g", "things")
ONE = Address(*KIND, "ns", "one")


def thing(version: int) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "one", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"said": version}}


class World:
    """Known objects, a clock, and an API server that answers when it is told to."""

    def __init__(self, **fields: Any) -> None:
        self.now = 0.0
        self.known = Known([KIND], steady=lambda: self.now, **fields)

    def told(self, version: int, event: str = "MODIFIED") -> bool:
        return self.known.told(*KIND, event, thing(version))

    def ask(self, found: dict[str, Any] | None) -> dict[str, Any] | None:
        """Send a request that is answered at once."""

        async def answer() -> dict[str, Any] | None:
            return found

        return self.wait(answer())

    def wait(self, answer: Coroutine[Any, Any, dict[str, Any] | None]) -> dict[str, Any] | None:
        """Send a request, and wait for its answer."""
        return asyncio.run(self.known.asking(ONE, answer))

    def said(self) -> int | None:
        """The version that is known; None where the API server has to be asked."""
        heard = self.known.recall(ONE)
        if heard is None:
            return None
        body = heard.body
        return 0 if body is None else int(body["spec"]["said"])


@pytest.fixture
def world() -> World:
    return World()


def test_what_nobody_asked_for_is_not_kept(world: World) -> None:
    assert world.told(1, "ADDED")
    assert world.said() is None


def test_what_was_read_is_known_until_the_watch_tells_of_something_newer(
    world: World,
) -> None:
    assert world.ask(thing(1)) == thing(1)
    assert world.said() == 1
    assert not world.told(1)
    assert world.told(2)
    assert world.said() == 2
    assert world.told(3)
    assert world.said() == 3


def test_what_is_given_out_can_be_changed_without_harm(world: World) -> None:
    world.ask(thing(1))
    heard = world.known.recall(ONE)
    assert heard is not None and heard.body is not None
    heard.body["spec"]["said"] = 9
    assert world.said() == 1


def test_a_watch_that_lags_behind_an_own_write_does_not_bring_the_old_back(
    world: World,
) -> None:
    world.ask(thing(1))
    world.told(1)
    world.ask(thing(5))
    assert world.said() == 5

    assert world.told(4)
    assert world.said() is None
    assert world.told(5)
    assert world.said() is None

    world.ask(thing(5))
    assert world.said() == 5


def test_an_own_write_that_the_watch_repeats_is_no_news(world: World) -> None:
    world.ask(thing(5))

    assert not world.told(5)
    assert world.told(6)
    assert world.said() == 6


def test_an_edit_that_is_told_while_a_read_is_under_way_is_not_missed(world: World) -> None:
    async def old() -> dict[str, Any]:
        world.told(2)
        return thing(1)

    assert world.wait(old()) == thing(1)
    assert world.said() is None


def test_a_write_whose_event_comes_before_its_answer_is_known(world: World) -> None:
    async def written() -> dict[str, Any]:
        world.told(2)
        return thing(2)

    world.wait(written())
    assert world.said() == 2
    assert world.told(3)
    assert world.said() == 3


def test_a_read_that_ends_after_a_write_that_began_later_is_not_taken_for_newer(
    world: World,
) -> None:
    async def both() -> tuple[object, object]:
        written = asyncio.Event()

        async def slow() -> dict[str, Any]:
            await written.wait()
            return thing(1)

        async def write() -> dict[str, Any]:
            return thing(2)

        reading = asyncio.create_task(world.known.asking(ONE, slow()))
        await asyncio.sleep(0)
        wrote = await world.known.asking(ONE, write())
        written.set()
        return wrote, await reading

    assert asyncio.run(both()) == (thing(2), thing(1))
    assert world.said() == 2


def test_after_a_write_that_failed_the_object_is_read_anew(world: World) -> None:
    async def refused() -> dict[str, Any]:
        raise TimeoutError

    world.ask(thing(1))
    with pytest.raises(TimeoutError):
        world.wait(refused())
    assert world.said() is None


def test_that_there_is_no_object_is_known_until_it_is_made(world: World) -> None:
    assert world.ask(None) is None
    assert world.said() == 0
    assert world.told(1, "ADDED")
    assert world.said() is None


def test_what_is_deleted_is_asked_for(world: World) -> None:
    world.ask(thing(1))
    world.told(1)
    assert world.told(2, "DELETED")
    assert world.said() is None


def test_without_a_word_nothing_is_trusted_for_longer_than_a_minute(world: World) -> None:
    world.ask(thing(1))
    world.now = TRUSTED - 1
    assert world.said() == 1
    world.told(1)
    world.now += TRUSTED - 1
    assert world.said() == 1
    world.now += 1
    assert world.said() is None


@pytest.mark.parametrize(
    "where", [Address("g", "others", "ns", "one"), Address(*KIND, "elsewhere", "one")]
)
def test_what_no_watch_tells_of_is_not_kept(where: Address) -> None:
    known = World(namespaces=["ns"]).known

    async def answer() -> dict[str, Any]:
        return thing(1)

    assert asyncio.run(known.asking(where, answer())) == thing(1)
    assert known.recall(where) is None


def test_what_nobody_asks_for_any_more_is_dropped(world: World) -> None:
    async def nothing() -> None:
        return None

    async def ask(names: range) -> None:
        for number in names:
            await world.known.asking(Address(*KIND, "ns", f"old-{number}"), nothing())

    asyncio.run(ask(range(SWEEP)))
    assert len(world.known) == SWEEP
    world.now = TRUSTED
    asyncio.run(ask(range(SWEEP, 2 * SWEEP)))
    assert len(world.known) == SWEEP
