"""What polls read of the API server: shared for a few seconds, and watched objects as known."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from kubernetes.aio import client

from modelexperiment.adapters.known import Known
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.lately import RECENT, Recent, RecentApi
from modelexperiment.ports import UnavailableError

T = TypeVar("T")
ROUTES = ("networking.istio.io", "virtualservices")
ROUTE = ("networking.istio.io", "v1", "ns", "virtualservices", "fraud")
RULES = ("networking.istio.io", "v1", "ns", "destinationrules")


class Answer:
    """What the client gives for an answer."""

    def __init__(self, status: int, body: object) -> None:
        self.status, self.reason, self._body = status, "said so", body

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return json.dumps(self._body).encode()


class Server(client.ApiClient):
    """An API server that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(client.Configuration(host="http://api"))
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}

    async def call_api(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        path = url.removeprefix("http://api")
        self.asked[f"{method} {path.rpartition('/')[2]}"] += 1
        default = Answer(404, {"message": "not there"})
        return next((a for end, a in self.answers.items() if path.endswith(end)), default)


def run(use: Callable[[Server, RecentApi, Api, Known], Awaitable[T]]) -> T:
    async def go() -> T:
        server, known = Server(), Known([ROUTES])
        try:
            return await use(server, RecentApi(server, known), Api(server, known), known)
        finally:
            await server.close()

    return asyncio.run(go())


def route(version: int) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "fraud", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"http": []}}


def test_a_watched_object_is_read_once_and_then_as_the_watch_tells_it() -> None:
    async def use(server: Server, lately: RecentApi, api: Api, known: Known) -> None:
        server.answers["fraud"] = Answer(200, route(1))
        assert [await lately.get(*ROUTE) for _ in range(3)] == [route(1)] * 3
        known.told(*ROUTES, "MODIFIED", route(1))
        known.told(*ROUTES, "MODIFIED", route(2))
        assert await lately.get(*ROUTE) == route(2)
        assert server.asked == {"GET fraud": 1}

        assert await api.get(*ROUTE) == route(1)
        assert server.asked == {"GET fraud": 2}

    run(use)


def test_an_own_write_is_what_is_read_next() -> None:
    async def use(server: Server, lately: RecentApi, api: Api, known: Known) -> None:
        server.answers["fraud"] = Answer(200, route(1))
        await lately.get(*ROUTE)
        server.answers["fraud"] = Answer(200, route(2))
        await api.json_patch(*ROUTE, [{"op": "add", "path": "/x", "value": 1}])
        assert await lately.get(*ROUTE) == route(2)
        assert server.asked == {"GET fraud": 1, "PATCH fraud": 1}

    run(use)


def test_that_a_watched_object_is_not_there_is_asked_once() -> None:
    async def use(server: Server, lately: RecentApi, api: Api, known: Known) -> None:
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await lately.get(*ROUTE)
        assert server.asked == {"GET fraud": 1}
        server.answers["fraud"] = Answer(200, route(1))
        known.told(*ROUTES, "ADDED", route(1))
        assert await lately.get(*ROUTE) == route(1)

    run(use)


def test_what_stands_around_is_asked_for_by_all_together() -> None:
    async def use(server: Server, lately: RecentApi, api: Api, known: Known) -> None:
        server.answers["destinationrules"] = Answer(200, {"items": [{"spec": {}}]})
        server.answers["services/fraud"] = Answer(
            200, {"metadata": {}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}
        )
        every = await asyncio.gather(*(lately.list(*RULES) for _ in range(5)))
        assert every == [[{"spec": {}}]] * 5
        assert await lately.service("ns", "fraud") == ({}, [80])
        assert await lately.service_backing("ns", "fraud") == ("ClusterIP", {})
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await lately.service("ns", "other")
        assert server.asked == {"GET destinationrules": 1, "GET fraud": 1, "GET other": 1}

    run(use)


def test_a_failure_is_an_answer_only_to_those_who_wait_for_it() -> None:
    async def use(server: Server, lately: RecentApi, api: Api, known: Known) -> None:
        server.answers["destinationrules"] = Answer(503, {"message": "not now"})
        failed = await asyncio.gather(
            *(lately.list(*RULES) for _ in range(3)), return_exceptions=True
        )
        assert [str(one) for one in failed] == ["API server: 503 not now"] * 3
        assert isinstance(failed[0], UnavailableError)
        server.answers["destinationrules"] = Answer(200, {"items": []})
        assert await lately.list(*RULES) == []
        assert server.asked == {"GET destinationrules": 2}

    run(use)


def test_an_answer_is_asked_for_again_once_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def ask() -> int:
        asked.append("asked")
        return len(asked)

    async def use() -> list[int]:
        recent, loop = Recent(), asyncio.get_running_loop()
        begun = loop.time()
        found = []
        for later in (0.0, RECENT - 0.1, RECENT, RECENT + 0.1):
            monkeypatch.setattr(loop, "time", lambda at=begun + later: at)
            found.append(await recent.of("question", ask))
        return found

    assert asyncio.run(use()) == [1, 1, 2, 2]
