"""One operator at a time, by a Lease.

Leadership alone fences nothing: a process that was paused may wake up and write as if it still led.
That does no harm, since every count moves in a write that fails if anybody else wrote before. It
ends as soon as it reads another's name in the Lease, whatever its clock says.

Who ends in order gives the Lease back, so that the next one need not wait until it runs out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelexperiment.settings import Settings

_log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """Somebody else holds the Lease now."""


class Standing:
    """Where this process stands with the Lease, for the readiness probe."""

    def __init__(self) -> None:
        self.read_at: float | None = None
        """Loop time at which the Lease was last read, or found not to be there."""
        self.holder: str | None = None
        """Who held it then."""

    def read(self, holder: str | None) -> None:
        """Note that the Lease was read now."""
        self.read_at = asyncio.get_running_loop().time()
        self.holder = holder


class _PatientLock(LeaseLock):
    """Takes an API server that can't be reached as a failed try, not as the end.

    `patience` is how long one call may take, in seconds: the client's own limit is five minutes,
    in which a leader would not see that it leads no longer.
    """

    def __init__(
        self, settings: Settings, api_client: client.ApiClient, patience: float, standing: Standing
    ) -> None:
        super().__init__(settings.lease_name, settings.namespace, settings.identity, api_client)
        self._patience = patience
        self._standing = standing
        self.led = False
        """Whether this process has led."""
        self.taken = asyncio.Event()
        """Set once somebody else holds the Lease after that."""
        self.election: leaderelection.LeaderElection | None = None
        """Who asks, once it is there."""

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """The record in the Lease, or why there is none."""
        if self.election:
            # It reckons by the node's clock. After a step back its last look would lie in the
            # future, and a Lease that nobody renews would be respected until that time has come.
            seen = self.election.observed_time_milliseconds
            self.election.observed_time_milliseconds = min(seen, int(time.time() * 1000))
        try:
            async with asyncio.timeout(self._patience):
                found, record = await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            return False, ApiException(status=0, reason=why)
        if isinstance(record, LeaderElectionRecord):
            self._standing.read(record.holder_identity)
            if self.led and record.holder_identity not in (None, "", self.identity):
                self.taken.set()
        elif isinstance(record, ApiException) and record.status == 404:
            self._standing.read(None)
        return found, record

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        """Whether the Lease could be created."""
        # Not the client's own: its call passes an argument that the same client's API refuses.
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record)
        )
        try:
            async with asyncio.timeout(self._patience):
                await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            _log.warning("the Lease %s could not be created: %s", name, error)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        """Whether the Lease could be renewed."""
        try:
            async with asyncio.timeout(self._patience):
                return bool(await super().update(name, namespace, updated_record))
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def release(self) -> None:
        """Give the Lease back if it is ours; who waits for it takes it at the next look."""
        try:
            async with asyncio.timeout(self._patience):
                lease = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
                if lease.spec is None or lease.spec.holder_identity != self.identity:
                    return
                lease.spec.holder_identity = None
                # With its resourceVersion: nobody else's Lease is given away.
                await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            _log.warning("the Lease %s was not given back and runs out: %s", self.name, error)
            return
        _log.info("gave the Lease %s back", self.name)


async def lead(
    api_client: client.ApiClient,
    settings: Settings,
    work: Callable[[], Awaitable[None]],
    standing: Standing,
) -> None:
    """Wait for the Lease, then work; LeadershipLostError once it could not be renewed."""
    worked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    working: list[asyncio.Task[Any]] = []

    async def start() -> None:
        lock.led = True
        if task := asyncio.current_task():
            working.append(task)
        _log.info("leading as %s", settings.identity)
        try:
            await work()
        except Exception as error:
            if not worked.done():
                worked.set_exception(error)
        else:
            if not worked.done():
                worked.set_result(None)

    async def lost() -> None:
        _log.warning("the Lease %s was lost", settings.lease_name)

    seconds = round(settings.lease_duration.total_seconds())
    lock = _PatientLock(settings, api_client, patience=seconds / 3, standing=standing)
    config = electionconfig.Config(
        lock,
        lease_duration=seconds,
        renew_deadline=seconds * 2 / 3,
        # The client takes no less than a second.
        retry_period=max(1.0, seconds / 8),
        onstarted_leading=start,
        onstopped_leading=lost,
    )
    lock.election = leaderelection.LeaderElection(config)
    election = asyncio.create_task(lock.election.run())
    taken = asyncio.create_task(lock.taken.wait())
    try:
        first: set[asyncio.Future[Any]] = {election, worked, taken}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if worked.done():
            return worked.result()
        if election.done():
            election.result()
        raise LeadershipLostError(f"the Lease {settings.lease_name} was lost")
    finally:
        for task in (election, taken, *working):
            task.cancel()
        await asyncio.gather(election, taken, return_exceptions=True)
        if lock.led:
            await lock.release()
