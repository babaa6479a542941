"""What a Prometheus answers, well and badly, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from modelexperiment.adapters.prometheus import PrometheusSource
from modelexperiment.core.counting import Series
from modelexperiment.ports import QueryError, UnavailableError

TIMEOUT = 0.4
T = TypeVar("T")


@dataclass
class Answer:
    """What the server says to the next question."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def success(type_: str, result: Any, **more: Any) -> Answer:
    data = {"resultType": type_, "result": result}
    return Answer(json.dumps({"status": "success", "data": data, **more}))


def vector(*values: str, **labels: str) -> Answer:
    return success("vector", [{"metric": labels, "value": [1.0, value]} for value in values])


class Server:
    """A Prometheus that gives one answer and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._release = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                server.asked.append((url.path, dict(parse_qsl(f"{url.query}&{body}"))))
                answer = server.answer
                if server._release.wait(answer.delay):
                    return  # The test is over, and so is the one who asked.
                payload = answer.body.encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        return Handler

    def stop(self) -> None:
        self._release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def ask(
    question: Callable[[PrometheusSource], Awaitable[T]],
    steady: Callable[[], float] = time.monotonic,
) -> T:
    """Ask with a source of its own."""

    async def run() -> T:
        source = PrometheusSource(TIMEOUT, workers=2, steady=steady)
        try:
            return await question(source)
        finally:
            await source.close()

    return asyncio.run(run())


def number(server: Server, query: str = "up") -> float | str:
    return ask(lambda source: source.number(server.url, query, 1.5))


def test_a_number_is_read(server: Server) -> None:
    server.answer = vector("0.25")

    assert number(server) == 0.25


def test_a_scalar_is_a_number(server: Server) -> None:
    server.answer = success("scalar", [1.5, "3"])

    assert number(server) == 3


def test_the_query_is_asked_at_the_given_time(server: Server) -> None:
    server.answer = vector("1")
    ask(lambda source: source.number(server.url, 'up{job="a b"}', 1_772_366_400.1234))

    path, params = server.asked[0]
    assert path == "/api/v1/query"
    assert params == {"query": 'up{job="a b"}', "time": "1772366400.123", "timeout": "0.4s"}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_no_data(server: Server, value: str) -> None:
    server.answer = vector(value)

    assert number(server) == f"returns {value}"


def test_an_empty_answer_is_no_data(server: Server) -> None:
    server.answer = vector()

    assert number(server) == "returns nothing"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(vector("1", "2"), "gives 2 series instead of one number", id="series"),
        pytest.param(success("string", [1.5, "text"]), 'gives the string "text"', id="string"),
        pytest.param(
            success("matrix", [{"metric": {}, "values": [[1, "2"]]}]), "gives a range", id="range"
        ),
    ],
)
def test_a_query_that_gives_no_single_number_is_wrong(
    server: Server, answer: Answer, says: str
) -> None:
    server.answer = answer

    with pytest.raises(QueryError, match=says):
        number(server)


@pytest.mark.parametrize("status", [400, 422])
def test_a_query_that_prometheus_refuses_is_wrong_by_its_words(server: Server, status: int) -> None:
    server.answer = Answer('{"status": "error", "error": "1:3: parse error: unexpected"}', status)

    with pytest.raises(QueryError, match=r"^1:3: parse error: unexpected$"):
        number(server)


BROKEN = [
    pytest.param(Answer('{"status":"error","error":"boom"}', 500), "answered 500: boom", id="500"),
    pytest.param(Answer("slow down", 429), "answered 429: slow down", id="429"),
    pytest.param(Answer("", 503), "answered 503: nothing", id="503 without a word"),
    pytest.param(Answer("[]", 502), r"answered 502: \[\]", id="502 with other JSON"),
    pytest.param(
        Answer("<html>Log in</html>", 200), "that is not Prometheus' JSON", id="HTML with 200"
    ),
    pytest.param(Answer('{"status": "success"}'), "that is not Prometheus' JSON", id="no data"),
    pytest.param(Answer("null"), "that is not Prometheus' JSON", id="null"),
    pytest.param(success("vector", {}), "without a list of results", id="no list"),
    pytest.param(
        success("vector", [], warnings=["one replica is down"]),
        "gave a partial answer: one replica is down",
        id="warnings",
    ),
]


@pytest.mark.parametrize(("answer", "says"), BROKEN)
def test_what_is_not_a_whole_answer_is_an_outage_and_says_whose(
    server: Server, answer: Answer, says: str
) -> None:
    server.answer = answer

    with pytest.raises(UnavailableError, match=f"^Prometheus {server.url} .*{says}"):
        number(server)


def test_a_label_called_warnings_is_no_warning(server: Server) -> None:
    server.answer = vector("1", kind="warnings")

    assert number(server) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Server, status: int) -> None:
    elsewhere = Server()
    try:
        elsewhere.answer = vector("1")
        location = {"Location": f"{elsewhere.url}/api/v1/query"}
        server.answer = Answer("", status, location)

        with pytest.raises(UnavailableError, match=f"answered {status}"):
            number(server)
        assert elsewhere.asked == []
    finally:
        elsewhere.stop()


def test_no_answer_in_time_is_an_outage(server: Server) -> None:
    server.answer = Answer(delay=30)
    begin = time.monotonic()

    with pytest.raises(UnavailableError, match="did not answer in time"):
        number(server)
    assert time.monotonic() - begin < 5 * TIMEOUT


def test_nobody_there_is_an_outage(server: Server) -> None:
    server.stop()

    with pytest.raises(UnavailableError, match=r"can't be reached: .*refused") as caught:
        number(server)
    assert "object at 0x" not in str(caught.value)


def test_the_servers_own_time_is_asked_without_one(server: Server) -> None:
    server.answer = success("scalar", [1_772_366_400.5, "1772366400.5"])

    assert ask(lambda source: source.now(server.url)) == 1_772_366_400.5
    assert "time" not in server.asked[0][1]


def test_raw_samples_come_by_series_with_sorted_labels(server: Server) -> None:
    metric = {"version": "v1", "__name__": "hits_total"}
    server.answer = success(
        "matrix",
        [{"metric": metric, "values": [[1.5, "3"], [2.5, "NaN"]]}, {"metric": {}, "values": []}],
    )

    first, second = ask(lambda source: source.samples(server.url, "hits_total[1m]", 3))

    assert first.labels == (("__name__", "hits_total"), ("version", "v1"))
    assert first.samples[0] == (1.5, 3.0)
    assert math.isnan(first.samples[1][1])
    assert second == Series((), [])


def test_native_histograms_have_no_samples_to_count(server: Server) -> None:
    server.answer = success("matrix", [{"metric": {"a": "b"}, "histograms": [[1, {}]]}])

    assert ask(lambda source: source.samples(server.url, "h[1m]", 3)) == [Series((("a", "b"),), [])]


def test_last_values_come_by_labels(server: Server) -> None:
    server.answer = vector("7", version="v1")

    assert ask(lambda source: source.last_values(server.url, "hits_total", 3)) == {
        (("version", "v1"),): 7.0
    }


def test_one_slow_server_does_not_keep_another_from_answering(server: Server) -> None:
    other = Server()
    try:
        server.answer, other.answer = Answer(delay=30), vector("1")

        async def both(source: PrometheusSource) -> list[float | str | BaseException]:
            asks = (source.number(s.url, "up", 1) for s in (server, other))
            return await asyncio.gather(*asks, return_exceptions=True)

        slow, quick = ask(both)

        assert isinstance(slow, UnavailableError)
        assert quick == 1
    finally:
        other.stop()


def told(at: float) -> Answer:
    return success("scalar", [at, str(at)])


def test_all_who_ask_for_the_time_within_a_second_share_an_answer(server: Server) -> None:
    server.answer = told(100.0)
    passed = 0.0

    async def times(source: PrometheusSource) -> list[float]:
        nonlocal passed
        found = await asyncio.gather(*(source.now(server.url) for _ in range(3)))
        passed = 0.75
        found.append(await source.now(server.url))
        server.answer = told(90.0)
        passed = 1.0
        return [*found, await source.now(server.url)]

    assert ask(times, lambda: passed) == [100.0, 100.0, 100.0, 100.75, 90.0]
    assert len(server.asked) == 2


def test_all_who_wait_for_the_time_hear_that_it_can_not_be_had(server: Server) -> None:
    server.answer = Answer("", 503)

    async def times(source: PrometheusSource) -> list[float | BaseException]:
        asks = (source.now(server.url) for _ in range(3))
        return await asyncio.gather(*asks, return_exceptions=True)

    assert [str(one) for one in ask(times)] == [
        f"Prometheus {server.url} answered 503: nothing"
    ] * 3
    assert len(server.asked) == 1


def test_who_gives_up_on_the_time_leaves_it_to_the_others(server: Server) -> None:
    server.answer = told(100.0)

    async def times(source: PrometheusSource) -> float:
        first, second = (asyncio.create_task(source.now(server.url)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert ask(times, lambda: 0.0) == 100.0


def test_a_connection_that_the_server_has_closed_is_no_outage(server: Server) -> None:
    # The server speaks HTTP/1.0: it hangs up after each answer.
    server.answer = vector("1")

    async def twice(source: PrometheusSource) -> list[float | str]:
        return [await source.number(server.url, "up", 1) for _ in range(2)]

    assert ask(twice) == [1, 1]
