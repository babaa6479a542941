"""The middleware tells the comparer, and no answer ever depends on whether it can."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelexperiment.comparer import middleware
from modelexperiment.comparer.middleware import Asgi, Sender, Wsgi
from tests.comparer.processes import eventually

BODY = json.dumps({"outputs": [{"score": 0.25}]}).encode()
PATH = "outputs.0.score"
JSON = "application/json"


class Receiver:
    """What a comparer would be posted."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.refuse: Callable[[dict[str, Any]], bool] = lambda one: False
        self.status = 202
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                lines = [json.loads(line) for line in body.splitlines()]
                refused = any(map(receiver.refuse, lines))
                if not refused and receiver.status == 202:
                    receiver.posted += lines
                self.send_response(400 if refused else receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def told(request_id: str, value: Any = 0.25) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "model": "fraud",
        "modelVersion": "v2",
        "prediction": value,
    }


def wsgi(status: str, content_type: str, parts: list[bytes], *headers: tuple[str, str]) -> Any:
    def app(_: Any, start_response: Any) -> Any:
        start_response(status, [("Content-Type", content_type), *headers])
        return iter(parts)

    return app


def ask_wsgi(app: Any, request_id: str | None = "r1") -> bytes:
    environ = {} if request_id is None else {"HTTP_X_REQUEST_ID": request_id}
    parts = app(environ, lambda *_: lambda part: None)
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    return body


def asgi(status: int, content_type: str, parts: list[bytes], *headers: tuple[str, str]) -> Any:
    async def app(_: Any, receive: Any, send: Any) -> None:
        told = [("Content-Type", content_type), *headers]
        encoded = [(name.encode(), value.encode()) for name, value in told]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def ask_asgi(app: Any, request_id: str | None = "r1") -> bytes:
    headers = [] if request_id is None else [(b"x-request-id", request_id.encode())]
    got = bytearray()

    async def send(message: Any) -> None:
        got.extend(message.get("body", b""))

    asyncio.run(app({"type": "http", "headers": headers}, None, send))
    return bytes(got)


def ask(kind: str, sender: Sender, answer: Any, request_id: str | None = "r1") -> bytes:
    status, content_type, parts, *headers = answer
    if kind == "wsgi":
        inner = wsgi(f"{status} OK", content_type, parts, *headers)
        return ask_wsgi(Wsgi(inner, sender, "fraud", "v2", PATH), request_id)
    inner = asgi(status, content_type, parts, *headers)
    return ask_asgi(Asgi(inner, sender, "fraud", "v2", PATH), request_id)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_answers_with_a_prediction_are_told(receiver: Receiver, kind: str) -> None:
    sender = Sender(receiver.url)
    parts = [BODY[:5], b"", BODY[5:]]
    assert ask(kind, sender, (200, f"{JSON}; charset=utf-8", parts), "r1") == BODY
    # No request id, an error, no JSON, a compressed one, one that is too long.
    assert ask(kind, sender, (200, JSON, parts), None) == BODY
    assert ask(kind, sender, (500, JSON, parts)) == BODY
    assert ask(kind, sender, (200, "text/plain", parts)) == BODY
    assert ask(kind, sender, (200, JSON, parts, ("Content-Encoding", "gzip"))) == BODY
    long = b"x" * (sender.max_body + 1)
    assert ask(kind, sender, (200, JSON, [long])) == long
    assert ask(kind, sender, (201, JSON, parts), "r2") == BODY
    sender.close(timeout=10)
    assert receiver.posted == [told("r1"), told("r2")]
    assert sender.counts == {"sent": 2, "dropped": 0, "failed": 0, "unreadable": 0}


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_an_answer_without_a_prediction_is_handed_on(receiver: Receiver, kind: str) -> None:
    sender = Sender(receiver.url)
    for body in (b"{}", b"{", b'{"outputs": []}', b'{"outputs": [{"score": NaN}]}'):
        assert ask(kind, sender, (200, JSON, [body])) == body
    sender.close(timeout=10)
    assert sender.counts == {"sent": 0, "dropped": 0, "failed": 0, "unreadable": 4}


def test_a_function_finds_the_prediction(receiver: Receiver) -> None:
    sender = Sender(receiver.url)
    app = wsgi("200 OK", JSON, [BODY])

    def find(document: Any) -> float:
        return 4 * float(document["outputs"][0]["score"])

    assert ask_wsgi(Wsgi(app, sender, "fraud", "v2", find)) == BODY
    sender.close(timeout=10)
    assert receiver.posted == [told("r1", 1.0)]


def test_one_that_is_refused_takes_none_with_it(receiver: Receiver) -> None:
    receiver.refuse = lambda one: one["requestId"] == "r3"
    sender = Sender(receiver.url)
    for number in range(6):
        ask("wsgi", sender, (200, JSON, [BODY]), f"r{number}")
    sender.close(timeout=10)
    assert receiver.posted == [told(f"r{number}") for number in (0, 1, 2, 4, 5)]
    assert (sender.counts["sent"], sender.counts["failed"]) == (5, 1)


def test_a_comparer_that_fails_loses_predictions_and_nothing_else(receiver: Receiver) -> None:
    receiver.status = 503
    sender = Sender(receiver.url)
    assert ask("wsgi", sender, (200, JSON, [BODY])) == BODY
    eventually(lambda: sender.counts["failed"] == 1, "the post fails")
    receiver.status = 202
    assert ask("wsgi", sender, (200, JSON, [BODY]), "r2") == BODY
    sender.close(timeout=10)
    assert receiver.posted == [told("r2")]


def test_nobody_waits_for_a_comparer_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = Sender(f"http://127.0.0.1:{silent.getsockname()[1]}", waiting=10, timeout=5)
        begun = time.monotonic()
        for number in range(200):
            assert ask("wsgi", sender, (200, JSON, [BODY]), f"r{number}") == BODY
        # One post alone would take its five seconds.
        assert time.monotonic() - begun < 4
        # What fits waits, or is on its way; all else is dropped, and counted.
        assert 60 <= sender.counts["dropped"] <= 190


def test_an_applications_own_error_and_close_are_its_own(receiver: Receiver) -> None:
    sender = Sender(receiver.url)
    closed = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield BODY
            raise RuntimeError("the model broke")

        def close(self) -> None:
            closed.append(True)

    def app(_: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", JSON)])
        return Parts()

    parts = Wsgi(app, sender, "fraud", "v2", PATH)({"HTTP_X_REQUEST_ID": "r"}, lambda *_: None)
    with pytest.raises(RuntimeError, match="the model broke"):
        list(parts)
    parts.close()
    sender.close(timeout=10)
    # A broken answer is no prediction.
    assert (closed, receiver.posted) == ([True], [])


def test_parts_written_the_old_way_are_seen_as_well(receiver: Receiver) -> None:
    sender = Sender(receiver.url)

    def app(_: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", JSON)])(BODY)
        return []

    assert ask_wsgi(Wsgi(app, sender, "fraud", "v2", PATH)) == b""
    sender.close(timeout=10)
    assert receiver.posted == [told("r1")]


def test_websockets_and_the_lifespan_pass_through(receiver: Receiver) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], receive, send))

    wrapped = Asgi(app, Sender(receiver.url), "fraud", "v2", PATH)
    asyncio.run(wrapped({"type": "lifespan"}, "receive", "send"))  # type: ignore[arg-type]
    assert seen == [("lifespan", "receive", "send")]


def test_a_forked_worker_sends_by_itself(receiver: Receiver) -> None:
    """In a process of its own, since a fork of the tests' threads would be no example."""
    script = f"""
import os
from modelexperiment.comparer.middleware import Sender
sender = Sender({receiver.url!r})
def put(name):
    sender.put(lambda: dict({told("x")!r}, requestId=name))
put("parent")
if child := os.fork():
    os.waitpid(child, 0)
else:
    put("child")
sender.close(timeout=10)
os._exit(sender.counts["sent"] != 1)
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    assert sorted(one["requestId"] for one in receiver.posted) == ["child", "parent"]


def test_the_file_alone_is_enough(tmp_path: Path) -> None:
    source = Path(middleware.__file__).read_text()
    (tmp_path / "predictions_middleware.py").write_text(source)
    check = "import predictions_middleware as m; m.Wsgi(None, m.Sender('http://x'), 'm', 'v', 'p')"
    # -S: without site-packages, so without anything that is installed.
    subprocess.run([sys.executable, "-S", "-E", "-c", check], check=True, cwd=tmp_path, timeout=60)


@pytest.mark.parametrize("url", ["comparer:8080", "ftp://comparer", "http://"])
def test_an_address_that_can_be_none(url: str) -> None:
    with pytest.raises(ValueError, match="url: must be http://HOST:PORT"):
        Sender(url)
