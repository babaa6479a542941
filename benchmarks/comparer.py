"""Predictions a second that a comparer takes, and its memory when it remembers all that it may.

    PYTHONPATH=. .venv/bin/python benchmarks/comparer.py

One process on this machine, in memory and through a Redis, posted to by one client in lines of
JSON. Of each request both versions predict, far enough apart that all of them wait at once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import tempfile
import time
import uuid
from pathlib import Path

from tests.comparer.processes import ComparerProcess, RedisProcess, comparing, eventually

MOST = 100_000


def bodies(requests: list[str], version: str, value: object, batch: int) -> list[bytes]:
    """Posts of `batch` predictions."""
    lines = [
        json.dumps({"requestId": r, "model": "fraud", "modelVersion": version, "prediction": value})
        for r in requests
    ]
    return ["\n".join(lines[i : i + batch]).encode() for i in range(0, len(lines), batch)]


def post(comparer: ComparerProcess, posts: list[bytes]) -> None:
    """Send all on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", comparer.port, timeout=30)
    for body in posts:
        connection.request("POST", "/v1/predictions", body)
        answer = connection.getresponse()
        if answer.status != 202:
            raise SystemExit(answer.read().decode())
        answer.read()
    connection.close()


def memory(comparer: ComparerProcess) -> float:
    """Resident memory, MiB."""
    status = Path(f"/proc/{comparer.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def compared(comparer: ComparerProcess) -> float:
    """Comparisons so far."""
    return comparer.samples("comparisons_total").get(("fraud", "v2", "v1"), 0)


def measure(
    title: str, ids: list[str], batch: int, values: tuple[object, object], *options: str
) -> None:
    """Post both versions' predictions, and print a line."""
    flags = (*options, "--window", "30m", "--max-pending", str(2 * MOST))
    with tempfile.TemporaryDirectory() as log, comparing(Path(log) / "log", *flags) as comparer:
        empty = memory(comparer)
        posts = [
            bodies(ids, version, value, batch)
            for version, value in zip(("v1", "v2"), values, strict=True)
        ]
        began = time.perf_counter()
        for one in posts:
            post(comparer, one)
        took = time.perf_counter() - began
        eventually(lambda: compared(comparer) == len(ids), "all are compared", 600)
        done = time.perf_counter() - began
        print(
            f"{title:44} {2 * len(ids) / took:>8,.0f} taken/s {2 * len(ids) / done:>8,.0f} "
            f"compared/s  memory {empty:.0f} -> {memory(comparer):.0f} MiB"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=MOST)
    number = parser.parse_args().requests
    print(f"{number:,} requests, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    usual = [str(uuid.uuid4()) for _ in range(number)]
    longest = [f"{index:0200d}" for index in range(number)]
    measure("in memory, posts of 100", usual, 100, (0.25, 0.5))
    measure("in memory, one a post", usual[: number // 10], 1, (0.25, 0.5))
    texts = ("\N{BUG}" * 64, "\N{ANT}" * 64)
    measure("in memory, longest ids, strings of 256 bytes", longest, 100, texts)
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisProcess(Path(directory) / "redis", "everysec")
        length = ("--redis", redis.url, "--stream-length", str(number))
        measure("through Redis, posts of 100", usual, 100, (0.25, 0.5), *length)
        redis.kill()


if __name__ == "__main__":
    main()
