"""Model servers for the tests: they do as they are told, and know exactly what they served."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter as Counted
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

VERSION, BUCKET = "x-model-version", "x-experiment-bucket"
USER, MIRROR_TO = "x-user-id", "x-mirror-to"
DEVICES = ("ios", "android")
EDGES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)


class ModelServer:
    """One version: answers GET /predict, counts it, and says so on /metrics.

    A share of the predictions is correct, and a share is answered with 500. `restart` forgets the
    counters, as a new process would. The seconds that it claims to have taken are drawn around
    `seconds`; it takes `pause` of them, or all where it `waits`. `received` counts all requests,
    whatever becomes of them. A scrape takes `scrape_seconds`, over values from its beginning.
    Requests that the route has stamped with a hash bucket are counted by it as well. `users` has
    the requests by user and by where the proxy was told to copy them to. `compare` counts answers
    that were compared with another version's. `die` closes the port, and every connection.
    """

    def __init__(self, version: str, correct: float = 0.6, seed: int = 1) -> None:
        self.version = version
        self.correct = correct
        self.failing = 0.0
        self.seconds = 0.1
        self.waits = False
        self.dead = False
        self.pause = 0.0
        self._stopped = False
        self.received = 0
        self.scrape_seconds = 0.0
        self.served = 0
        self.stamped: Counted[tuple[str | None, str | None]] = Counted()
        self.users: Counted[tuple[str | None, str | None]] = Counted()
        self.scrapes = 0
        self.successes = 0
        self.first_failure: float | None = None
        self._random = random.Random(f"{version}/{seed}")
        self._lock = threading.Lock()
        self.restart()
        self.port = 0
        self._listen()

    def _listen(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def die(self) -> None:
        """Close the port; connections that are open answer no more."""
        self.dead = True
        self.stop()

    def revive(self) -> None:
        """Listen again, on the same port."""
        self.dead = self._stopped = False
        self._listen()

    @property
    def target(self) -> str:
        """Where Prometheus scrapes it."""
        return f"127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Begin to count from zero."""
        with self._lock:
            registry = CollectorRegistry()

            def counter(name: str) -> Counter:
                return Counter(name, name, ["version"], registry=registry).labels(self.version)

            def by_device(name: str) -> list[Counter]:
                family = Counter(name, name, ["version", "device"], registry=registry)
                return [family.labels(self.version, device) for device in DEVICES]

            self._labelled = by_device("fraud_labelled")
            self._correct = by_device("fraud_correct")
            self._amount = counter("fraud_amount")
            self._seconds = Histogram(
                "fraud_seconds", "s", ["version"], buckets=EDGES, registry=registry
            ).labels(self.version)
            self._by_bucket = [
                Counter(name, name, ["version", "bucket"], registry=registry)
                for name in ("fraud_user_labelled", "fraud_user_correct")
            ]
            self._requests = counter("fraud_requests")
            self._errors = counter("fraud_errors")
            # What a comparer would count; not there before anything was compared.
            self._compared = [
                Counter(name, name, ["model", "version", "against"], registry=registry)
                for name in ("model_shadow_comparisons", "model_shadow_disagreements")
            ]
            # What somebody might take for a counter: it falls at every other scrape.
            self._wobble = Gauge("fraud_wobble", "A gauge", ["version"], registry=registry)
            self._registry = registry

    def compare(self, against: str, number: int, differing: int) -> None:
        """Count as a comparer of this version's answers with another's would, in both directions.

        A comparer is a process of its own; for whoever reads the counters it makes no difference.
        """
        with self._lock:
            for one, other in ((self.version, against), (against, self.version)):
                for family, by in zip(self._compared, (number, differing), strict=True):
                    family.labels("fraud", one, other).inc(by)

    def stop(self) -> None:
        """Close the port, and every connection as soon as somebody uses it."""
        self._stopped = True
        self._server.shutdown()
        self._server.server_close()

    def _predict(self, stamped: str | None, bucket: str | None) -> int:
        seconds = self._random.expovariate(1 / self.seconds)
        if self.waits:
            time.sleep(seconds)
        with self._lock:
            self.received += 1
            self.stamped[stamped, bucket] += 1
        time.sleep(self.pause)
        with self._lock:
            self._requests.inc()
            if self._random.random() < self.failing:
                self._errors.inc()
                self.first_failure = self.first_failure or time.time()
                return 500
            self.served += 1
            device = self._random.randrange(len(DEVICES))
            self._labelled[device].inc()
            correct = self._random.random() < self.correct
            for family, counts in zip(self._by_bucket, (True, correct), strict=True):
                if bucket is not None and counts:
                    family.labels(self.version, bucket).inc()
            if correct:
                self.successes += 1
                self._correct[device].inc()
                self._amount.inc(self._random.randint(1, 9))
            self._seconds.observe(seconds)
            return 200

    def _metrics(self) -> bytes:
        with self._lock:
            self.scrapes += 1
            self._wobble.labels(self.version).set(100 - 50 * (self.scrapes % 2))
            return generate_latest(self._registry)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if model._stopped:
                    self.close_connection = True
                    return
                status, body = 200, b""
                if model.dead:
                    self.close_connection = True
                    return
                if self.path == "/metrics":
                    body = model._metrics()
                    time.sleep(model.scrape_seconds)
                else:
                    stamps = (self.headers[VERSION], self.headers[BUCKET])
                    with model._lock:
                        model.users[self.headers[USER], self.headers[MIRROR_TO]] += 1
                    status, body = model._predict(*stamps), model.version.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return

        return Handler
