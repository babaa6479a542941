"""The builder on a small part, with a shell script in the place of Go."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localcluster import build, catalog
from localcluster.catalog import Binary, Part
from localcluster.errors import ClusterError

ETCD = Part("etcd", (Binary("etcd", "go.etcd.io/etcd/server/v3", 5),))
CRDS = Part("gateway-api", manifests=(("example.com/crds", "crd/*.yaml"),))
WRITES_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo built > "$2"'


def install_go(root: Path, script: str) -> None:
    """A toolchain that is complete, and whose go is a script."""
    go = root / "build" / "toolchain" / "bin" / "go"
    go.parent.mkdir(parents=True, exist_ok=True)
    go.write_text(f"#!/bin/sh\n{script}\n")
    go.chmod(0o755)
    (root / "build" / "toolchain" / "complete").touch()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELEXPERIMENT_CACHE", str(tmp_path))
    monkeypatch.setattr(catalog, "PARTS", (ETCD,))
    monkeypatch.setattr(build, "POLL_SECONDS", 0.01)
    return tmp_path


def test_what_is_built_stays_and_everything_else_goes(root: Path) -> None:
    install_go(root, WRITES_OUTPUT)
    stream = io.StringIO()
    build.build(stream)
    assert catalog.program("etcd").read_text() == "built\n"
    assert [path.name for path in (root / "parts").iterdir()] == [catalog.part_directory(ETCD).name]
    assert not (root / "build").exists()
    assert "[2/2] etcd" in stream.getvalue()
    assert "1 parts ready" in stream.getvalue()


def test_a_second_build_has_nothing_to_do(root: Path) -> None:
    install_go(root, WRITES_OUTPUT)
    build.build(io.StringIO())
    install_go(root, "exit 1")
    stream = io.StringIO()
    build.build(stream)
    assert "etcd" not in stream.getvalue()


def test_a_failure_shows_the_end_of_the_output_and_where_the_rest_is(root: Path) -> None:
    install_go(root, "seq 100; echo no such module >&2; exit 1")
    with pytest.raises(ClusterError) as failure:
        build.build(io.StringIO())
    message = str(failure.value)
    assert message.startswith("etcd failed:")
    assert "no such module" in message
    assert "\n1\n" not in message
    log = Path(message.rpartition("the whole output: ")[2])
    assert log.read_text().startswith("1\n2\n")
    assert catalog.missing_parts() == [ETCD]


def test_a_build_goes_on_where_it_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helm = Part("helm", (Binary("helm", "helm.sh/helm/v4/cmd/helm", 5),))
    monkeypatch.setattr(catalog, "PARTS", (ETCD, helm))
    install_go(root, f'case "$*" in *helm*) exit 1;; esac; {WRITES_OUTPUT}')
    with pytest.raises(ClusterError, match="helm failed"):
        build.build(io.StringIO())
    assert catalog.missing_parts() == [helm]
    install_go(root, f'case "$*" in *etcd*) exit 1;; esac; {WRITES_OUTPUT}')
    build.build(io.StringIO())
    assert catalog.missing_parts() == []


def test_manifests_are_copied_out_of_the_module(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PARTS", (CRDS,))
    module = root / "module"
    (module / "crd").mkdir(parents=True)
    (module / "crd" / "routes.yaml").write_text("kind: CustomResourceDefinition\n")
    (module / "crd" / "notes.txt").touch()
    install_go(root, f'case "$1" in list) echo {module};; esac')
    build.build(io.StringIO())
    assert [file.name for file in catalog.crd_files()] == ["routes.yaml"]


def test_a_full_disk_is_told_before_anything_is_downloaded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "NEEDED_BYTES", 10**18)
    with pytest.raises(ClusterError, match=r"has only .* GB free"):
        build.build(io.StringIO())


def test_two_builds_wait_for_one_another(root: Path) -> None:
    install_go(root, f"sleep 1; {WRITES_OUTPUT}")
    script = (
        "import sys; from localcluster import build, catalog; from localcluster.catalog import *\n"
        "catalog.PARTS = (catalog.PARTS[0],); build.build(sys.stdout)"
    )
    both = []
    for _ in range(2):
        argv = [sys.executable, "-c", script]
        repository = Path(__file__).parents[2]
        both.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=repository))
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("] etcd" in output for output in outputs) == 1
    assert sum("another build is running" in output for output in outputs) == 1


def test_an_interrupt_ends_the_compiler_and_leaves_no_half_part(root: Path) -> None:
    install_go(root, f"echo $$ > {root}/pid; sleep 60")
    script = (
        "import sys; from localcluster import catalog, __main__\n"
        "catalog.PARTS = (catalog.PARTS[0],); sys.exit(__main__.main(['build']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    pid = root / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        time.sleep(0.02)
    process.terminate()
    errors = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert catalog.missing_parts() == [ETCD]


def test_go_takes_a_proxy_from_the_environment_and_writes_only_below_its_folder() -> None:
    work = Path("/work-folder")
    caller = {"GOPROXY": "https://proxy.example", "GOFLAGS": "-v", "HOME": "/home/somebody"}
    environment = build.go_environment(work, caller)
    assert environment["GOPROXY"] == "https://proxy.example"
    assert "-mod=readonly" in environment["GOFLAGS"]
    assert "-p=2" in environment["GOFLAGS"]
    for name in ("GOCACHE", "GOMODCACHE", "GOPATH", "GOTMPDIR"):
        assert environment[name].startswith("/work-folder/")


def test_every_step_has_a_typical_time() -> None:
    steps = build.typical_seconds(catalog.PARTS)
    binaries = sum(len(part.binaries) for part in catalog.PARTS)
    manifests = sum(bool(part.manifests) for part in catalog.PARTS)
    assert len(steps) == 1 + binaries + manifests
    assert all(seconds > 0 for seconds in steps)
