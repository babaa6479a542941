"""Several comparers on one real Redis count as one, whichever of them dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Gone

from modelexperiment.comparer.agreement import Rule, answer
from modelexperiment.comparer.comparer import Comparer
from modelexperiment.comparer.predictions import Prediction
from modelexperiment.comparer.series import Series
from modelexperiment.comparer.stream import _encode, _Stream, partition
from tests.comparer.processes import (
    ComparerProcess,
    RedisProcess,
    comparing,
    eventually,
    prediction,
)

pytestmark = pytest.mark.e2e
V1_V2 = ("fraud", "v1", "v2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    running = RedisProcess(tmp_path / "redis")
    yield running
    running.kill()


@pytest.fixture
def pair(server: RedisProcess, tmp_path: Path) -> Iterator[tuple[ComparerProcess, ComparerProcess]]:
    """Two comparers that share four streams."""
    options = ("--redis", server.url, "--partitions", "4")
    with comparing(tmp_path / "a", *options) as one, comparing(tmp_path / "b", *options) as other:
        yield one, other


def total(comparers: tuple[ComparerProcess, ...], name: str, *labels: str) -> float:
    """A counter, added up over processes, as sum() would."""
    return sum(c.samples(name).get(labels, 0) for c in comparers)


def holders(server: RedisProcess) -> list[int]:
    """How many streams each process holds."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        leases = [client.get(key) for key in client.scan_iter("*:lease:*")]
    return sorted(leases.count(holder) for holder in set(leases))


def batch(version: str, numbers: range, value: float = 0.5) -> list[dict[str, Any]]:
    return [prediction(f"r{number}", version, value) for number in numbers]


def test_both_of_a_pair_meet_wherever_they_are_posted(
    server: RedisProcess, pair: tuple[ComparerProcess, ComparerProcess]
) -> None:
    eventually(lambda: holders(server) == [2, 2], "each holds its share")
    one, other = pair
    for start in range(0, 1000, 100):
        numbers = range(start, start + 100)
        assert one.post(*batch("v1", numbers))[0] == 202
        # Every tenth disagrees; and every one is posted twice.
        copies = [prediction(f"r{n}", "v2", 0.5 if n % 10 else 0.9) for n in numbers]
        assert other.post(*copies)[0] == 202
        assert one.post(*copies)[0] == 202
    eventually(
        lambda: total(pair, "unpaired_total", "fraud", "v2", "duplicate") == 1000, "all are read"
    )
    assert total(pair, "comparisons_total", *V1_V2) == 1000
    assert total(pair, "disagreements_total", *V1_V2) == 100
    assert total(pair, "predictions_total", "fraud", "v2") == 2000
    assert total(pair, "unpaired_total", "fraud", "v1", "duplicate") == 0
    # Both have worked.
    assert all(comparer.samples("comparisons_total")[V1_V2] > 0 for comparer in pair)


def test_what_waits_when_a_process_is_killed_is_paired_by_the_other(
    server: RedisProcess, pair: tuple[ComparerProcess, ComparerProcess]
) -> None:
    eventually(lambda: holders(server) == [2, 2], "each holds its share")
    one, other = pair
    assert one.post(*batch("v1", range(400)))[0] == 202
    eventually(lambda: total(pair, "predictions_total", "fraud", "v1") == 400, "all are read")
    assert one.samples("predictions_total")["fraud", "v1"] > 0
    one.process.kill()
    one.process.wait()

    assert other.post(*batch("v2", range(400)))[0] == 202

    eventually(
        lambda: other.samples("comparisons_total").get(V1_V2) == 400, "the other has paired all"
    )
    assert holders(server) == [4]
    assert other.samples("unpaired_total")["fraud", "v1", "expired"] == 0


def test_a_restart_goes_on_where_it_was(server: RedisProcess, tmp_path: Path) -> None:
    with comparing(tmp_path / "log", "--redis", server.url) as comparer:
        assert comparer.post(*batch("v1", range(50)))[0] == 202
        eventually(lambda: comparer.samples("remembered") == {(): 50}, "all wait")
        assert comparer.stop() == 0
        # What it held is free at once.
        assert holders(server) == []
        comparer.start()
        assert comparer.post(*batch("v2", range(50)))[0] == 202
        eventually(lambda: comparer.samples("comparisons_total").get(V1_V2) == 50, "all are paired")
        assert comparer.samples("comparisons_total")[V1_V2] == 50


def test_without_redis_nothing_is_taken_and_then_it_goes_on(
    server: RedisProcess, tmp_path: Path
) -> None:
    with comparing(tmp_path / "log", "--redis", server.url) as comparer:
        assert comparer.post(*batch("v1", range(50)))[0] == 202
        eventually(lambda: comparer.samples("remembered") == {(): 50}, "all wait")
        server.kill()
        assert comparer.post(prediction("x", "v1")) == (503, "redis: ConnectionError\n")
        assert comparer.samples("rejected_total")[("unavailable",)] == 1
        eventually(lambda: comparer.get("/readyz")[0] == 503, "it is not ready")
        assert comparer.get("/healthz")[0] == 200

        server.start()
        eventually(lambda: comparer.get("/readyz")[0] == 200, "it is ready")
        assert comparer.post(*batch("v2", range(50)))[0] == 202
        eventually(
            lambda: comparer.samples("comparisons_total").get(V1_V2) == 50, "what waited is paired"
        )


def test_redis_that_comes_back_empty_is_worked_with(server: RedisProcess, tmp_path: Path) -> None:
    with comparing(tmp_path / "log", "--redis", server.url) as comparer:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        eventually(lambda: holders(server) == [8], "the streams are held again")
        assert comparer.post(*batch("v1", range(50)), *batch("v2", range(50)))[0] == 202
        eventually(lambda: comparer.samples("comparisons_total").get(V1_V2) == 50, "all are paired")


def test_what_waits_in_vain_expires_by_the_clock_of_redis(
    server: RedisProcess, tmp_path: Path
) -> None:
    with comparing(tmp_path / "log", "--redis", server.url, "--window", "1s") as comparer:
        assert comparer.post(*batch("v1", range(20)))[0] == 202
        eventually(
            lambda: comparer.samples("unpaired_total").get(("fraud", "v1", "expired")) == 20,
            "all expire",
        )
        with redis.Redis.from_url(server.url) as client:
            keys = list(client.scan_iter("*:stream:*"))
            eventually(
                lambda: not any(client.xpending(key, "comparer")["pending"] for key in keys),
                "all are acknowledged",
            )


def test_streams_are_bounded(server: RedisProcess, tmp_path: Path) -> None:
    options = ("--redis", server.url, "--partitions", "1", "--stream-length", "200")
    with comparing(tmp_path / "log", *options) as comparer:
        for start in range(0, 5000, 500):
            assert comparer.post(*batch("v1", range(start, start + 500)))[0] == 202
        with redis.Redis.from_url(server.url) as client:
            # Cut by whole nodes, of a hundred.
            assert client.xlen("modelexperiment:comparer:1:stream:0") <= 300


def test_the_partition_is_by_model_and_request() -> None:
    found = [partition(Prediction(f"r{n}", "m", "v1", answer(1)), 8) for n in range(800)]
    assert set(found) == set(range(8))
    assert found == [partition(Prediction(f"r{n}", "m", "v2", answer(2)), 8) for n in range(800)]


class Bench:
    """One stream of a real Redis, read step by step."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url, decode_responses=True, protocol=2)
        self.series = Series(Rule())

    def stream(self) -> _Stream:
        """As a process that has just taken the stream over."""
        comparer = Comparer(self.series, 60, 1000)
        return _Stream(self.redis, "stream", comparer, self.series)

    async def append(self, request: str, version: str) -> str:
        text = _encode(Prediction(request, "fraud", version, answer(0.5)))
        return str(await self.redis.xadd("stream", {"p": text}))

    def comparisons(self) -> float | None:
        labels = {"model": "fraud", "version": "v1", "against": "v2"}
        return self.series.registry.get_sample_value("model_shadow_comparisons_total", labels)


async def read_all(stream: _Stream) -> None:
    # What was delivered before, its end, what is new.
    for _ in range(3):
        await stream.read(70_000)


def test_delivery_is_at_least_once(server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, and then Redis is gone: the same process knows, another one can't."""

    async def run() -> None:
        bench = Bench(server.url)
        await bench.append("r", "v1")
        await bench.append("r", "v2")
        first = bench.stream()
        await first.open()

        async def gone(*_: object) -> int:
            raise Gone("gone")

        with monkeypatch.context() as patched, pytest.raises(Gone):
            patched.setattr(bench.redis, "xack", gone)
            await read_all(first)
        assert bench.comparisons() == 1

        again = bench.stream()
        again.counted = set(first.counted)
        another = bench.stream()
        with monkeypatch.context() as patched, pytest.raises(Gone):
            patched.setattr(bench.redis, "xack", gone)
            await read_all(again)
        assert bench.comparisons() == 1
        await read_all(another)
        assert bench.comparisons() == 2
        assert (await bench.redis.xpending("stream", "comparer"))["pending"] == 0
        await bench.redis.aclose()

    asyncio.run(run())


def test_what_was_cut_off_while_it_waited_is_passed_over(server: RedisProcess) -> None:
    async def run() -> None:
        bench = Bench(server.url)
        first = bench.stream()
        await first.open()
        lost = await bench.append("a", "v1")
        await bench.append("b", "v1")
        await read_all(first)
        await bench.redis.xdel("stream", lost)
        await bench.append("b", "v2")
        await read_all(bench.stream())
        assert bench.comparisons() == 1
        assert (await bench.redis.xpending("stream", "comparer"))["pending"] == 0
        await bench.redis.aclose()

    asyncio.run(run())


def test_what_nobody_works_on_is_claimed(server: RedisProcess) -> None:
    """As if a process that was paused had read on after its lease had passed to another."""

    async def run() -> None:
        bench = Bench(server.url)
        holder = bench.stream()
        await holder.open()
        await read_all(holder)
        await bench.append("a", "v1")
        await bench.append("a", "v2")
        await bench.redis.xreadgroup("comparer", "comparer", {"stream": ">"})
        end = time.monotonic() + 20
        # It looks once in a while, which is short here.
        while not bench.comparisons() and time.monotonic() < end:
            await holder.read(1000)
        assert bench.comparisons() == 1
        await bench.redis.aclose()

    asyncio.run(run())
