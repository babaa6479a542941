"""What a Prometheus answers, well and badly, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from modelexperiment.adapters.prometheus import PrometheusSource
from modelexperiment.core.counting import Series
from modelexperiment.ports import QueryError, UnavailableError

TIMEOUT = 0.4


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


@pytest.fixture
def source() -> Iterator[PrometheusSource]:
    source = PrometheusSource(TIMEOUT, workers=2)
    yield source
    source.close()


def number(source: PrometheusSource, server: Server, query: str = "up") -> float | str:
    return asyncio.run(source.number(server.url, query, 1.5))


def test_a_number_is_read(source: PrometheusSource, server: Server) -> None:
    server.answer = vector("0.25")

    assert number(source, server) == 0.25


def test_a_scalar_is_a_number(source: PrometheusSource, server: Server) -> None:
    server.answer = success("scalar", [1.5, "3"])

    assert number(source, server) == 3


def test_the_query_is_asked_at_the_given_time(source: PrometheusSource, server: Server) -> None:
    server.answer = vector("1")
    asyncio.run(source.number(server.url, 'up{job="a b"}', 1_772_366_400.1234))

    path, params = server.asked[0]
    assert path == "/api/v1/query"
    assert params == {"query": 'up{job="a b"}', "time": "1772366400.123", "timeout": "0.4s"}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_no_data(source: PrometheusSource, server: Server, value: str) -> None:
    server.answer = vector(value)

    assert number(source, server) == f"returns {value}"


def test_an_empty_answer_is_no_data(source: PrometheusSource, server: Server) -> None:
    server.answer = vector()

    assert number(source, server) == "returns nothing"


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
    source: PrometheusSource, server: Server, answer: Answer, says: str
) -> None:
    server.answer = answer

    with pytest.raises(QueryError, match=says):
        number(source, server)


@pytest.mark.parametrize("status", [400, 422])
def test_a_query_that_prometheus_refuses_is_wrong_by_its_words(
    source: PrometheusSource, server: Server, status: int
) -> None:
    server.answer = Answer('{"status": "error", "error": "1:3: parse error: unexpected"}', status)

    with pytest.raises(QueryError, match=r"^1:3: parse error: unexpected$"):
        number(source, server)


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
    source: PrometheusSource, server: Server, answer: Answer, says: str
) -> None:
    server.answer = answer

    with pytest.raises(UnavailableError, match=f"^Prometheus {server.url} .*{says}"):
        number(source, server)


def test_a_label_called_warnings_is_no_warning(source: PrometheusSource, server: Server) -> None:
    server.answer = vector("1", kind="warnings")

    assert number(source, server) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(source: PrometheusSource, server: Server, status: int) -> None:
    elsewhere = Server()
    try:
        elsewhere.answer = vector("1")
        location = {"Location": f"{elsewhere.url}/api/v1/query"}
        server.answer = Answer("", status, location)

        with pytest.raises(UnavailableError, match=f"answered {status}"):
            number(source, server)
        assert elsewhere.asked == []
    finally:
        elsewhere.stop()


def test_no_answer_in_time_is_an_outage(source: PrometheusSource, server: Server) -> None:
    server.answer = Answer(delay=30)
    begin = time.monotonic()

    with pytest.raises(UnavailableError, match="did not answer in time"):
        number(source, server)
    assert time.monotonic() - begin < 5 * TIMEOUT


def test_nobody_there_is_an_outage(source: PrometheusSource, server: Server) -> None:
    server.stop()

    with pytest.raises(UnavailableError, match=r"can't be reached: .*refused") as caught:
        number(source, server)
    assert "object at 0x" not in str(caught.value)


def test_the_servers_own_time_is_asked_without_one(
    source: PrometheusSource, server: Server
) -> None:
    server.answer = success("scalar", [1_772_366_400.5, "1772366400.5"])

    assert asyncio.run(source.now(server.url)) == 1_772_366_400.5
    assert "time" not in server.asked[0][1]


def test_raw_samples_come_by_series_with_sorted_labels(
    source: PrometheusSource, server: Server
) -> None:
    metric = {"version": "v1", "__name__": "hits_total"}
    server.answer = success(
        "matrix",
        [{"metric": metric, "values": [[1.5, "3"], [2.5, "NaN"]]}, {"metric": {}, "values": []}],
    )

    first, second = asyncio.run(source.samples(server.url, "hits_total[1m]", 3))

    assert first.labels == (("__name__", "hits_total"), ("version", "v1"))
    assert first.samples[0] == (1.5, 3.0)
    assert math.isnan(first.samples[1][1])
    assert second == Series((), [])


def test_native_histograms_have_no_samples_to_count(
    source: PrometheusSource, server: Server
) -> None:
    server.answer = success("matrix", [{"metric": {"a": "b"}, "histograms": [[1, {}]]}])

    assert asyncio.run(source.samples(server.url, "h[1m]", 3)) == [Series((("a", "b"),), [])]


def test_last_values_come_by_labels(source: PrometheusSource, server: Server) -> None:
    server.answer = vector("7", version="v1")

    assert asyncio.run(source.last_values(server.url, "hits_total", 3)) == {
        (("version", "v1"),): 7.0
    }


def test_one_slow_server_does_not_keep_another_from_answering(
    source: PrometheusSource, server: Server
) -> None:
    other = Server()
    try:
        server.answer, other.answer = Answer(delay=30), vector("1")

        async def both() -> list[float | str | BaseException]:
            asks = (source.number(s.url, "up", 1) for s in (server, other))
            return await asyncio.gather(*asks, return_exceptions=True)

        slow, quick = asyncio.run(both())

        assert isinstance(slow, UnavailableError)
        assert quick == 1
    finally:
        other.stop()
