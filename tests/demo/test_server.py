"""A model server over a real socket: its answers, its counters, and how fast they come."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.data import Flight
from demo.features import FlightRequest
from demo.models import Model
from demo.server import PredictionServer
from demo.traffic import Connection

ROOT = Path(__file__).parents[2]


def counters(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
        text = response.read().decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    assert {sample.labels.get("version") for sample in samples} == {"v1"}
    found: Counter[str] = Counter()
    for sample in samples:
        if "le" not in sample.labels and not sample.name.endswith("_created"):
            found[sample.name] += sample.value  # type: ignore[assignment]
    return dict(found)


@pytest.fixture
def v1(urls: dict[str, str]) -> str:
    return urls["v1"]


@pytest.fixture
def post(v1: str) -> Any:
    connection = Connection(v1)
    yield lambda path, content: connection.post(path, content, {})
    connection.close()


def test_prediction_is_the_models_own(
    post: Any, request_body: FlightRequest, loaded: dict[str, Model]
) -> None:
    status, answer = post("/predict", request_body)
    probability, late = loaded["v1"].predict(request_body)
    assert status == 200
    assert answer["version"] == "v1"
    assert answer["probability"] == pytest.approx(probability, abs=1e-4)
    assert answer["late"] is late


def test_counters_start_at_zero(v1: str) -> None:
    assert counters(v1) == {
        "flight_predictions_total": 0,
        "flight_errors_total": 0,
        "flight_labelled_total": 0,
        "flight_correct_total": 0,
        "flight_seconds_count": 0,
        "flight_seconds_sum": 0,
    }


def test_counters_count_exactly(
    v1: str, post: Any, replayed: list[Flight], loaded: dict[str, Model]
) -> None:
    sample = replayed[:200]
    answers = [post("/predict", flight.request)[1] for flight in sample]
    outcomes = [
        {"id": answer["id"], "late": flight.late}
        for answer, flight in zip(answers[:150], sample[:150], strict=True)
    ]
    assert post("/labels", outcomes) == (200, {"labelled": 150, "unknown": 0})
    correct = sum(loaded["v1"].predict(f.request)[1] == f.late for f in sample[:150])
    seen = counters(v1)
    assert 0 < correct < 150
    assert seen["flight_predictions_total"] == seen["flight_seconds_count"] == 200
    assert seen["flight_labelled_total"] == 150
    assert seen["flight_correct_total"] == correct
    assert seen["flight_errors_total"] == 0


def test_outcomes_are_counted_by_the_stamped_bucket_and_the_carrier(
    v1: str, request_body: FlightRequest
) -> None:
    connection = Connection(v1)
    ids = [
        connection.post("/predict", request_body, {"x-experiment-bucket": bucket})[1]["id"]
        for bucket in ("7", "7", "63")
    ]
    connection.post("/labels", [{"id": number, "late": True} for number in ids], {})
    connection.close()
    with urllib.request.urlopen(f"{v1}/metrics", timeout=5) as response:
        families = text_string_to_metric_families(response.read().decode())
    labelled = next(family for family in families if family.name == "flight_labelled")
    found = {
        (s.labels["bucket"], s.labels["carrier"]): s.value
        for s in labelled.samples
        if s.name.endswith("_total")
    }
    carrier = request_body["schedule"]["carrier"]
    assert found == {("", ""): 0, ("7", carrier): 2, ("63", carrier): 1}


def test_an_outcome_counts_once(v1: str, post: Any, request_body: FlightRequest) -> None:
    outcome = {"id": post("/predict", request_body)[1]["id"], "late": True}
    assert post("/labels", [outcome])[1] == {"labelled": 1, "unknown": 0}
    assert post("/labels", [outcome, {"id": 99, "late": True}])[1] == {"labelled": 0, "unknown": 2}
    assert counters(v1)["flight_labelled_total"] == 1


def test_faults_fail_a_share_and_are_counted(
    v1: str, post: Any, request_body: FlightRequest
) -> None:
    assert post("/faults", {"share": 1}) == (200, {"share": 1.0})
    status, answer = post("/predict", request_body)
    assert (status, answer["version"]) == (500, "v1")
    post("/faults", {"share": 0.3})
    statuses = [post("/predict", request_body)[0] for _ in range(300)]
    assert 50 < statuses.count(500) < 130  # beyond 5 standard deviations of 90
    post("/faults", {"share": 0})
    assert post("/predict", request_body)[0] == 200
    seen = counters(v1)
    assert seen["flight_errors_total"] == 1 + statuses.count(500)
    assert seen["flight_predictions_total"] == 302


@pytest.mark.parametrize("body", [{}, [], {"schedule": {}}, 7])
def test_a_body_that_is_no_flight_is_refused_and_counted(v1: str, post: Any, body: object) -> None:
    status, answer = post("/predict", body)
    assert status == 400
    assert "error" in answer
    assert counters(v1)["flight_errors_total"] == 1


def test_a_body_that_is_no_json_is_refused(v1: str) -> None:
    parts = urlsplit(v1)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    connection.request("POST", "/labels", b"{nonsense")
    assert connection.getresponse().status == 400
    connection.close()


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/"), ("GET", "/predict")])
def test_unknown_path(v1: str, method: str, path: str) -> None:
    parts = urlsplit(v1)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == 404
    assert json.loads(response.read()) == {"error": "no such path"}
    connection.close()


def test_old_predictions_are_forgotten(
    v1: str,
    post: Any,
    request_body: FlightRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("demo.server.UNLABELLED_KEPT", 2)
    ids = [post("/predict", request_body)[1]["id"] for _ in range(3)]
    outcomes = [{"id": number, "late": False} for number in ids]
    assert post("/labels", outcomes)[1] == {"labelled": 2, "unknown": 1}


def test_answers_do_not_wait_for_acknowledgements(post: Any, request_body: FlightRequest) -> None:
    post("/predict", request_body)
    started = time.perf_counter()
    for _ in range(20):
        post("/predict", request_body)
    # Nagle's algorithm with delayed acknowledgements costs 40 ms each: 0.8 s.
    assert time.perf_counter() - started < 0.5


def test_as_a_process_of_its_own(trained: dict[str, Path], request_body: FlightRequest) -> None:
    argv = [sys.executable, "-m", "demo.server", "--model", str(trained["v2"])]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready, address = process.stdout.readline().split()
        connection = Connection(f"http://{address}")
        assert ready == "serving"
        assert connection.post("/predict", request_body, {})[1]["version"] == "v2"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        connection.close()


def test_server_class_serves_the_given_model(servers: dict[str, PredictionServer]) -> None:
    assert {v: server.model.version for v, server in servers.items()} == {"v1": "v1", "v2": "v2"}
