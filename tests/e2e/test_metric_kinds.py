"""Every kind of metric on real counters, several challengers' worth of questions, segments."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.lab import Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

EVEN = [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}]


def secondary(lab: Lab, name: str, **kind: Any) -> dict[str, Any]:
    return {"name": name, "versionLabel": "version", **kind}


def test_each_kind_is_counted_and_compared(lab: Lab) -> None:
    job = f'job="{lab.namespace}"'
    lab.servers["v2"].seconds = 0.3
    metrics = [
        *lab.experiment()["spec"]["metrics"],
        secondary(
            lab,
            "amount",
            mean={
                "sum": f"fraud_amount_total{{{job}}}",
                "count": f"fraud_requests_total{{{job}}}",
            },
        ),
        secondary(lab, "wins", rate={"events": f"fraud_correct_total{{{job}}}"}),
        secondary(
            lab,
            "latency",
            goal="Decrease",
            quantile={"histogram": f"fraud_seconds_bucket{{{job}}}", "quantile": 0.9},
        ),
    ]
    segments = [{"name": "device", "label": "device", "values": ["ios", "android"]}]
    analysis = {"interval": "1s", "minDuration": "10m"}

    with Traffic(lab, 300):
        lab.apply(
            lab.experiment(traffic=EVEN, metrics=metrics, segments=segments, analysis=analysis)
        )
        lab.wait_phase("Running")

        def entries() -> dict[str, dict[str, Any]]:
            return {e["metric"]: e for e in lab.status().get("analysis", [])}

        eventually(
            lambda: entries().get("latency", {}).get("significant"),
            "the slower challenger is noticed",
            60,
        )
    found = entries()
    assert list(found) == ["accuracy", "amount", "wins", "latency"]
    assert found["accuracy"]["role"] == "Primary"
    # The challenger takes three times as long: more of its answers lie above the edge.
    assert found["latency"]["absolute"]["lower"] > 0
    assert 0.4 < found["accuracy"]["champion"]["estimate"] < 0.8
    assert found["amount"]["champion"]["samples"] > 500
    (device,) = found["accuracy"]["segments"]
    values = {segment["value"]: segment for segment in device["values"]}
    assert (device["name"], list(values)) == ("device", ["ios", "android"])
    of_segments = sum(segment["champion"]["samples"] for segment in values.values())
    assert of_segments == found["accuracy"]["champion"]["samples"]
