"""`modelexperiment report` of an experiment in a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

pytest.importorskip("matplotlib", reason="pip install modelexperiment[report]")


def report(lab: Lab, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelexperiment", "report", name, "-n", lab.namespace]
    access = {"KUBECONFIG": str(lab.cluster.kubeconfig)}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **access}, capture_output=True, text=True
    )


def test_an_experiment_in_the_cluster(lab: Lab, tmp_path: Path) -> None:
    with Traffic(lab, 100):
        lab.apply(lab.experiment(analysis={"interval": "1s", "minDuration": "10m"}))
        eventually(
            lambda: len(lab.status().get("history", {}).get("seconds", [])) >= 3, "a short course"
        )
    done = report(lab, tmp_path, "fraud-v2")

    assert (done.returncode, done.stdout, done.stderr) == (0, "fraud-v2.html\n", "")
    html = (tmp_path / "fraud-v2.html").read_text()
    assert f"{lab.namespace}/fraud-v2" in html
    assert "No verdict yet: keep testing" in html
    assert 'aria-label="Split over time;' in html

    none = report(lab, tmp_path, "nobody")
    assert none.returncode == 1
    said = f"{lab.namespace}/nobody: there is no such ModelExperiment"
    assert none.stderr == f"modelexperiment: {said}\n"
