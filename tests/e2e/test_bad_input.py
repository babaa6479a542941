"""Bad input that only the operator can find: a condition and an Event, and nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.chart import DEAD_PROMETHEUS
from tests.e2e.lab import HOST, Lab, Traffic, eventually

pytestmark = pytest.mark.e2e

ORIGINAL = [("v1", 0)]


def istio(**route: Any) -> dict[str, Any]:
    return {"route": {"istio": {"virtualService": HOST, "host": HOST, **route}}}


def guardrail(query: str) -> dict[str, Any]:
    return {"guardrails": [{"name": "odd", "query": query, "max": 1}]}


def metric(lab: Lab, trials: str) -> dict[str, Any]:
    changed = lab.experiment()["spec"]["metrics"]
    changed[0]["proportion"]["trials"] = trials
    return {"metrics": changed}


THREE = [
    {"modelVersion": "v1", "percent": 80},
    {"modelVersion": "v2", "percent": 10},
    {"modelVersion": "v9", "percent": 10},
]

Case = tuple[Callable[[Lab], dict[str, Any]], str, str, str]
CASES: dict[str, Case] = {
    "no such VirtualService": (
        lambda lab: istio(virtualService="nope", httpRoute="predict"),
        "RoutesReady",
        "VirtualServiceNotFound",
        "there is no VirtualService",
    ),
    "no such http route": (
        lambda lab: istio(httpRoute="nope"),
        "RoutesReady",
        "RouteNotFound",
        "it has admin, predict",
    ),
    "several routes and none named": (
        lambda lab: istio(),
        "RoutesReady",
        "RouteAmbiguous",
        "name one in spec.route.istio.httpRoute",
    ),
    "a version without a destination": (
        lambda lab: {"traffic": THREE},
        "RoutesReady",
        "DestinationNotFound",
        "has the subset v9; it has v1, v2",
    ),
    "a shadow's counter that is no selector": (
        lambda lab: {
            "shadow": {"modelVersion": "v2", "comparisons": "a_total", "disagreements": "sum(b)"}
        },
        "RoutesReady",
        "BadSelector",
        "spec.shadow.disagreements: must",
    ),
    "a shadow without a destination": (
        lambda lab: {"shadow": {"modelVersion": "v9"}},
        "RoutesReady",
        "DestinationNotFound",
        "spec.shadow: no DestinationRule",
    ),
    "Prometheus unreachable": (
        lambda lab: {"prometheus": {"url": DEAD_PROMETHEUS}},
        "MetricsReady",
        "PrometheusUnreachable",
        "can't be reached",
    ),
    "Prometheus not allowed": (
        lambda lab: {"prometheus": {"url": "http://169.254.169.254"}},
        "MetricsReady",
        "PrometheusNotAllowed",
        "http://169.254.169.254 is not allowed",
    ),
    "a selector that matches nothing": (
        lambda lab: metric(lab, "fraud_typo_total"),
        "MetricsReady",
        "NoSeries",
        "fraud_typo_total matches no series of v1",
    ),
    "an aggregation instead of a selector": (
        lambda lab: metric(lab, "sum(rate(fraud_labelled_total[1m]))"),
        "RoutesReady",
        "BadSelector",
        "must be a plain selector",
    ),
    "a counter that goes backwards": (
        lambda lab: metric(lab, "fraud_wobble"),
        "MetricsReady",
        "NotACounter",
        "it is not a counter",
    ),
    "a guardrail that returns nothing": (
        lambda lab: guardrail('fraud_typo{version="{{version}}"}'),
        "MetricsReady",
        "NoData",
        "returns nothing for v1",
    ),
    "a guardrail that returns NaN": (
        lambda lab: guardrail("vector(0) / 0"),
        "MetricsReady",
        "NoData",
        "returns NaN",
    ),
    "a guardrail that returns Inf": (
        lambda lab: guardrail("vector(1) / 0"),
        "MetricsReady",
        "NoData",
        "returns +Inf",
    ),
    "a guardrail that returns a string": (
        lambda lab: guardrail('"fine"'),
        "MetricsReady",
        "BadQuery",
        'the string "fine"',
    ),
    "a guardrail that returns many series": (
        lambda lab: guardrail("up"),
        "MetricsReady",
        "BadQuery",
        "aggregate it",
    ),
    "a guardrail that can't be parsed": (
        lambda lab: guardrail("rate(("),
        "MetricsReady",
        "BadQuery",
        "parse error",
    ),
    "a guardrail with an unknown placeholder": (
        lambda lab: guardrail("fraud{{colour}}"),
        "MetricsReady",
        "BadQuery",
        "unknown placeholder {{colour}}",
    ),
}


def test_it_is_said_and_told_and_nothing_is_written(lab: Lab) -> None:
    """All cases against one lab: none of them may touch the route, so none disturbs another."""
    names = {}
    with Traffic(lab, 50):
        # A gauge is known by its falls, and those have to be scraped first.
        eventually(lambda: lab.servers["v1"].scrapes >= 10, "ten scrapes")
        for number, (case, (spec, *_)) in enumerate(CASES.items()):
            name = names[case] = f"bad-{number}"
            lab.apply(lab.experiment(name, **spec(lab)))
            _check(lab, name, case)
            lab.delete_experiments()


def _check(lab: Lab, name: str, case: str) -> None:
    _, type_, reason, message = CASES[case]
    found = eventually(
        lambda: (c := lab.condition(type_, name)).get("status") == "False" and c, case, 15
    )
    assert (found["reason"], message in found["message"]) == (reason, True), f"{case}: {found}"
    told = eventually(lambda: dict(lab.events(name)).get("ConfigInvalid"), f"{case}: an Event", 10)
    assert message in told, case
    assert lab.status(name)["phase"] == "Pending", case
    assert lab.destinations() == ORIGINAL, case


def test_a_route_is_held_by_one_experiment_at_a_time(lab: Lab) -> None:
    with Traffic(lab, 50):
        lab.apply(lab.experiment("first"))
        lab.wait_phase("Running", "first")
        eventually(lambda: lab.destinations() == [("v1", 90), ("v2", 10)], "the split")
        swapped = [{"modelVersion": "v1", "percent": 30}, {"modelVersion": "v2", "percent": 70}]
        lab.apply(lab.experiment("second", traffic=swapped))
        found = eventually(
            lambda: (c := lab.condition("RoutesReady", "second")).get("status") == "False" and c,
            "the second is told",
        )
        assert found["reason"] == "RouteHeld" and "first" in found["message"]
        time.sleep(3)
        assert lab.status("second")["phase"] == "Pending"
        assert lab.destinations() == [("v1", 90), ("v2", 10)]
        lab.cluster.kubectl("delete", "mexp", "first", "-n", lab.namespace, "--timeout=20s")
        lab.wait_phase("Running", "second")
        eventually(lambda: lab.destinations() == [("v1", 30), ("v2", 70)], "the second's split")
