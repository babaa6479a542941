"""One operator at a time, by a Lease.

Leadership alone fences nothing: a process that was paused may wake up and write as if it still led.
That does no harm, since every count moves in a write that fails if anybody else wrote before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from modelexperiment.settings import Settings

_log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """Somebody else holds the Lease now."""


class _PatientLock(LeaseLock):
    """Takes an API server that can't be reached as a failed try, not as the end."""

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """The record in the Lease, or why there is none."""
        try:
            return await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError) as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        """Whether the Lease could be created."""
        # Not the client's own: its call passes an argument that the same client's API refuses.
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record)
        )
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            _log.warning("the Lease %s could not be created: %s", name, error)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        """Whether the Lease could be renewed."""
        try:
            return bool(await super().update(name, namespace, updated_record))
        except (aiohttp.ClientError, TimeoutError):
            return False


async def lead(
    api_client: client.ApiClient, settings: Settings, work: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the Lease, then work; LeadershipLostError once it could not be renewed."""
    worked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start() -> None:
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
    lock = _PatientLock(settings.lease_name, settings.namespace, settings.identity, api_client)
    config = electionconfig.Config(
        lock,
        lease_duration=seconds,
        renew_deadline=seconds * 2 / 3,
        retry_period=seconds / 8,
        onstarted_leading=start,
        onstopped_leading=lost,
    )
    election = asyncio.create_task(leaderelection.LeaderElection(config).run())
    try:
        await asyncio.wait({election, worked}, return_when=asyncio.FIRST_COMPLETED)
        if worked.done():
            return worked.result()
        election.result()
        raise LeadershipLostError(f"the Lease {settings.lease_name} was lost")
    finally:
        election.cancel()
        await asyncio.gather(election, return_exceptions=True)
