"""One version of the model as an ordinary HTTP service with Prometheus counters.

A request for a prediction is answered with the probability, the call, and an id. The outcome of a
flight is known only after it has landed, so it arrives later, by that id: at that moment the
prediction counts as labelled, and as correct or not. Successes and trials of the accuracy are thus
always of the same flights.
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import json
import random
import signal
import sys
import threading
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from demo.models import Model, load

UNLABELLED_KEPT = 50_000
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
READY = "serving"
BUCKET = "x-experiment-bucket"


class Origin(NamedTuple):
    """Where a prediction was asked for: the user's hash bucket, and the flight's carrier."""

    bucket: str
    carrier: str


class Counters:
    """The metrics of one server, all with the label ``version``.

    Outcomes also carry the flight's carrier, and the hash bucket of the prediction's user, which
    the route stamps on the request; it is empty as long as there is no experiment.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.predictions = self._counter("flight_predictions", "Requests for a prediction", version)
        self.errors = self._counter("flight_errors", "Of those, answered with an error", version)
        self._version = version
        self._labelled = self._outcomes("flight_labelled", "Predictions whose flight ended")
        self._correct = self._outcomes("flight_correct", "Of those, the correct ones")
        self.count(Origin("", ""), 0, 0)
        self.seconds = Histogram(
            "flight_seconds",
            "Time to answer a request for a prediction",
            ["version"],
            buckets=BUCKETS,
            registry=self.registry,
        ).labels(version)

    def count(self, origin: Origin, labelled: int, correct: int) -> None:
        """Count outcomes of one bucket's users with one carrier."""
        # Trials first: whoever reads in between must never see more successes than trials.
        self._labelled.labels(self._version, *origin).inc(labelled)
        self._correct.labels(self._version, *origin).inc(correct)

    def _outcomes(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["version", *Origin._fields], registry=self.registry)

    def _counter(self, name: str, text: str, version: str) -> Counter:
        return Counter(name, text, ["version"], registry=self.registry).labels(version)


class Faults:
    """A share of the predictions fails on purpose, so that there is something to roll back."""

    def __init__(self) -> None:
        self.share = 0.0
        self._random = random.Random()

    def strikes(self) -> bool:
        """Whether the next prediction is to fail."""
        return self._random.random() < self.share


class PredictionServer(ThreadingHTTPServer):
    """Serves one model. Of unlabelled predictions it remembers the latest 50,000."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: Model) -> None:
        super().__init__(address, Handler)
        self.model = model
        self.counters = Counters(model.version)
        self.faults = Faults()
        self._ids = itertools.count(1)
        self._unlabelled: OrderedDict[int, tuple[bool, Origin]] = OrderedDict()
        self._lock = threading.Lock()

    def predict(self, request: Any, bucket: str) -> dict[str, Any]:
        """The answer to one request of a user of this hash bucket.

        Raises KeyError, TypeError or ValueError where it describes no flight.
        """
        probability, late = self.model.predict(request)
        origin = Origin(bucket, str(request["schedule"]["carrier"]))
        with self._lock:
            number = next(self._ids)
            self._unlabelled[number] = late, origin
            if len(self._unlabelled) > UNLABELLED_KEPT:
                self._unlabelled.popitem(last=False)
        return {
            "id": number,
            "version": self.model.version,
            "probability": round(probability, 4),
            "late": late,
        }

    def label(self, outcomes: Any) -> dict[str, int]:
        """Count predictions whose outcome is known now: a list of ``{"id", "late"}``.

        An id that is unknown, or labelled already, is not counted.
        """
        with self._lock:
            pairs = [(self._unlabelled.pop(each["id"], None), each["late"]) for each in outcomes]
        known = [(*called, late) for called, late in pairs if called is not None]
        labelled = Tally(origin for _, origin, _ in known)
        correct = Tally(origin for called, origin, late in known if called == late)
        for origin, count in labelled.items():
            self.counters.count(origin, count, correct[origin])
        return {"labelled": len(known), "unknown": len(pairs) - len(known)}


class Handler(BaseHTTPRequestHandler):
    """Routes one connection's requests; keeps the connection open."""

    server: PredictionServer
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one write, at once: otherwise Nagle's algorithm and delayed
    # acknowledgements cost 40 ms per answer.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """/predict, /labels and, from this machine only, /faults."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/predict":
            self._predict(body)
        elif self.path == "/labels":
            self._answer_json(lambda: self.server.label(json.loads(body)))
        elif self.path == "/faults" and ipaddress.ip_address(self.client_address[0]).is_loopback:
            self._answer_json(lambda: self._set_faults(json.loads(body)))
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "no such path"})

    def do_GET(self) -> None:
        """/metrics and /healthz."""
        if self.path == "/metrics":
            text = generate_latest(self.server.counters.registry)
            self._send_bytes(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", text)
        elif self.path == "/healthz":
            self._send(HTTPStatus.OK, {"version": self.server.model.version})
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "no such path"})

    def _predict(self, body: bytes) -> None:
        started = time.perf_counter()
        counters = self.server.counters
        counters.predictions.inc()
        if self.server.faults.strikes():
            counters.errors.inc()
            error = {"error": "failing on purpose", "version": self.server.model.version}
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, error)
        elif not self._answer_json(
            lambda: self.server.predict(json.loads(body), self.headers.get(BUCKET, ""))
        ):
            counters.errors.inc()
        counters.seconds.observe(time.perf_counter() - started)

    def _set_faults(self, wanted: dict[str, float]) -> dict[str, float]:
        self.server.faults.share = float(wanted["share"])
        return {"share": self.server.faults.share}

    def _answer_json(self, answer: Callable[[], dict[str, Any]]) -> bool:
        """Send the answer, or 400 where the body was not what it should be; whether it was."""
        try:
            content = answer()
        except (KeyError, TypeError, ValueError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
            return False
        self._send(HTTPStatus.OK, content)
        return True

    def _send(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send_bytes(status, "application/json", json.dumps(content).encode())

    def _send_bytes(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing per request: the counters tell it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a saved model until SIGTERM or Ctrl-C; says on stdout where, once it is ready."""
    parser = argparse.ArgumentParser(prog="python -m demo.server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    options = parser.parse_args(argv)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with PredictionServer((options.address, options.port), load(options.model)) as server:
        host, port = server.server_address[:2]
        print(READY, f"{host!s}:{port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
