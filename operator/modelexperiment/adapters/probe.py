"""Asks the proxy as given users, and reads which version answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp

from modelexperiment.adapters.segments import VERSION
from modelexperiment.core.spec import Assignment
from modelexperiment.ports import UnavailableError

# Guardrails wait for the poll that this is a part of.
TIMEOUT = 2.0


class HttpProber:
    """A Prober: one connection, one GET after the other."""

    async def ask(
        self, assignment: Assignment, users: Sequence[str], repeats: int
    ) -> dict[str, list[str | None]]:
        """The version that answered each user, `repeats` times; UnavailableError without answer."""
        probe = assignment.probe
        assert probe is not None
        try:
            async with asyncio.timeout(TIMEOUT), aiohttp.ClientSession() as session:
                found: dict[str, list[str | None]] = {user: [] for user in users}
                for user in list(users) * repeats:
                    headers = {"Host": probe.host} if probe.host else {}
                    if assignment.header:
                        headers[assignment.header] = user
                    else:
                        headers["Cookie"] = f"{assignment.cookie}={user}"
                    async with session.get(
                        probe.url, headers=headers, allow_redirects=False
                    ) as answer:
                        found[user].append(answer.headers.get(VERSION))
                return found
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"{probe.url}: {why}") from None
