"""Everything is worked on when it is due, and by one worker at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from modelexperiment.controller.queue import DueQueue, Key

A, B, C = Key("ns", "a"), Key("ns", "b"), Key("ns", "c")
TICK = 0.02


class Worker:
    """Work that takes a while and remembers when it was done to whom."""

    def __init__(self, takes: float = 0.0, again: float | None = None) -> None:
        self.takes = takes
        self.again = again
        self.done: list[Key] = []
        self.at_once: dict[Key, int] = {}
        self.most_at_once = 0
        self.failing = False

    async def __call__(self, key: Key) -> float | None:
        self.at_once[key] = self.at_once.get(key, 0) + 1
        self.most_at_once = max(self.most_at_once, *self.at_once.values())
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.at_once[key] -= 1
        self.done.append(key)
        if self.failing:
            raise RuntimeError("boom")
        return self.again


@asynccontextmanager
async def running(queue: DueQueue):  # type: ignore[no-untyped-def]
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_keys_are_worked_on_in_the_order_in_which_they_are_due() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 1)
        queue.add(A, 3 * TICK)
        queue.add(B, 2 * TICK)
        queue.add(C, TICK)
        async with running(queue):
            await until(lambda: len(worker.done) == 3)
        assert worker.done == [C, B, A]

    run(test)


def test_nothing_is_worked_on_before_it_is_due() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 2)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        queue.add(A, 3 * TICK)
        async with running(queue):
            await until(lambda: worker.done == [A])
        assert loop.time() - begin >= 3 * TICK

    run(test)


def test_the_earlier_time_wins_however_it_was_added() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 1)
        queue.add(A, 60)
        queue.add(A, 0)
        queue.add(A, 60)
        assert len(queue) == 1
        async with running(queue):
            await until(lambda: worker.done == [A])
        assert len(queue) == 0

    run(test)


def test_a_key_added_while_everybody_waits_wakes_a_worker() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 2)
        async with running(queue):
            await asyncio.sleep(TICK)
            queue.add(A)
            await asyncio.sleep(TICK)
            assert worker.done == [A]

    run(test)


def test_one_key_is_never_worked_on_twice_at_once_and_no_addition_is_lost() -> None:
    async def test() -> None:
        worker = Worker(takes=TICK)
        queue = DueQueue(worker, 4)
        async with running(queue):
            queue.add(A)
            await asyncio.sleep(TICK / 2)
            queue.add(A)
            queue.add(A)
            queue.add(B)
            await until(lambda: worker.done.count(A) == 2)
            await asyncio.sleep(2 * TICK)
        assert worker.most_at_once == 1
        # The two additions while it was busy are one more round.
        assert sorted(worker.done) == [A, A, B]

    run(test)


def test_different_keys_are_worked_on_at_once_as_far_as_there_are_workers() -> None:
    async def test() -> None:
        busiest = 0
        release = asyncio.Event()
        busy: set[Key] = set()

        async def work(key: Key) -> None:
            nonlocal busiest
            busy.add(key)
            busiest = max(busiest, len(busy))
            await release.wait()
            busy.discard(key)

        queue = DueQueue(work, 2)
        for key in (A, B, C):
            queue.add(key)
        async with running(queue):
            await asyncio.sleep(TICK)
            assert (busiest, len(queue)) == (2, 3)
            release.set()
            await until(lambda: len(queue) == 0)

    run(test)


def test_work_is_done_again_after_the_time_that_it_gives() -> None:
    async def test() -> None:
        worker = Worker(again=TICK)
        queue = DueQueue(worker, 1)
        queue.add(A)
        async with running(queue):
            await until(lambda: len(worker.done) == 3)

    run(test)


def test_what_is_forgotten_is_not_worked_on() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 1)
        queue.add(A)
        queue.forget(A)
        queue.forget(B)
        async with running(queue):
            await asyncio.sleep(TICK)
        assert worker.done == []

    run(test)


def test_a_failure_is_logged_with_its_key_and_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        worker = Worker()
        worker.failing = True
        queue = DueQueue(worker, 1)
        queue.add(A)
        queue.add(B)
        async with running(queue):
            await until(lambda: len(worker.done) == 2)
        # Both are tried again, though not at once.
        assert (worker.done, len(queue)) == ([A, B], 2)

    with caplog.at_level(logging.ERROR):
        run(test)
    assert [record.getMessage() for record in caplog.records] == [
        "ns/a: unexpected failure",
        "ns/b: unexpected failure",
    ]


def test_an_idle_queue_beats() -> None:
    async def test() -> None:
        queue = DueQueue(Worker(), 1)
        async with running(queue):
            await asyncio.sleep(TICK)
            assert 0 <= asyncio.get_running_loop().time() - queue.beat < 1

    run(test)


def test_a_queue_whose_workers_are_all_busy_beats_as_well() -> None:
    async def test() -> None:
        queue = DueQueue(Worker(takes=60), 1)
        queue.add(A)
        async with running(queue):
            await asyncio.sleep(1.2)
            assert asyncio.get_running_loop().time() - queue.beat < 1

    run(test)


def test_a_stale_due_time_of_a_key_is_not_a_second_round() -> None:
    async def test() -> None:
        worker = Worker()
        queue = DueQueue(worker, 1)
        queue.add(A, TICK)
        queue.add(A, 0)
        async with running(queue):
            await asyncio.sleep(3 * TICK)
        assert worker.done == [A]

    run(test)


def test_a_queue_that_no_worker_moves_is_seen_to_be_stalled() -> None:
    async def test() -> None:
        worker = Worker(takes=5 * TICK)
        queue = DueQueue(worker, workers=1)
        async with running(queue):
            queue.add(A)
            await until(lambda: len(queue) == 1 and not queue._due)
            assert queue.stalled() == 0.0
            queue.add(B)
            await asyncio.sleep(3 * TICK)
            assert queue.stalled() > TICK
            await until(lambda: worker.done == [A, B])
            assert queue.stalled() == 0.0

    run(test)
