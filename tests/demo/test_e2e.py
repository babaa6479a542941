"""The whole demo as its user runs it, on the real parts: verdict, rollback, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, catalog
from localcluster.build import build

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LIMIT = 300.0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of its own, so that a demo of this user may run meanwhile; the parts are shared."""
    if catalog.missing_parts():
        build(sys.stderr)
    (tmp_path / "parts").symlink_to(catalog.cache_root() / "parts")
    return tmp_path


@pytest.fixture
def breaks() -> str:
    return ""


@pytest.fixture
def options() -> list[str]:
    return []


@pytest.fixture
def given(cache: Path, options: list[str]) -> Iterator[Cluster]:
    """A cluster that is there before the demo, and that the demo is told to use."""
    with Cluster.start(cache / "given") as cluster:
        cluster.gateway("istio-ingressgateway", "istio-system", {"istio": "ingressgateway"})
        options += ["--kubeconfig", str(cluster.kubeconfig)]
        yield cluster


@pytest.fixture
def run(cache: Path, breaks: str, options: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A demo that has just been started; what it breaks comes from the environment as in make."""
    environment = os.environ | {"MODELEXPERIMENT_CACHE": str(cache), "BREAK": breaks}
    with subprocess.Popen(
        [sys.executable, "-m", "demo", "--report", str(cache.with_suffix(".html")), *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.kill()


def left(cache: Path) -> list[str]:
    kept = re.compile(r"demo\.lock|parts|models-\w+")
    return [path.name for path in cache.iterdir() if not kept.fullmatch(path.name)]


def processes_of(cache: Path) -> list[str]:
    """Command lines that name this cache, apart from the parts themselves."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(cache) in command:
            found.append(command)
    return found


def test_from_nothing_to_a_verdict(run: subprocess.Popen[str], cache: Path) -> None:
    started = time.monotonic()
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert time.monotonic() - started < LIMIT
    assert re.search(r"v1 50 / v2 50", output)
    assert re.search(r"verdict +ChallengerBetter", output), output
    assert re.search(r"decision +(Gradual|Full)Rollout", output), output
    assert re.search(r"next step +\S", output), output
    assert "failed:" not in output
    # Outcomes come as late as the flights have arrived; carriers are segments.
    assert re.search(r"; [1-9]\d* in the air", output), output
    assert re.search(r"\n +UA +[+-]\d+\.\d % \(", output), output
    report = cache.with_suffix(".html")
    assert output.endswith(f"report     {report}\n")
    assert "ChallengerBetter" in report.read_text() and "carrier" in report.read_text()
    assert left(cache) == []
    assert processes_of(cache) == []


@pytest.mark.parametrize("breaks", ["errors"])
def test_a_challenger_that_breaks_is_rolled_back(run: subprocess.Popen[str], cache: Path) -> None:
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    taken = re.search(r"([\d.]+) s from the first failed answer to v1 at 100 % in Envoy", output)
    assert taken, output
    assert 0 < float(taken[1]) < 15
    assert re.search(r"phase +RolledBack", output), output
    assert re.search(r"decision +Rollback \(risk: critical\)", output), output
    assert left(cache) == []


def test_ctrl_c_ends_everything(run: subprocess.Popen[str], cache: Path) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        if "Running" in line:
            break
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130, output
    assert "Traceback" not in output
    assert left(cache) == []
    assert processes_of(cache) == []


@pytest.mark.parametrize("breaks", ["errors"])
def test_on_a_cluster_that_is_there_already(given: Cluster, run: subprocess.Popen[str]) -> None:
    before = given.parts()
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert re.search(r"phase +RolledBack", output), output
    # It has started no part, ended none, and taken itself out again.
    assert given.parts() == before
    assert all(given.alive(part) for part in before)
    namespaces = given.kubectl("get", "namespaces", "-o", "name").split()
    assert not [name for name in namespaces if "flights" in name]
    assert "mlops" not in given.kubectl("get", "crds", "-o", "name")
