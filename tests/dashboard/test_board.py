"""The board follows list and watch, and writes a page once for all who ask for it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelexperiment.dashboard import follow as following
from modelexperiment.dashboard.board import Board
from modelexperiment.dashboard.follow import follow
from modelexperiment.dashboard.listing import Filter
from modelexperiment.ports import Change, ExpiredError, Listed, Object, UnavailableError
from tests.dashboard.objects import made, of
from tests.report import examples


async def html(board: Board, **query: str) -> str:
    return gzip.decompress((await board.page(Filter.read(query))).compressed).decode()


class Script:
    """An API server that answers what it is told, in order, and then says nothing more."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []
        self.done = asyncio.Event()

    def _next(self) -> Any:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def get(self, namespace: str, name: str) -> Object | None:
        raise AssertionError("nobody asks for one")

    async def page(self, namespace: str | None, more: str) -> Listed:
        self.asked.append(("page", more))
        found = self._next()
        assert isinstance(found, Listed)
        return found

    async def watch(self, namespace: str | None, version: str) -> AsyncIterator[Change]:
        self.asked.append(("watch", version))
        if not self.answers:
            self.done.set()
            await asyncio.Event().wait()
        for change in self._next():
            if isinstance(change, Exception):
                raise change
            yield change


async def followed(source: Script) -> Board:
    """The board once the script is played."""
    board = Board()
    task = asyncio.create_task(follow(board, source, ()))
    await asyncio.wait_for(source.done.wait(), 20)
    task.cancel()
    return board


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PAUSES", (0.0,))
    monkeypatch.setattr(following, "_BREATH", 0.0)


def test_a_list_by_pages_then_what_changes() -> None:
    async def scenario() -> None:
        source = Script(
            Listed([made("a"), made("b")], "next", "7"),
            Listed([made("c")], "", "7"),
            [
                Change("ADDED", made("d", resourceVersion="8")),
                Change("DELETED", made("a", resourceVersion="9")),
                Change("BOOKMARK", {"metadata": {"resourceVersion": "12"}}),
            ],
        )
        board = await followed(source)

        assert source.asked == [("page", ""), ("page", "next"), ("watch", "7"), ("watch", "12")]
        shown = await html(board)
        keys = ["fraud/b", "fraud/c", "fraud/d"]
        assert [k for k in ("fraud/a", *keys) if f'data-key="{k}"' in shown] == keys
        assert board.version(("fraud", "d")) == "8"
        assert board.version(("fraud", "a")) is None

    asyncio.run(scenario())


def test_what_went_while_nobody_watched_is_gone_after_the_next_list() -> None:
    async def scenario() -> None:
        source = Script(
            Listed([made("a"), made("b")], "", "7"),
            [ExpiredError()],
            Listed([made("b")], "", "99"),
        )
        board = await followed(source)

        assert ("watch", "99") in source.asked
        assert "fraud/a" not in await html(board)

    asyncio.run(scenario())


def test_it_says_that_it_is_not_up_to_date_until_it_is_again() -> None:
    async def scenario() -> None:
        board = Board()
        board.expect([None])
        board.put(made("a"))
        assert "reading the experiments" in await html(board)
        board.listed(None, {("fraud", "a")})
        board.failed(None, "API server can't be reached: refused")
        assert "Not up to date: API server can&#x27;t be reached: refused" in await html(board)
        board.well(None)
        assert "Up to date" in await html(board)

        source = Script(UnavailableError("down"), Listed([made("a")], "", "1"))
        assert (await followed(source)).freshness == (True, "")

    asyncio.run(scenario())


def test_one_change_that_cannot_be_taken_in_does_not_end_it() -> None:
    async def scenario() -> None:
        source = Script(
            Listed([], "", "1"),
            [Change("ADDED", {"metadata": {"resourceVersion": "2"}})],
            Listed([made("a")], "", "3"),
        )
        assert "fraud/a" in await html(await followed(source))

    asyncio.run(scenario())


def test_a_page_is_written_once_and_again_only_for_news() -> None:
    async def scenario() -> None:
        now = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
        board = Board(lambda: now)
        board.expect(["fraud"])
        life = examples.undecided()
        board.put(of(life))
        board.listed("fraud", {("fraud", "fraud-v2")})
        first = await board.page(Filter())
        # Another version of the object that says the same is no news.
        board.put(of(life, resourceVersion="2"))
        assert await board.page(Filter()) is first
        assert board.version(("fraud", "fraud-v2")) == "2"
        now += timedelta(hours=1)
        again = await board.page(Filter())
        assert again is not first and again.etag == first.etag
        board.put(of(examples.won(), resourceVersion="3"))
        assert (await board.page(Filter())).etag != first.etag

    asyncio.run(scenario())


def test_a_list_of_one_namespace_leaves_the_others() -> None:
    async def scenario() -> None:
        board = Board()
        board.expect(["fraud", "search"])
        board.put(made("a", "fraud"))
        board.put(made("a", "search"))
        board.listed("fraud", set())
        assert not board.read_once.is_set()
        assert "search/a" in await html(board) and "fraud/a" not in await html(board)
        board.listed("search", {("search", "a")})
        assert board.read_once.is_set()

    asyncio.run(scenario())
