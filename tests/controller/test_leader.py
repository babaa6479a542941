"""Leadership where clocks are set: who leads no longer ends, and who waits takes over in time."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import leaderelection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelexperiment.controller import leader
from modelexperiment.controller.leader import LeadershipLostError, Standing, lead
from modelexperiment.settings import Settings

HOUR = 3_600.0
SETTINGS = Settings(namespace="ns", identity="me", lease_duration=timedelta(seconds=15))


class Node:
    """A Lease in memory, and the clock of the node that looks at it, by which time flies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1_000_000.0
        self.record: LeaderElectionRecord | None = None
        self.looks = 0
        self.leads = asyncio.Event()
        clock = SimpleNamespace(time=lambda: self.time)
        monkeypatch.setattr(leaderelection, "time", clock)
        monkeypatch.setattr(leader, "time", clock)
        monkeypatch.setattr(LeaseLock, "get", self._get)
        monkeypatch.setattr(LeaseLock, "update", self._update)

        monkeypatch.setattr(leader._PatientLock, "create", self._create)
        monkeypatch.setattr(leader._PatientLock, "release", self._release)
        flying = SimpleNamespace(sleep=self._fly, create_task=asyncio.create_task)
        monkeypatch.setattr(leaderelection, "asyncio", flying)

    async def _fly(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0.001)

    async def _create(self, *, election_record: LeaderElectionRecord, **_: str) -> bool:
        self.record = election_record
        return True

    async def _get(self, *_: Any) -> tuple[bool, Any]:
        self.looks += 1
        if self.record is None:
            none = ApiException(status=404, reason="Not Found")
            none.body = json.dumps({"code": 404})
            return False, none
        return True, self.record

    async def _update(self, _: str, __: str, record: LeaderElectionRecord) -> bool:
        self.record = record
        return True

    async def _release(self) -> None:
        return

    async def work(self) -> None:
        """Lead until cancelled."""
        self.leads.set()
        await asyncio.Event().wait()

    def run(self) -> asyncio.Task[None]:
        """Wait for the Lease, and lead."""
        return asyncio.create_task(lead(ApiClient(), SETTINGS, self.work, Standing()))


def other() -> LeaderElectionRecord:
    now = "2026-03-01 12:00:00"
    return LeaderElectionRecord("other", "15", now, now)


@pytest.mark.parametrize("step", [-HOUR, 0.0, HOUR])
def test_who_reads_anothers_name_in_the_lease_ends(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    async def usurp() -> int:
        node = Node(monkeypatch)
        leading = node.run()
        await asyncio.wait_for(node.leads.wait(), 5)
        node.record = other()
        node.time += step
        seen = node.looks
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(leading, 20)
        return node.looks - seen

    # The look that finds it, and perhaps one that was under way.
    assert asyncio.run(usurp()) <= 2


def test_who_waits_takes_over_in_time_after_its_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def take_over() -> int:
        node = Node(monkeypatch)
        node.record = other()
        waiting = node.run()
        while node.looks < 2:
            await asyncio.sleep(0)
        node.time -= HOUR
        seen = node.looks
        await asyncio.wait_for(node.leads.wait(), 30)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return node.looks - seen

    # Eight looks in the fifteen seconds of a Lease that nobody renews, and one either side.
    assert asyncio.run(take_over()) <= 10
