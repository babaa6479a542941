"""Experiments in a real MLflow: nothing missing, nothing twice, and nothing disturbed by it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import chart
from tests.e2e.lab import Lab, OperatorProcess, Traffic, eventually

pytestmark = pytest.mark.e2e

mlflow = pytest.importorskip("mlflow", reason="pip install mlflow")
pytest.importorskip("mlflow.server.fastapi_app", reason="pip install mlflow, all of it")

EVEN = [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}]
MODEL = "fraud"


class Server:
    """`mlflow server`, which needs its time to come up."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(chart.MLFLOW_PORT)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **quiet}, stdout=log, stderr=log, cwd=folder
            )

    def healthy(self) -> bool:
        """Whether it answers."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{chart.MLFLOW_URL}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def searches(self) -> int:
        """How often runs were searched for."""
        return self._log.read_text().count("/mlflow/runs/search")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=30)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    running = Server(tmp_path)
    yield running
    running.stop()


def runs_of(client: Any, lab: Lab) -> dict[str, Any]:
    """The runs by version, which must be one for each."""
    found = client.get_experiment_by_name(f"{lab.namespace}/fraud-v2")
    runs = client.search_runs([found.experiment_id]) if found else []
    by_version = {run.data.params.get("modelVersion"): run for run in runs}
    assert len(by_version) == len(runs)
    return by_version


def test_a_tracked_experiment(
    lab: Lab, operator: OperatorProcess, server: Server, tmp_path: Path
) -> None:
    lab.servers["v2"].correct = 0.7
    rollout = {"onWin": "Gradual", "steps": [100], "stepDuration": "2s"}
    tracking = {"mlflow": {"registeredModel": MODEL}}
    with Traffic(lab, 300):
        # MLflow is not up yet, and the experiment runs to its end all the same.
        lab.apply(lab.experiment(traffic=EVEN, rollout=rollout, tracking=tracking))
        status = lab.wait_phase("Succeeded", timeout=90)
    operator.kill()
    eventually(server.healthy, "MLflow is up", 180)
    client = mlflow.MlflowClient(chart.MLFLOW_URL)
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, source="s3://models/fraud")
    operator.start()

    runs = eventually(
        lambda: (
            (found := runs_of(client, lab))
            and all(run.info.status == "FINISHED" for run in found.values())
            and len(found) == 2
            and found
        ),
        "both runs are complete",
        120,
    )
    assert {v: run.data.tags["test_group"] for v, run in runs.items()} == {"v1": "A", "v2": "B"}
    assert {run.info.run_name for run in runs.values()} == {"v1", "v2"}
    for run in runs.values():
        assert run.data.params["percent"] == "50"
        assert run.data.params["alpha"] == "0.05"
        tags = run.data.tags
        assert (tags["verdict"], tags["decision"]) == ("ChallengerBetter", "GradualRollout")
        assert tags["phase"] == "Succeeded"
        report = client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))
        assert "v2 won and serves everybody" in Path(report).read_text(encoding="utf-8")
    course = status["history"]
    for metric, name in (("effect", "v2/effect"), ("effect_lower", "v2/lower")):
        sent = client.get_metric_history(runs["v2"].info.run_id, metric)
        expected = [v for v in course["values"][name] if v is not None]
        assert [point.value for point in sent][: len(expected)] == expected
    assert client.get_model_version_by_alias(MODEL, "champion").version == "2"

    # Somebody has promoted another version since; and a new operator makes nothing anew.
    client.set_registered_model_alias(MODEL, "champion", "1")
    before = server.searches()
    operator.kill()
    operator.start()
    eventually(lambda: server.searches() >= before + 2, "the new operator has looked", 60)
    again = eventually(lambda: runs_of(client, lab), "the runs are there")
    assert {v: r.info.run_id for v, r in again.items()} == {
        v: r.info.run_id for v, r in runs.items()
    }
    assert again["v2"].data.metrics == runs["v2"].data.metrics
    assert client.get_model_version_by_alias(MODEL, "champion").version == "1"
    assert "what is missing is sent later" in operator.log


def test_an_address_that_is_not_allowed_is_never_called(lab: Lab) -> None:
    lab.apply(lab.experiment(tracking={"mlflow": {"uri": "http://169.254.169.254"}}))

    found = eventually(lambda: lab.condition("RoutesReady"), "the condition is there")
    assert (found["status"], found["reason"]) == ("False", "TrackingNotAllowed")
    assert "MLFLOW_ALLOWED_URLS" in found["message"]
    assert lab.destinations() == [("v1", 0)]
