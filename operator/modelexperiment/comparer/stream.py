"""Shares the comparing among processes through Redis: streams, each read by one of them at a time.

Whoever takes a post appends its predictions to streams, chosen by a hash of model and request id,
so that both of a pair meet in one. A process holds a stream by a lease, and pairs what is in it as
it would in memory. A prediction is acknowledged once it is counted: what waits when its process
dies is delivered again, to the one that takes the stream over. Time is that of Redis.

Delivery is at least once. A process that dies between counting and acknowledging leaves up to a
batch that is counted again by the next one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from modelexperiment.adapters.web import Health
from modelexperiment.comparer.agreement import Answer
from modelexperiment.comparer.comparer import Comparer
from modelexperiment.comparer.predictions import Prediction
from modelexperiment.comparer.series import Series
from modelexperiment.comparer.service import Options, UnavailableError
from modelexperiment.comparer.versions import TooManyVersionsError, Version, Versions

_log = logging.getLogger(__name__)
_LEASE = 10_000
"""Milliseconds for which a stream is held without being renewed."""
_BEAT = 1.0
_BATCH = 500
_TIMEOUT = 3.0
_GROUP = "comparer"

# How many processes there are, this one included.
_ALIVE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

Entries = Sequence[tuple[str, Mapping[str, str]]]


class RedisSink:
    """Appends predictions to the streams, and works on its share of them."""

    def __init__(self, series: Series, options: Options) -> None:
        self._series, self._options = series, options
        self._redis = Redis.from_url(
            options.redis,
            decode_responses=True,
            # The other one gives its answers in other shapes.
            protocol=2,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
        )
        self._name = uuid.uuid4().hex
        self._prefix = f"modelexperiment:comparer:{options.partitions}"
        self._versions = Versions()
        self._held: dict[int, asyncio.Task[None]] = {}
        self._given_up: set[int] = set()
        self._comparers: dict[int, Comparer] = {}
        self._counted: dict[int, set[str]] = {i: set() for i in range(options.partitions)}
        self._wrong = "redis: not reached yet"

    def _key(self, kind: str, index: int | str = "") -> str:
        return f"{self._prefix}:{kind}:{index}"

    async def take(self, predictions: Sequence[Prediction]) -> None:
        """Append all in one transaction."""
        self._versions.admit(
            [Version(new.model, new.version) for new in predictions],
            asyncio.get_running_loop().time(),
        )
        pipeline = self._redis.pipeline(transaction=True)
        for new in predictions:
            pipeline.xadd(
                self._key("stream", partition(new, self._options.partitions)),
                {"p": _encode(new)},
                maxlen=self._options.stream_length,
                approximate=True,
            )
        try:
            await pipeline.execute()
        except RedisError as why:
            _log.warning("redis: %s", why)
            raise UnavailableError(f"redis: {type(why).__name__}") from None

    def ready(self) -> Health:
        """Whether Redis answers."""
        return Health(False, self._wrong) if self._wrong else Health(True, "ok")

    async def run(self) -> None:
        """Hold a fair share of the streams, and work on them."""
        try:
            while True:
                try:
                    await self._balance()
                    self._wrong = ""
                except RedisError as why:
                    self._tell(why)
                self._series.remembered.set(sum(map(len, self._comparers.values())))
                await asyncio.sleep(_BEAT)
        finally:
            await self._leave()

    def _tell(self, why: RedisError) -> None:
        wrong = f"redis: {why}"
        if wrong != self._wrong:
            _log.warning(wrong)
        self._wrong = wrong

    async def _balance(self) -> None:
        alive = await self._script(_ALIVE, self._key("members"), self._name, _LEASE)
        share = math.ceil(self._options.partitions / alive)
        for index in [index for index, task in self._held.items() if task.done()]:
            self._given_up.discard(index)
            self._finish(self._held.pop(index))
        for index in list(self._held)[share:]:
            # What waits in it stays unacknowledged, and is delivered to the one who takes it.
            self._give_up(index)
        free = [i for i in range(self._options.partitions) if i not in self._held]
        for index in random.sample(free, len(free)):
            if len(self._held) >= share:
                break
            lease = self._key("lease", index)
            if await self._redis.set(lease, self._name, nx=True, px=_LEASE):
                self._held[index] = asyncio.create_task(self._work(index))

    def _give_up(self, index: int) -> None:
        """Let a stream go, at once where the task that works on it waits."""
        self._given_up.add(index)
        task = self._held[index]
        # Once in a while the client of Redis swallows this: then the task ends after its read.
        if not task.cancelling():
            task.cancel()

    def _finish(self, task: asyncio.Task[None]) -> None:
        why = None if task.cancelled() else task.exception()
        if isinstance(why, RedisError):
            self._tell(why)
        elif why is not None:
            raise why

    async def _leave(self) -> None:
        for index in self._held:
            self._give_up(index)
        await asyncio.gather(*self._held.values(), return_exceptions=True)
        with suppress(RedisError):
            await self._redis.zrem(self._key("members"), self._name)
        await self._redis.aclose()

    async def _script(self, script: str, key: str, *arguments: str | int) -> int:
        return int(await self._redis.eval(script, 1, key, *map(str, arguments)) or 0)

    async def _work(self, index: int) -> None:
        """Pair what is in a stream, for as long as its lease is held."""
        most = max(1, self._options.most // self._options.partitions)
        comparer = Comparer(self._series, self._options.window, most)
        self._comparers[index] = comparer
        lease = self._key("lease", index)
        stream = _Stream(self._redis, self._key("stream", index), comparer, self._series)
        stream.counted = self._counted[index]
        lost_after = 1000 * self._options.window + _LEASE
        try:
            await stream.open()
            while index not in self._given_up:
                if not await self._script(_RENEW, lease, self._name, _LEASE):
                    break
                await stream.read(lost_after)
        finally:
            del self._comparers[index]
            with suppress(RedisError):
                await self._script(_RELEASE, lease, self._name)


class _Stream:
    """One stream, as read by the one process that holds it."""

    def __init__(self, redis: Redis, key: str, comparer: Comparer, series: Series) -> None:
        self._redis, self._key = redis, key
        self._comparer, self._series = comparer, series
        # First what was delivered and not acknowledged, by whichever process, then what is new.
        self._since = "0"
        self._looked = -math.inf
        # Counted, and not acknowledged for certain: Redis may have been gone just then.
        self.counted: set[str] = set()

    async def open(self) -> None:
        """Let there be the stream and its group; its only consumer is whoever holds the lease."""
        try:
            await self._redis.xgroup_create(self._key, _GROUP, id="0", mkstream=True)
        except ResponseError as why:
            if "BUSYGROUP" not in str(why):
                raise

    async def read(self, lost_after: float) -> None:
        """Work on the next batch, or wait a second for one."""
        # The client's types cover shapes that are not asked for.
        found: Any = await self._redis.xreadgroup(
            _GROUP, _GROUP, {self._key: self._since}, count=_BATCH, block=1000
        )
        entries: Entries = found[0][1] if found else []
        if self._since != ">":
            self._since = entries[-1][0] if entries else ">"
        if entries:
            await self._take(entries)
            return
        await self._rest(lost_after)

    async def _rest(self, lost_after: float) -> None:
        """Nothing is new: give up on what waits in vain, and look for what nobody works on."""
        seconds, micros = await self._redis.time()
        now = seconds + micros / 1e6
        await self._acknowledge(self._comparer.expire(now))
        # A process that was paused may have read on after its lease had passed to another.
        if now - self._looked > lost_after / 1000:
            self._looked = now
            claimed: Any = await self._redis.xautoclaim(
                self._key, _GROUP, _GROUP, min_idle_time=int(lost_after), count=_BATCH
            )
            # One that was cut off meanwhile has no name there.
            await self._take([entry for entry in claimed[1] if entry[0]])

    async def _take(self, entries: Entries) -> None:
        done: list[str] = []
        for entry, fields in entries:
            if entry in self.counted:
                continue
            if not fields:
                # Cut off by the stream's bound while it waited.
                done.append(entry)
                continue
            try:
                done += self._comparer.take([_decode(fields["p"])], _seconds(entry), [entry])
            except TooManyVersionsError as why:
                self._series.rejected(why.reason)
                done.append(entry)
        await self._acknowledge(done)

    async def _acknowledge(self, entries: Sequence[str]) -> None:
        self.counted.update(entries)
        if self.counted:
            await self._redis.xack(self._key, _GROUP, *self.counted)
            self.counted.clear()


def partition(prediction: Prediction, partitions: int) -> int:
    """The stream that all predictions for a request go to."""
    return zlib.crc32(f"{prediction.model}\0{prediction.request_id}".encode()) % partitions


def _seconds(entry: str) -> float:
    """When an entry was appended, by the clock of Redis."""
    return int(entry.partition("-")[0]) / 1000


def _encode(given: Prediction) -> str:
    return json.dumps([given.request_id, given.model, given.version, *given.answer])


def _decode(text: str) -> Prediction:
    request_id, model, version, kind, value = json.loads(text)
    return Prediction(request_id, model, version, Answer(kind, value))
