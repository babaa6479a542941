"""What was counted, beside what was served."""

from __future__ import annotations

import time

from tests.e2e.lab import Lab, eventually


def totals(lab: Lab) -> dict[str, int]:
    """Samples by version, as the status says them."""
    entry = (lab.status().get("analysis") or [{}])[0]
    if not entry:
        return {}
    return {
        "v1": int(entry["champion"]["samples"]),
        entry["modelVersion"]: int(entry["challenger"]["samples"]),
    }


def counted_exactly(lab: Lab, since: dict[str, int]) -> None:
    """Wait until all that was served since then is counted; and see that it stays so."""
    served = {v: server.served - since[v] for v, server in lab.servers.items()}
    counted: list[dict[str, int]] = []

    def exact() -> bool:
        counted[:] = [totals(lab)]
        return counted == [served]

    try:
        eventually(exact, f"exactly {served}", 20)
    except AssertionError as late:
        raise AssertionError(f"{late}; counted {counted}") from None
    time.sleep(3)
    assert totals(lab) == served


def started(lab: Lab) -> dict[str, int]:
    """Start the experiment while nothing is served; gives what was served before."""
    lab.send(20)
    time.sleep(2.5)  # until it is scraped, so that it belongs to the time before
    before = {v: server.served for v, server in lab.servers.items()}
    lab.apply(lab.experiment())
    lab.wait_phase("Running")
    lab.gateway.wait_for_weights("predict", {"v1": 90, "v2": 10})
    return before
