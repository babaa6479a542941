"""The replay against real servers: in order, at its rate, bounded, and counted right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from demo.data import Flight
from demo.server import PredictionServer
from demo.traffic import Connection, Progress, Replay


def test_every_flight_is_sent_and_labelled_once(
    servers: dict[str, PredictionServer], urls: dict[str, str], replayed: list[Flight]
) -> None:
    with Replay(urls["v1"], iter(replayed), rate=5000, labels=urls, limit=333) as replay:
        replay.join()
    progress = replay.progress()
    assert progress.requests == progress.answers["v1"] == 333
    assert not progress.errors
    assert progress.lost_labels == 0
    assert servers["v1"].counters.predictions._value.get() == 333
    assert servers["v2"].counters.predictions._value.get() == 0
    sent = replayed[:333]
    arrived = [f for f in sent if f.arrived <= sent[-1].departs]
    assert 0 < len(arrived) < 333
    assert progress.in_the_air == 333 - len(arrived)
    assert outcomes(servers["v1"]) == len(arrived)


def outcomes(server: PredictionServer) -> float:
    """How many outcomes a server has counted."""
    families = server.counters.registry.collect()
    labelled = next(family for family in families if family.name == "flight_labelled")
    return sum(s.value for s in labelled.samples if s.name.endswith("_total"))


def test_an_outcome_waits_for_the_arrival(
    servers: dict[str, PredictionServer], urls: dict[str, str], replayed: list[Flight]
) -> None:
    sent = replayed[:60]
    last = sent[-1].departs
    for arrived, known in ((last + 1, 0), (last, 60)):
        flights = iter([replace(flight, arrived=arrived) for flight in sent])
        with Replay(urls["v1"], flights, rate=5000, labels=urls) as replay:
            replay.join()
        assert outcomes(servers["v1"]) == known
        assert replay.progress().in_the_air == 60 - known


def test_it_keeps_the_rate(urls: dict[str, str], replayed: list[Flight]) -> None:
    with Replay(urls["v1"], iter(replayed), rate=100, labels=urls, limit=101) as replay:
        replay.join()
    assert replay.progress().seconds >= 1.0
    assert replay.progress().rate <= 101


def test_it_ends_in_time(urls: dict[str, str], replayed: list[Flight]) -> None:
    with Replay(urls["v1"], iter(replayed), rate=50, labels=urls, seconds=0.3) as replay:
        replay.join()
    assert 0 < replay.progress().requests <= 16


def test_it_ends_with_the_flights(urls: dict[str, str], replayed: list[Flight]) -> None:
    with Replay(urls["v1"], iter(replayed[:7]), rate=1000, labels=urls) as replay:
        replay.join()
    assert replay.progress().requests == 7


def test_stop_ends_it_at_once(urls: dict[str, str], replayed: list[Flight]) -> None:
    with Replay(urls["v1"], iter(replayed), rate=0.5, labels=urls):
        time.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 1


def test_errors_are_told_by_version(urls: dict[str, str], replayed: list[Flight]) -> None:
    connection = Connection(urls["v2"])
    connection.post("/faults", {"share": 1}, {})
    connection.close()
    before = time.monotonic()
    with Replay(urls["v2"], iter(replayed), rate=1000, labels=urls, limit=20) as replay:
        replay.join()
    progress = replay.progress()
    assert progress.errors == progress.answers == {"v2": 20}
    assert progress.first_error is not None
    assert before < progress.first_error <= progress.last_answer["v2"]


def test_nobody_listening_is_an_error_and_no_crash(replayed: list[Flight]) -> None:
    with Replay("http://127.0.0.1:9", iter(replayed), rate=1000, labels={}, limit=5) as replay:
        replay.join()
    assert replay.progress().errors == replay.progress().answers == {"no version": 5}


class Recorder(BaseHTTPRequestHandler):
    """Answers as a proxy without a healthy upstream does: text, not JSON."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    seen: list[tuple[str | None, bytes]]
    peers: set[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.headers["x-user-id"], body))
        self.peers.add(self.client_address[1])
        self.send_response(503)
        self.send_header("content-length", "19")
        self.end_headers()
        self.wfile.write(b"no healthy upstream")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[tuple[str, type[Recorder]]]:
    Recorder.seen, Recorder.peers = [], set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Recorder
        server.shutdown()
    thread.join()


def test_flights_go_in_order_over_few_connections(
    recorder: tuple[str, type[Recorder]], replayed: list[Flight]
) -> None:
    url, seen = recorder
    with Replay(url, iter(replayed), rate=500, labels={}, limit=40, connections=1) as replay:
        replay.join()
    assert [user for user, _ in seen.seen] == [flight.rotation for flight in replayed[:40]]
    assert len(seen.peers) == 1
    assert replay.progress().errors == {"no version": 40}
    # What has not landed yet is not told.
    assert all(b'"weather"' in body and b'"delay"' not in body for _, body in seen.seen)


def test_progress_of_nothing() -> None:
    assert Progress().rate == Progress().requests == 0


def test_unreachable_label_target_is_told(urls: dict[str, str], replayed: list[Flight]) -> None:
    nowhere = {"v1": "http://127.0.0.1:9"}
    first = [replace(flight, arrived=flight.departs) for flight in replayed[:60]]
    with Replay(urls["v1"], iter(first), rate=1000, labels=nowhere) as replay:
        replay.join()
    assert replay.progress().lost_labels == 60
