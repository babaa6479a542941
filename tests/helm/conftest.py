"""Helm itself, and what the chart renders to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import catalog

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "modelexperiment"
Document = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[Document]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Run Helm on the chart; a cluster is never asked."""
    program = str(catalog.program("helm"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, timeout=60
        )

    return run


@pytest.fixture(scope="session")
def render(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """The objects of a release named `ab` in the namespace `ops`, with these values."""

    def rendered(**values: object) -> list[Document]:
        given = tmp_path_factory.mktemp("values") / "values.json"
        given.write_text(json.dumps(values))
        done = helm("template", "ab", str(CHART), "--namespace", "ops", "-f", str(given))
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return rendered
