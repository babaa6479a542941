"""MLflow that can't be reached is said in one line; the rest is shown on a real server."""

from __future__ import annotations

import asyncio
import importlib

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


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    mlflow._library.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    assert send("http://127.0.0.1:1") == "mlflow is missing: pip install 'modelexperiment[mlflow]'"
