"""`scripts/generate.py --check`: names each derived file that is out of date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helm.conftest import ROOT

SOURCES = ("crds", "docs", "helm", "localcluster", "manifests", "operator", "scripts")
CRD = "crds/modelexperiments.yaml"
TEMPLATE = "helm/modelexperiment/templates/crd.yaml"
REFERENCE = "docs/reference.md"
INSTALL = "manifests/install.yaml"
COLUMN = '("Phase", "string", ".status.phase", 0),'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is generated, and of what it is generated from."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


def generate(
    checkout: Path, *arguments: str, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"MODELEXPERIMENT_CACHE": str(cache)} if cache else {})}
    return subprocess.run(
        [sys.executable, str(checkout / "scripts" / "generate.py"), *arguments],
        env=environment,
        cwd=checkout.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def named(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[0] for line in done.stdout.splitlines()]


def rename_a_column(checkout: Path) -> None:
    source = checkout / "operator" / "modelexperiment" / "core" / "crd.py"
    text = source.read_text()
    assert COLUMN in text
    source.write_text(text.replace(COLUMN, COLUMN.replace("Phase", "Stage")))


@pytest.mark.e2e
def test_the_checked_in_files_are_up_to_date(checkout: Path) -> None:
    done = generate(checkout, "--check")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.e2e
def test_a_change_of_the_models_reaches_all_that_is_derived(checkout: Path) -> None:
    rename_a_column(checkout)
    (checkout / REFERENCE).unlink()
    before = (checkout / CRD).read_text()

    check = generate(checkout, "--check")
    assert check.returncode == 1
    # The manifest comes from the chart, whose template a check leaves as it is.
    assert named(check) == [CRD, TEMPLATE, REFERENCE]
    assert (checkout / CRD).read_text() == before

    write = generate(checkout)
    assert write.returncode == 0
    assert named(write) == [CRD, TEMPLATE, REFERENCE, INSTALL]
    assert "name: Stage" in (checkout / INSTALL).read_text()
    assert generate(checkout, "--check").returncode == 0


@pytest.mark.e2e
def test_a_change_of_the_chart_alone_is_seen(checkout: Path) -> None:
    values = checkout / "helm" / "modelexperiment" / "values.yaml"
    values.write_text(values.read_text().replace("replicas: 2", "replicas: 3"))

    done = generate(checkout, "--check")

    assert done.returncode == 1
    assert named(done) == ["docs/chart.md", INSTALL]


def test_without_helm_the_rest_is_checked_and_that_is_said(checkout: Path, tmp_path: Path) -> None:
    empty = tmp_path / "no-cache"

    fine = generate(checkout, "--check", cache=empty)
    assert (fine.returncode, fine.stdout) == (0, "")
    assert "manifests/install.yaml was not looked at: helm is not built yet" in fine.stderr

    rename_a_column(checkout)
    stale = generate(checkout, "--check", cache=empty)
    assert stale.returncode == 1
    assert named(stale) == [CRD, TEMPLATE]

    # To write without being able to write all is no success.
    assert generate(checkout, cache=empty).returncode == 1
