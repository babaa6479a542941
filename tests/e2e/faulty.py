"""A proxy before Prometheus that fails in all the ways in which a Prometheus can."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FaultyPrometheus:
    """Passes everything on while `mode` is "well"; else answers as `mode` says."""

    MODES = ("down", "slow", "500", "429", "html", "warnings", "cut off")

    def __init__(self, url: str, prometheus: str) -> None:
        self.mode = "well"
        self._prometheus = prometheus
        self._server = ThreadingHTTPServer(("127.0.0.1", urlsplit(url).port or 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes | None) -> tuple[int, str, bytes, int] | None:
        """Status, content type, body, and the length that is claimed; None: hang up."""
        mode = self.mode
        if mode == "down":
            return None
        if mode == "slow":
            end = time.monotonic() + 30
            while self.mode == "slow" and time.monotonic() < end:
                time.sleep(0.1)
        if mode in ("500", "429"):
            text = b"the server is not well"
            return int(mode), "text/plain", text, len(text)
        if mode == "html":
            text = b"<html><body>Please log in</body></html>"
            return 200, "text/html", text, len(text)
        request = urllib.request.Request(f"{self._prometheus}{path}", data=body)
        try:
            with _OPENER.open(request, timeout=20) as found:
                status, text = found.status, found.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        length = len(text)
        if mode == "warnings":
            text = json.dumps({**json.loads(text), "warnings": ["a store is gone"]}).encode()
            length = len(text)
        if mode == "cut off":
            text = text[: length // 2]
        return status, "application/json", text, length

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass_on(None)

            def do_POST(self) -> None:
                self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass_on(self, body: bytes | None) -> None:
                found = proxy.answer(self.path, body)
                if found is None:
                    return
                status, kind, text, length = found
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(length))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    # Who asked has not waited.
                    return

            def log_message(self, *args: object) -> None:
                return

        return Handler
