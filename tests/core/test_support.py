"""What can't be done is refused by name, and never silently left out."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.core.support import unsupported
from tests.core.builders import ACCURACY, ERRORS, PROPORTION, spec

RATE = {"name": "clicks", "rate": {"events": "clicks_total"}}
BROKEN = {**ACCURACY, "proportion": {"successes": "rate(a[1m])", "trials": "b"}}


def test_two_versions_on_istio_with_counters_and_queries_are_supported() -> None:
    amount = {"name": "amount", "mean": {"sum": "amount_sum", "count": "amount_count"}}

    assert unsupported(spec(metrics=[ACCURACY, amount], guardrails=[ERRORS])) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"route": {"gatewayAPI": {"httpRoute": "fraud"}}}, "spec.route.gatewayAPI"),
        ({"shadow": {"modelVersion": "v3"}}, "spec.shadow"),
        ({"tracking": {"mlflow": {"uri": "http://mlflow:5000"}}}, "spec.tracking"),
        ({"alerts": [{"slack": {"url": "https://example.com/x"}}]}, "spec.alerts"),
        ({"segments": [{"name": "d", "label": "d", "values": ["a"]}]}, "spec.segments"),
        ({"metrics": [ACCURACY, RATE]}, "spec.metrics[clicks].rate"),
        (
            {"guardrails": [{"name": "errors", "proportion": PROPORTION, "max": 0.1}]},
            "spec.guardrails[errors]",
        ),
    ],
)
def test_what_is_not_supported_is_named(fields: dict[str, Any], named: str) -> None:
    found = unsupported(spec(**fields))

    assert found is not None
    assert found.reason == "NotSupported"
    assert found.message.startswith(named)


def test_everything_that_is_not_supported_is_named_at_once() -> None:
    found = unsupported(spec(shadow={"modelVersion": "v3"}, metrics=[ACCURACY, RATE]))

    assert found is not None
    assert found.message.startswith("spec.shadow, spec.metrics[clicks].rate: not supported")


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"metrics": [BROKEN]}, "BadSelector", "spec.metrics[accuracy].proportion.successes: must"),
        ({"analysis": {"baseline": 15}}, "BadAnalysis", "spec.analysis: baseline is 15.0, not bet"),
        ({"analysis": {"sampleSize": 1}}, "BadAnalysis", "spec.analysis: sample_size is 1, not "),
    ],
)
def test_what_cannot_be_read_or_computed_is_refused_before_the_start(
    fields: dict[str, Any], reason: str, says: str
) -> None:
    found = unsupported(spec(**fields))

    assert found is not None
    assert (found.reason, found.message[: len(says)]) == (reason, says)
