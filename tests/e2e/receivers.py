"""Receivers of alerts for the tests: they answer as they are told, and remember what they got."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Delivery:
    """One POST, and how it was answered."""

    path: str
    key: str
    """Its Idempotency-Key."""
    body: Any
    answered: int


class Receiver:
    """A webhook on loopback."""

    def __init__(self, answer: int = 200, delay: float = 0.0, location: str = "") -> None:
        self.answer, self.delay, self.location = answer, delay, location
        self.deliveries: list[Delivery] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def taken(self) -> list[Any]:
        """The bodies that were answered with success."""
        return [d.body for d in self.deliveries if d.answered == 200]

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(text) if text else None
                key = self.headers.get("Idempotency-Key", "")
                answer = receiver.answer
                receiver.deliveries.append(Delivery(self.path, key, body, answer))
                time.sleep(receiver.delay)
                try:
                    self.send_response(answer)
                    if receiver.location:
                        self.send_header("Location", receiver.location)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    return

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                return

        return Handler
