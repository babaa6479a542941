"""What a browser, and what somebody else, gets of the dashboard's web server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from modelexperiment.commands.files import InputError
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.dashboard.app import build, host_of
from modelexperiment.dashboard.board import Board
from modelexperiment.dashboard.reports import PAUSE, Reports
from modelexperiment.ports import Object, UnavailableError
from tests.dashboard.objects import made, of
from tests.report import examples

Client = TestClient[Any, Any]
LIST, PAGE = "/", "/experiments/fraud/fraud-v2"
REPORT = f"{PAGE}/report"


class Seen:
    """The API server's one experiment, and how often it was drawn."""

    def __init__(self) -> None:
        self.object: Object | None = of(examples.undecided())
        self.failure: Exception | None = None
        self.drawn: list[str] = []
        self.now = 0.0
        self.board = Board()
        self.board.expect([None])
        assert self.object is not None
        self.board.put(self.object)
        self.board.listed(None, {("fraud", "fraud-v2")})

    async def get(self, namespace: str, name: str) -> Object | None:
        if self.failure:
            raise self.failure
        return self.object

    def render(self, experiment: Experiment, status: ExperimentStatus) -> str:
        self.drawn.append(str(status.phase))
        return f"<!DOCTYPE html><title>{experiment.name}</title>{status.phase}"


def on(
    scenario: Callable[[Client, Seen], Awaitable[None]], render: Any = None, hosts: Any = ()
) -> None:
    async def run() -> None:
        seen = Seen()
        reports = Reports(seen, render or seen.render, lambda: seen.now)
        server = TestServer(build(seen.board, reports, hosts))
        async with TestClient(server) as client:
            await scenario(client, seen)
        reports.close()

    asyncio.run(run())


@pytest.mark.parametrize("path", [LIST, PAGE, REPORT, "/static/script.js", "/nothing"])
def test_every_answer_says_what_a_page_may_do(path: str) -> None:
    async def scenario(client: Client, _: Seen) -> None:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path)
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; base-uri 'none'")
            assert ("'unsafe-inline'" in policy) == (path == REPORT)
            assert ("script-src" in policy) == (path != REPORT)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert "Set-Cookie" not in answer.headers
            assert answer.status == (404 if path == "/nothing" else 200)

    on(scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(method: str) -> None:
    async def scenario(client: Client, _: Seen) -> None:
        for path in (LIST, PAGE, "/nothing"):
            answer = await client.request(method, path)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")

    on(scenario)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8081", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8081", 200),
        ("experiments.example.com", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8081", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
def test_only_a_host_that_is_meant_is_answered(host: str, status: int) -> None:
    async def scenario(client: Client, _: Seen) -> None:
        for path in (LIST, "/static/style.css"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status == status
            assert ("fraud-v2" in await answer.text()) == (status == 200 and path == LIST)

    on(scenario, hosts=["Experiments.example.com"])


def test_the_host_of_a_header() -> None:
    assert [host_of(h) for h in ("A:1", "a", "[::1]:9", "[::1]", "")] == [
        "a",
        "a",
        "::1",
        "::1",
        "",
    ]


def test_what_has_not_changed_is_not_sent_again() -> None:
    async def scenario(client: Client, seen: Seen) -> None:
        for path in (LIST, PAGE, REPORT, "/static/script.js"):
            first = await client.get(path)
            known = {"If-None-Match": first.headers["ETag"]}
            again = await client.get(path, headers=known)
            assert (again.status, await again.read()) == (304, b"")
        known = {"If-None-Match": (await client.get(LIST)).headers["ETag"]}
        seen.board.put(of(examples.won(), resourceVersion="2"))
        assert (await client.get(LIST, headers=known)).status == 200

    on(scenario)


def test_who_takes_no_compressed_page_gets_a_plain_one() -> None:
    async def scenario(client: Client, _: Seen) -> None:
        small = await client.get(LIST, headers={"Accept-Encoding": "gzip"})
        plain = await client.get(LIST, headers={"Accept-Encoding": "identity"})
        assert small.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert await small.text() == await plain.text()

    on(scenario)


def test_a_report_is_drawn_for_news_and_not_more_often_than_may_be() -> None:
    async def scenario(client: Client, seen: Seen) -> None:
        answers = await asyncio.gather(*(client.get(REPORT) for _ in range(5)))
        assert {await a.text() for a in answers} == {
            "<!DOCTYPE html><title>fraud-v2</title>Running"
        }
        assert seen.drawn == ["Running"]

        seen.object = of(examples.won(), resourceVersion="2")
        seen.board.put(seen.object)
        await client.get(REPORT)
        assert seen.drawn == ["Running"]
        seen.now += PAUSE
        assert "Succeeded" in await (await client.get(REPORT)).text()
        assert seen.drawn == ["Running", "Succeeded"]
        seen.now += PAUSE
        await client.get(REPORT)
        assert seen.drawn == ["Running", "Succeeded"]

    on(scenario)


def test_without_the_libraries_the_status_stands_there_as_text() -> None:
    def render(*_: object) -> str:
        raise InputError("report: matplotlib is missing: pip install 'modelexperiment[report]'")

    async def scenario(client: Client, _: Seen) -> None:
        text = await (await client.get(REPORT)).text()
        assert "matplotlib is missing" in text
        assert "<pre" in text and "fraud/fraud-v2  Running" in text

    on(scenario, render)


def test_a_report_that_fails_is_no_blank_page(caplog: pytest.LogCaptureFixture) -> None:
    def render(*_: object) -> str:
        raise ZeroDivisionError("<b>why</b>")

    async def scenario(client: Client, seen: Seen) -> None:
        answer = await client.get(REPORT)
        assert answer.status == 200
        assert "report: &lt;b&gt;why&lt;/b&gt;" in await answer.text()

    on(scenario, render)
    assert "no report of fraud-v2" in caplog.text


def test_one_of_another_version_is_shown_as_text() -> None:
    async def scenario(client: Client, seen: Seen) -> None:
        seen.object = made(spec={"metrics": []}, resourceVersion="2", status={"phase": "Running"})
        seen.board.put(seen.object)
        text = await (await client.get(REPORT)).text()
        assert "report: spec." in text and "fraud/fraud-v2  Running" in text

    on(scenario)


def test_what_is_not_there_or_cannot_be_read_now() -> None:
    async def scenario(client: Client, seen: Seen) -> None:
        for path in ("/experiments/fraud/nobody", "/experiments/fraud/nobody/report"):
            answer = await client.get(path)
            assert answer.status == 404
            assert "There is no ModelExperiment fraud/nobody" in await answer.text()
        seen.failure = UnavailableError("API server: 503 <later>")
        answer = await client.get(REPORT)
        assert answer.status == 503
        assert "API server: 503 &lt;later&gt;" in await answer.text()
        seen.failure = seen.object = None
        assert (await client.get(REPORT)).status == 404

    on(scenario)


def test_names_in_an_address_are_text() -> None:
    async def scenario(client: Client, _: Seen) -> None:
        answer = await client.get("/experiments/a/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        text = await answer.text()
        assert answer.status == 404 and "<script>" not in text

    on(scenario)
