"""Tells the comparer what a model server predicts, and never stands in the way of an answer.

    app = Wsgi(app, Sender("http://comparer:8080"), "fraud", "v2", "score")     # Flask, Django, ...
    app = Asgi(app, Sender("http://comparer:8080"), "fraud", "v2", "score")     # FastAPI, ...

The prediction is found in the answer's JSON by a path of keys and indexes ("outputs.0.score"), or
by a function of the decoded body. Everything else happens in a thread of its own: reading the
JSON, and posting. What does not fit into its queue, or can't be posted in time, is dropped and
counted. Needs the standard library alone, so this file may also be copied.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)
_FIELDS = ("requestId", "model", "modelVersion", "prediction")
_BATCH = 100
_GATHER = 0.05
_PATH = "/v1/predictions"

Find = Callable[[Any], Any]
Make = Callable[[], Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Sender:
    """Posts predictions in the background.

    `url` is the comparer's, `waiting` how many predictions wait at most, `timeout` (seconds) how
    long a post may take, and `max_body` (bytes) how long an answer is still read. `counts` tells
    what became of predictions: sent, dropped (no room), failed (not taken by the comparer),
    unreadable (no prediction in the answer). ValueError where the URL can't be one.
    """

    def __init__(
        self, url: str, waiting: int = 1000, timeout: float = 1.0, max_body: int = 1 << 18
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: must be http://HOST:PORT or https://..., got {url}")
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port)
        self._path = parts.path.rstrip("/") + _PATH
        self._waiting, self._timeout = waiting, timeout
        self.max_body = max_body
        self._closed = threading.Event()
        self._begin()
        # A forked worker has no thread, and whatever its parent's locks were.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._queue: queue.Queue[Make] = queue.Queue(self._waiting)
        self._thread: threading.Thread | None = None
        self._told = -math.inf
        self.counts = {"sent": 0, "dropped": 0, "failed": 0, "unreadable": 0}

    def put(self, make: Make, *, wait: bool = False) -> None:
        """Let a prediction be made, by `make` in the background, and posted. Never raises."""
        try:
            if self._thread is None:
                self._start()
            self._queue.put(make, block=wait)
        except (queue.Full, RuntimeError):
            self._count("dropped")

    def put_line(self, line: bytes) -> bool:
        """Post a line of JSON, waiting for room; False where it has not a prediction's fields."""
        try:
            given = json.loads(line)
            found = {name: given[name] for name in _FIELDS}
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        self.put(lambda: found, wait=True)
        return True

    def close(self, timeout: float | None = None) -> None:
        """Post what waits, for at most so many seconds, and end."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="predictions", daemon=True)
                thread.start()
                self._thread = thread

    def _count(self, what: str, number: int = 1, why: object = "") -> None:
        with self._lock:
            self.counts[what] += number
        # Once a minute at most, for there may be one for each request.
        if what in ("failed", "unreadable") and time.monotonic() > self._told + 60:
            self._told = time.monotonic()
            _log.warning("predictions are not compared: %s: %s (%s)", what, why, self.counts)

    def _run(self) -> None:
        while batch := self._next():
            lines = [line for make in batch if (line := self._line(make))]
            try:
                self._post(lines)
            except _RefusedError:
                # One bad prediction must not take the others with it.
                for line in lines:
                    self._post_alone(line)
            except (OSError, http.client.HTTPException) as why:
                self._count("failed", len(lines), repr(why))

    def _post_alone(self, line: str) -> None:
        try:
            self._post([line])
        except (OSError, http.client.HTTPException, _RefusedError) as why:
            self._count("failed", 1, repr(why))

    def _next(self) -> list[Make]:
        """The next predictions, as soon as there is one; none at the end."""
        found: list[Make] = []
        while not found:
            try:
                found.append(self._queue.get(timeout=0.1))
            except queue.Empty:
                if self._closed.is_set():
                    return []
        # A post costs more than a prediction: let some more come.
        self._closed.wait(_GATHER)
        while len(found) < _BATCH:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return found

    def _line(self, make: Make) -> str:
        try:
            return json.dumps(make(), allow_nan=False)
        except Exception as why:
            # Whatever the application's own function does, the thread goes on.
            self._count("unreadable", 1, repr(why))
            return ""

    def _post(self, lines: list[str]) -> None:
        if not lines:
            return
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        # A new one for each post: none is found closed, and replicas get their share.
        connection = kind(*self._address, timeout=self._timeout)
        try:
            headers = {"Content-Type": "application/x-ndjson", "Connection": "close"}
            connection.request("POST", self._path, "\n".join(lines).encode(), headers)
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read(1000).decode(errors='replace').strip()}"
        finally:
            connection.close()
        if answer.status == 202:
            self._count("sent", len(lines))
        elif 400 <= answer.status < 500:
            raise _RefusedError(said)
        else:
            raise http.client.HTTPException(said)


class _RefusedError(Exception):
    """The comparer does not take a post, and says why."""


class _Tap:
    """What is seen of one answer on its way: status, headers, body."""

    def __init__(self, told: _Told, request_id: str) -> None:
        self._told, self._request_id = told, request_id
        self._body = bytearray()
        self._wanted = False

    def start(self, status: int, content_type: str) -> None:
        """Only successful answers in JSON hold a prediction."""
        self._wanted = 200 <= status < 300 and "json" in content_type.lower()

    def body(self, part: bytes) -> None:
        """Keep a copy, up to a bound."""
        if self._wanted:
            self._body += part
            self._wanted = len(self._body) <= self._told.sender.max_body

    def end(self) -> None:
        """The whole answer is there."""
        if self._wanted and self._body:
            self._told.sender.put(partial(self._told.make, self._request_id, bytes(self._body)))
        self._wanted = False


class _Told:
    """What is told of every answer, and how its prediction is found."""

    def __init__(self, sender: Sender, model: str, version: str, prediction: str | Find) -> None:
        self.sender = sender
        self._model, self._version = model, version
        self._find = (
            partial(_at, prediction.split(".")) if isinstance(prediction, str) else prediction
        )

    def make(self, request_id: str, body: bytes) -> dict[str, Any]:
        """What is posted."""
        found = self._find(json.loads(body))
        return dict(zip(_FIELDS, (request_id, self._model, self._version, found), strict=True))


def _at(path: list[str], document: Any) -> Any:
    """The value at a path of keys and indexes."""
    for key in path:
        document = document[int(key) if isinstance(document, list) else key]
    return document


class _Middleware:
    """Wraps an application. `prediction` is a path in the JSON of its answers, or a function."""

    def __init__(
        self,
        app: Callable[..., Any],
        sender: Sender,
        model: str,
        version: str,
        prediction: str | Find,
    ) -> None:
        self._app, self._told = app, _Told(sender, model, version, prediction)


class Wsgi(_Middleware):
    """A WSGI application that tells of its predictions."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer as the application does."""
        request_id = environ.get("HTTP_X_REQUEST_ID")
        if not request_id:
            return self._app(environ, start_response)
        tap = _Tap(self._told, request_id)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            write = start_response(status, headers, *error)
            tap.start(int(status[:3]), _content_type(headers))

            def tapped(part: bytes) -> Any:
                tap.body(part)
                return write(part)

            return tapped

        return _Parts(self._app(environ, start), tap)


class _Parts:
    """The parts of a WSGI answer, each handed on before the next is asked for."""

    def __init__(self, parts: Iterable[bytes], tap: _Tap) -> None:
        self._parts, self._tap = parts, tap

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._tap.body(part)
            yield part
        self._tap.end()

    def close(self) -> None:
        """Close the application's own iterable."""
        if hasattr(self._parts, "close"):
            self._parts.close()


class Asgi(_Middleware):
    """An ASGI application that tells of its predictions."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        request_id = b""
        if scope["type"] == "http":
            request_id = dict(scope["headers"]).get(b"x-request-id", b"")
        if not request_id:
            await self._app(scope, receive, send)
            return
        tap = _Tap(self._told, _text(request_id))

        async def tapped(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                headers = [
                    (k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]
                ]
                tap.start(message["status"], _content_type(headers))
            elif message["type"] == "http.response.body":
                tap.body(message.get("body", b""))
                if not message.get("more_body", False):
                    tap.end()

        await self._app(scope, receive, tapped)


def _text(header: bytes) -> str:
    return header.decode("latin-1")


def _content_type(headers: Iterable[Iterable[str]]) -> str:
    """Of an answer that can be read as it is; empty of a compressed one."""
    found = {name.lower(): value for name, value in headers}
    return "" if "content-encoding" in found else found.get("content-type", "")
