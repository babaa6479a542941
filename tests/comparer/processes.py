"""The comparer as a process of its own, and what it exposes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from prometheus_client.parser import text_string_to_metric_families

from localcluster.catalog import redis_server
from localcluster.ports import free_ports

_LABELS = ("model", "version", "against", "reason")
Samples = dict[tuple[str, ...], float]


def eventually(check: Callable[[], object], what: str, timeout: float = 30.0) -> Any:
    """Wait until `check` gives something true, and return that."""
    end = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}; last: {found!r}"
        time.sleep(0.05)
    return found


class RedisProcess:
    """A real Redis that keeps what it has over a restart: all of it, or but for a second's."""

    def __init__(self, directory: Path, sync: str = "always") -> None:
        directory.mkdir()
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory, self._sync = directory, sync
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._directory, "save": ""}
        options |= {"appendonly": "yes", "appendfsync": self._sync}
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen([str(redis_server()), *flags], stdout=log, stderr=log)
        eventually(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


class ComparerProcess:
    """`modelexperiment compare`, listening once it is made."""

    def __init__(self, log: Path, *options: str) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "modelexperiment", "compare", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._options], stdout=log, stderr=log, env=dict(os.environ)
            )
        eventually(lambda: self.get("/readyz")[0] == 200, "the comparer is ready")

    def get(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """(status, text) of an answer; status 0 where there is none."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", body, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def post(self, *predictions: dict[str, Any]) -> tuple[int, str]:
        """Post some predictions as a list."""
        return self.get("/v1/predictions", json.dumps(predictions).encode())

    def samples(self, name: str) -> Samples:
        """The samples of a name, by model, version, against and reason, as far as it has them."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {
            tuple(sample.labels[name] for name in _LABELS if name in sample.labels): sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"model_shadow_{name}"
        }

    def stop(self) -> int:
        """SIGTERM, and wait; gives the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)


@contextmanager
def comparing(log: Path, *options: str) -> Iterator[ComparerProcess]:
    """A comparer that ends with the block."""
    running = ComparerProcess(log, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def prediction(
    request_id: str, version: str, value: Any = 0.5, model: str = "fraud"
) -> dict[str, Any]:
    """A prediction as it is posted."""
    return {
        "requestId": request_id,
        "model": model,
        "modelVersion": version,
        "prediction": value,
    }
