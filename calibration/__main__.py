"""Runs the studies, two at a time, and writes docs/calibration.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from calibration import days, requests, safety, shadow, users
from calibration.report import Row, table

# The longest first, so that no core waits at the end.
STUDIES: dict[str, Callable[[], list[Row]]] = {
    "heavy users": users.heavy,
    "moderate users": users.moderate,
    "peeking": requests.peeking,
    "rare events": requests.rare,
    "guardrails": safety.guardrails,
    "healthy days": days.healthy_days,
    "means": requests.means,
    "ramp and drift": requests.drift,
    "known horizons": requests.horizons,
    "power": requests.power,
    "sample ratio": safety.sample_ratio,
    "shadow gate": shadow.gate,
}
ORDER = [
    "peeking",
    "rare events",
    "ramp and drift",
    "means",
    "known horizons",
    "power",
    "heavy users",
    "moderate users",
    "guardrails",
    "healthy days",
    "sample ratio",
    "shadow gate",
]
_PAGE = """# Calibration

What the statistics promises, and what simulations of known truth measured. Every experiment was
judged at every poll by the code that judges real ones, `modelexperiment.core.stats`. Seeds are
fixed. Made by

    make calibrate

in {seconds:.0f} seconds on {jobs} cores. "For comparison" marks methods that are not used, or
numbers without a promise.

{table}
"""


def main() -> int:
    """Run what was asked for; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of: {', '.join(ORDER)}")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    unknown = set(arguments.studies) - set(STUDIES)
    if unknown:
        parser.error(f"unknown study {sorted(unknown)[0]!r}")
    wanted = [name for name in STUDIES if name in (arguments.studies or STUDIES)]
    start, rows = time.monotonic(), dict[str, list[Row]]()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = {pool.submit(STUDIES[name]): name for name in wanted}
        for future in as_completed(waiting):
            rows[waiting[future]] = future.result()
            seconds = time.monotonic() - start
            print(
                f"{seconds:5.0f} s  {len(rows)}/{len(wanted)}  {waiting[future]}", file=sys.stderr
            )
    ordered = [row for name in ORDER if name in rows for row in rows[name]]
    text = table(ordered)
    print(text)
    if not arguments.studies:
        seconds = time.monotonic() - start
        page = _PAGE.format(seconds=seconds, jobs=arguments.jobs, table=text)
        Path(__file__).parents[1].joinpath("docs", "calibration.md").write_text(page)
    return 0 if all(row.kept for row in ordered) else 1


if __name__ == "__main__":
    sys.exit(main())
