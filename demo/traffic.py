"""The replay: one request per flight, in order, through the proxy, at a fixed rate.

A few connections that stay open share one list of flights. The replay's clock shows the departure
of the last flight that was sent. An outcome is known once that clock has passed the flight's real
arrival; it is then posted, with some others, to the server of the version that answered. The client
counts on its own what it was answered, so that the servers' counters can be checked against it.
"""

from __future__ import annotations

import heapq
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from demo.data import Flight

CONNECTIONS = 8
TIMEOUT = 10.0
LABELS_PER_POST = 50
UNKNOWN = "no version"


@dataclass(frozen=True)
class Progress:
    """What has been sent and answered so far, by version. Times are of ``time.monotonic``.

    ``in_the_air`` are flights that a version has answered for, and that have not arrived yet.
    """

    seconds: float = 0.0
    answers: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    first_error: float | None = None
    last_answer: Mapping[str, float] = field(default_factory=dict)
    lost_labels: int = 0
    in_the_air: int = 0

    @property
    def requests(self) -> int:
        """Requests that have been sent and are over, answered or not."""
        return sum(self.answers.values())

    @property
    def rate(self) -> float:
        """Requests per second since the start."""
        return self.requests / self.seconds if self.seconds else 0.0


class Replay:
    """Sends flights in the background, until they, the count or the time run out, or ``stop``.

    Flights that are in the air then never get their outcome.

    ``host`` is the Host header, by default the URL's own. ``labels`` tells for each version where
    outcomes are posted. An answer that came without a
    version, such as one of the proxy's own errors, is counted under "no version".
    """

    def __init__(
        self,
        url: str,
        flights: Iterator[Flight],
        *,
        rate: float,
        labels: Mapping[str, str],
        host: str | None = None,
        limit: int = 250_000,
        seconds: float = 900.0,
        connections: int = CONNECTIONS,
    ) -> None:
        self._url = url
        self._flights = flights
        self._headers = {"host": host} if host else {}
        self._rate = rate
        self._limit = limit
        self._seconds = seconds
        self._labels = {version: Labels(target) for version, target in labels.items()}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(connections)]
        self._started = time.monotonic()
        self._ended: float | None = None
        self._begun = 0
        self._answers: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._first_error: float | None = None
        self._last_answer: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing more, and post the outcomes that are known and still to be posted."""
        self._stopping.set()
        self.join()

    def join(self) -> None:
        """Wait for the end of the replay."""
        for thread in self._threads:
            thread.join()
        if self._ended is None:
            self._ended = time.monotonic()
        for labels in self._labels.values():
            labels.flush()

    def watch_errors(self) -> None:
        """Forget the first error: from now on ``first_error`` is that of the next one."""
        with self._lock:
            self._first_error = None

    def progress(self) -> Progress:
        """What has been sent and answered so far."""
        with self._lock:
            return Progress(
                (self._ended or time.monotonic()) - self._started,
                dict(self._answers),
                dict(self._errors),
                self._first_error,
                dict(self._last_answer),
                sum(labels.lost for labels in self._labels.values()),
                sum(labels.in_the_air for labels in self._labels.values()),
            )

    def _work(self) -> None:
        connection = Connection(self._url)
        while (flight := self._next()) is not None:
            status, answer = connection.post(
                "/predict", flight.request, {**self._headers, "x-user-id": flight.rotation}
            )
            self._count(status, str(answer.get("version", UNKNOWN)))
            labels = self._labels.get(str(answer.get("version")))
            if status == HTTPStatus.OK and labels is not None:
                labels.add(answer["id"], flight)
            for labels in self._labels.values():
                labels.know_until(flight.departs)
        connection.close()

    def _next(self) -> Flight | None:
        """The next flight when its time has come; None at the end."""
        with self._lock:
            after = self._begun / self._rate
            due, now = self._started + after, time.monotonic()
            over = self._begun >= self._limit or max(due, now) > self._started + self._seconds
            flight = None if over else next(self._flights, None)
            if flight is None:
                return None
            self._begun += 1
        return None if self._stopping.wait(max(0.0, due - now)) else flight

    def _count(self, status: int, version: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._answers[version] += 1
            self._last_answer[version] = now
            if status != HTTPStatus.OK:
                self._errors[version] += 1
                self._first_error = self._first_error or now


class Labels:
    """Outcomes of one version's predictions: first unknown, then on their way to its server."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._lock = threading.Lock()
        self._flying: list[tuple[float, int, bool]] = []
        self._waiting: list[dict[str, Any]] = []
        self.lost = 0

    @property
    def in_the_air(self) -> int:
        """Predictions whose outcome is not known yet."""
        return len(self._flying)

    def add(self, prediction: int, flight: Flight) -> None:
        """Keep a prediction until its flight has arrived."""
        with self._lock:
            heapq.heappush(self._flying, (flight.arrived, prediction, flight.late))

    def know_until(self, clock: float) -> None:
        """Post the outcomes of the flights that have arrived by then, when they are enough."""
        with self._lock:
            while self._flying and self._flying[0][0] <= clock:
                _, prediction, late = heapq.heappop(self._flying)
                self._waiting.append({"id": prediction, "late": late})
            if len(self._waiting) >= LABELS_PER_POST:
                self._post()

    def flush(self) -> None:
        """Post what is known, and close the connection."""
        with self._lock:
            if self._waiting:
                self._post()
            self._connection.close()

    def _post(self) -> None:
        status, _ = self._connection.post("/labels", self._waiting, {})
        if status != HTTPStatus.OK:
            # Not sent again: after an error nobody knows whether they were counted.
            self.lost += len(self._waiting)
        self._waiting = []


class Connection:
    """A connection that stays open, and is opened anew when it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT
        )

    def post(
        self, path: str, content: object, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0 and an empty answer where none came."""
        body = json.dumps(content).encode()
        try:
            self._connection.request(
                "POST", path, body, {"content-type": "application/json", **headers}
            )
            response = self._connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {}
        try:
            answer = json.loads(text)
        except ValueError:
            return status, {}
        return status, answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Close it."""
        self._connection.close()
