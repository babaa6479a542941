"""The API server as it was lately: for polls, which mostly find nothing to do.

What is watched is taken from `Known`. What stands around a route and is not watched (destinations,
Services, gateways, entries) is asked for by all experiments of a namespace together: an answer is
good for RECENT seconds. Both are for reading alone; whoever writes asks the API server itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kubernetes.aio import client

from modelexperiment.adapters.known import Address, Known
from modelexperiment.adapters.kubernetes import Api, NotFoundError

RECENT = 5.0
T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    """A question, when it was asked, and its answer."""

    at: float
    answer: asyncio.Task[Any]

    def holds(self, now: float) -> bool:
        """Whether the answer, which may be awaited yet, is good for who asks now."""
        if now - self.at >= RECENT:
            return False
        done = self.answer.done()
        return not (done and (self.answer.cancelled() or self.answer.exception()))


class Recent:
    """Answers that several ask for within a few seconds, each asked for once.

    That there is no such object is an answer; another failure is one only to those who wait for it.
    """

    def __init__(self) -> None:
        self._asked: dict[Hashable, _Asked] = {}

    async def of(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question, by `ask` where there is none that is recent."""
        now = asyncio.get_running_loop().time()
        asked = self._asked.get(question)
        if asked is None or not asked.holds(now):
            self._forget(question, now)
            asked = self._asked[question] = _Asked(now, asyncio.create_task(_found(ask())))
        # One who gives up does not let the others go without.
        found: T | NotFoundError = await asyncio.shield(asked.answer)
        if isinstance(found, NotFoundError):
            raise NotFoundError(str(found))
        return found

    def _forget(self, question: Hashable, now: float) -> None:
        """Drop what is no longer recent; the questions stand in the order of their time."""
        self._asked.pop(question, None)
        while self._asked:
            oldest, asked = next(iter(self._asked.items()))
            if now - asked.at < RECENT:
                return
            del self._asked[oldest]


async def _found(answer: Awaitable[T]) -> T | NotFoundError:
    try:
        return await answer
    except NotFoundError as error:
        return error


class RecentApi(Api):
    """Reads as `Api` does, and is at most a few seconds late; see the module."""

    def __init__(self, api_client: client.ApiClient, known: Known) -> None:
        super().__init__(api_client, known)
        self._recent = Recent()

    async def get(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> dict[str, Any]:
        """One object; NotFoundError where there is none."""
        where, ask = (group, version, namespace, plural, name), super().get
        if not self._known.keeps(Address(group, plural, namespace, name)):
            return await self._recent.of(("object", *where), lambda: ask(*where))
        heard = self._known.recall(Address(group, plural, namespace, name))
        if heard is None:
            return await ask(*where)
        body = heard.body
        if body is None:
            raise NotFoundError(f"there is no {plural} {namespace}/{name}")
        return body

    async def list(
        self, group: str, version: str, namespace: str | None, plural: str
    ) -> list[dict[str, Any]]:
        """All objects of a namespace, or of all; NotFoundError where the kind is not installed."""
        what, ask = (group, version, namespace, plural), super().list
        return await self._recent.of(("list", *what), lambda: ask(*what))

    async def namespace_labels(self, name: str) -> dict[str, str]:
        """The labels of a namespace; NotFoundError where there is none."""
        ask = super().namespace_labels
        return await self._recent.of(("namespace", name), lambda: ask(name))

    async def endpoints(self, namespace: str, service: str) -> Sequence[bool]:
        """Whether each endpoint of a Service is ready."""
        ask = super().endpoints
        return await self._recent.of(
            ("endpoints", namespace, service), lambda: ask(namespace, service)
        )

    async def _service(self, namespace: str, name: str) -> dict[str, Any]:
        ask = super()._service
        return await self._recent.of(("service", namespace, name), lambda: ask(namespace, name))
