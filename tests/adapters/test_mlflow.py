"""MLflow that can't be reached is said in one line; the rest is shown on a real server."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from modelexperiment.adapters import mlflow
from modelexperiment.core.tracking import Record, record
from modelexperiment.ports import UnavailableError
from tests.core.builders import Life


def some_record() -> Record:
    life = Life(tracking={"mlflow": {}})
    life.start()
    found = record(life.experiment, "uid-1", life.status)
    assert found
    return found


def send(url: str) -> str:
    tracker = mlflow.MlflowTracker(timeout=2, workers=1)
    try:
        with pytest.raises(UnavailableError) as raised:
            asyncio.run(tracker.send(url, some_record()))
    finally:
        tracker.close()
    return str(raised.value)


def test_a_server_that_is_down_is_named_in_one_line() -> None:
    pytest.importorskip("mlflow", reason="pip install modelexperiment[mlflow]")
    said = send("http://127.0.0.1:1")
    assert said.startswith("API request to http://127.0.0.1:1/api/2.0/mlflow/experiments/get")
    assert said.endswith(": NewConnectionError")
    assert "\n" not in said


@contextmanager
def listening(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that notes what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_is_not_followed() -> None:
    pytest.importorskip("mlflow", reason="pip install modelexperiment[mlflow]")

    def secret(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()

    with listening(secret) as (elsewhere, asked):

        def redirect(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", f"{elsewhere}/metadata")
            request.end_headers()

        with listening(redirect) as (url, requests):
            said = send(url)
    assert requests and not asked
    assert "302" in said


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    mlflow._library.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    assert send("http://127.0.0.1:1") == "mlflow is missing: pip install 'modelexperiment[mlflow]'"
