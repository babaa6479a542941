"""Users a minute that `modelexperiment assign` answers, and how much memory that takes.

    .venv/bin/python benchmarks/assign.py --users 3000000

Prints, on this machine: the bare hash and table in this process, and the whole command from
standard input to output, as text and as JSON, start of Python included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.assignment import user_slots

SPEC = {
    "traffic": [{"modelVersion": "v1", "percent": 90}, {"modelVersion": "v2", "percent": 10}],
    "route": {"istio": {"virtualService": "fraud", "host": "fraud"}},
    "assignment": {"header": "x-user-id"},
    "metrics": [
        {
            "name": "accuracy",
            "role": "Primary",
            "proportion": {"successes": "right_total", "trials": "all_total"},
        }
    ],
}
MANIFEST = {
    "apiVersion": "experiments.mlops.dev/v1alpha1",
    "kind": "ModelExperiment",
    "metadata": {"name": "fraud-v2", "namespace": "fraud"},
    "spec": SPEC,
}
BLOCK = 50_000
# Ids of several lengths, as counters, e-mail addresses and UUIDs are.
FORMS = ("%d", "customer-%d", "somebody.%d@mail.example", "00000000-0000-4000-8000-%012d")


def write_users(path: Path, number: int) -> None:
    """Ids, no two alike, one a line."""
    with path.open("w") as file:
        file.writelines(f"{FORMS[i % len(FORMS)] % i}\n" for i in range(number))


def in_process(ids: list[bytes]) -> None:
    """Hash all, and look their versions up."""
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 64)
    for start in range(0, len(ids), BLOCK):
        table.versions_of(user_slots(ids[start : start + BLOCK], "fraud/fraud-v2", table.total))


def command(manifest: Path, ids: Path, output: str) -> int:
    """Run the command; gives the peak of its resident memory in KiB."""
    argv = [sys.executable, "-m", "modelexperiment", "assign", "-f", str(manifest), "-o", output]
    with ids.open("rb") as source, Path(os.devnull).open("wb") as sink:
        process = subprocess.Popen(argv, stdin=source, stdout=sink)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}")
    return usage.ru_maxrss


def report(what: str, number: int, run: Callable[[], int | None]) -> None:
    """Time it and print a line."""
    began = time.perf_counter()
    peak = run()
    seconds = time.perf_counter() - began
    memory = "" if peak is None else f", {peak / 1024:.0f} MiB at most"
    print(f"{what:28} {number / seconds * 60:>14,.0f} users a minute ({seconds:.2f} s{memory})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=3_000_000)
    number = parser.parse_args().users
    print(f"{number:,} users, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        manifest, ids = Path(directory) / "exp.json", Path(directory) / "users"
        manifest.write_text(json.dumps(MANIFEST))
        write_users(ids, number)
        # First, while this process is small: Linux counts a parent's memory to its new child.
        for output in ("text", "json"):
            title = f"modelexperiment assign, {output}"
            report(title, number, partial(command, manifest, ids, output))
        report("hash and table", number, partial(in_process, ids.read_bytes().splitlines()))


if __name__ == "__main__":
    main()
