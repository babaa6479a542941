"""The Dockerfile, as far as it can be held to its word without a container engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helm.conftest import ROOT

LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def copied() -> list[str]:
    """What the image takes from the checkout."""
    own = [line for line in instructions("COPY") if not line.startswith("--from")]
    return [source.rstrip("/") for line in own for source in line.split()[:-1]]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()

    assert copied() == ["pyproject.toml", "README.md", "LICENSE", "operator"]
    assert "*" in ignore
    for source in copied():
        assert (ROOT / source).exists()
        assert {f"!{source}", f"!{source}/"} & set(ignore)


def test_it_runs_the_operator_as_nobody_in_particular() -> None:
    assert instructions("USER") == ["65532:65532"]
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["modelexperiment"]
    assert json.loads(instructions("CMD")[0]) == ["run"]
    # The last stage has no compiler's leftovers: it takes the environment alone.
    last = LINES[max(i for i, line in enumerate(LINES) if line.startswith("FROM")) :]
    assert [line for line in last if line.startswith(("COPY", "RUN", "ADD"))] == [
        "COPY --from=build /opt/modelexperiment /opt/modelexperiment"
    ]


@pytest.mark.e2e
def test_what_is_copied_installs_and_runs(tmp_path: Path) -> None:
    """Into a fresh environment, with the dependencies that pyproject.toml declares."""
    (install,) = (line for line in instructions("RUN") if "pip install" in line)
    steps = re.split(r"\s+&&\s+", install.replace("/opt/modelexperiment", str(tmp_path / "env")))
    context = tmp_path / "src"
    context.mkdir()
    for source in copied():
        path = ROOT / source
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(path, context / source, ignore=ignored)
        else:
            shutil.copy(path, context / source)
    for step in steps:
        # On a build machine the packages downloaded once are kept; in an image they would weigh.
        argv = step.replace("--no-cache-dir ", "").split()
        argv[0] = sys.executable if argv[0] == "python" else argv[0]
        subprocess.run(argv, cwd=context, check=True, capture_output=True, timeout=600)

    said = subprocess.run(
        [str(tmp_path / "env" / "bin" / "modelexperiment"), "--help"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "run the operator" in said.stdout
