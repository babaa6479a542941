"""What can't be done is refused by name, and never silently left out."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.core.support import unsupported
from tests.core.builders import ACCURACY, ERRORS, spec


def shadow(**fields: Any) -> dict[str, Any]:
    return {"shadow": {"modelVersion": "v3", **fields}}


RATE = {"name": "clicks", "rate": {"events": "clicks_total"}}
NO_SELECTOR = shadow(comparisons="a", disagreements="sum(b)")
BROKEN = {**ACCURACY, "proportion": {"successes": "rate(a[1m])", "trials": "b"}}


def test_two_versions_on_istio_with_counters_and_queries_are_supported() -> None:
    amount = {"name": "amount", "mean": {"sum": "amount_sum", "count": "amount_count"}}

    assert unsupported(spec(metrics=[ACCURACY, amount], guardrails=[ERRORS])) is None


def test_every_kind_of_metric_and_segments_are_supported() -> None:
    p95 = {"name": "p95", "quantile": {"histogram": "seconds_bucket", "quantile": 0.95}}
    device = {"name": "device", "label": "device", "values": ["ios", "web"]}

    assert unsupported(spec(metrics=[ACCURACY, RATE, p95], segments=[device])) is None


def test_an_http_route_and_a_shadow_with_and_without_a_gate_are_supported() -> None:
    route = {"gatewayAPI": {"httpRoute": "fraud"}}
    pair = {"comparisons": "compared_total", "disagreements": "disagreed_total"}

    assert unsupported(spec(route=route, **shadow(percent=20))) is None
    # As the API server hands it over, with the default filled in.
    assert unsupported(spec(**shadow(maxDivergence=0.05))) is None
    assert unsupported(spec(route=route, **shadow(maxDivergence=0.1, **pair))) is None


def test_more_comparisons_than_a_status_can_hold_are_refused() -> None:
    metrics = [ACCURACY, *({**RATE, "name": f"clicks{i}"} for i in range(15))]
    values = [f"value{i}" for i in range(16)]
    segments = [{"name": f"s{i}", "label": f"l{i}", "values": values} for i in range(3)]

    found = unsupported(spec(metrics=metrics, segments=segments))

    assert found is not None
    assert found.reason == "TooManyComparisons"
    assert found.message.startswith("spec.segments: 784 comparisons")


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"metrics": [BROKEN]}, "BadSelector", "spec.metrics[accuracy].proportion.successes: must"),
        (NO_SELECTOR, "BadSelector", "spec.shadow.disagreements: must"),
        ({"analysis": {"baseline": 15}}, "BadAnalysis", "spec.analysis: baseline is 15.0, not bet"),
    ],
)
def test_what_cannot_be_read_or_computed_is_refused_before_the_start(
    fields: dict[str, Any], reason: str, says: str
) -> None:
    found = unsupported(spec(**fields))

    assert found is not None
    assert (found.reason, found.message[: len(says)]) == (reason, says)
