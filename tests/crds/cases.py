"""Manifests that must be accepted, and ones that must be refused, in one table.

The API server (tests/e2e/bare/test_admission.py) and the commands' parser (test_manifests.py) are
both held to it, so that neither lets through what the other refuses.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


def arms(*percents: object) -> list[Manifest]:
    """Entries of traffic: v1, v2 and so on with these percents."""
    return [
        {"modelVersion": f"v{number}", "percent": percent}
        for number, percent in enumerate(percents, 1)
    ]


PROPORTION = {"successes": "fraud_correct_total", "trials": "fraud_labelled_total"}
ACCURACY = {"name": "accuracy", "role": "Primary", "proportion": PROPORTION}
ISTIO = {"virtualService": "fraud", "httpRoute": "predict", "host": "fraud"}
COMPARED = {"comparisons": "compared_total", "disagreements": "disagreed_total"}
ERRORS = {"name": "errors", "query": "vector(0)", "max": 0.02}


def manifest(**spec: object) -> Manifest:
    """A good manifest, with these fields of the spec in place of its own; None removes one."""
    whole = {
        "traffic": arms(90, 10),
        "route": {"istio": ISTIO},
        "metrics": [ACCURACY],
        **spec,
    }
    return {
        "apiVersion": "experiments.mlops.dev/v1alpha1",
        "kind": "ModelExperiment",
        "metadata": {"name": "fraud-v2", "namespace": "default"},
        "spec": copy.deepcopy({name: value for name, value in whole.items() if value is not None}),
    }


ACCEPTED = {
    "the least": manifest(),
    "hundredths of a percent": manifest(traffic=arms(33.33, 33.33, 33.34)),
    "a challenger without traffic": manifest(traffic=arms(100, 0)),
    "eight versions": manifest(traffic=arms(*[12.5] * 8)),
    "a champion that is not the first": manifest(champion="v2"),
    "Gateway API": manifest(route={"gatewayAPI": {"httpRoute": "fraud", "rule": "predict"}}),
    "users by a cookie": manifest(assignment={"cookie": "uid", "buckets": 128}),
    "a known horizon": manifest(analysis={"method": "GroupSequential", "sampleSize": 20000}),
    "every kind of metric": manifest(
        metrics=[
            ACCURACY,
            {"name": "latency", "mean": {"sum": "s", "count": "c"}, "goal": "Decrease"},
            {"name": "clicks", "rate": {"events": "e"}},
            {"name": "p95", "quantile": {"histogram": "h_bucket", "quantile": 0.95}},
        ]
    ),
    "guardrails": manifest(
        guardrails=[ERRORS, {"name": "worse", "proportion": PROPORTION, "min": 0.5}]
    ),
    "a promote": manifest(rollout={"onWin": "Manual", "promote": "v2"}),
    "a promote of the first entry, where the champion is another": manifest(
        champion="v2", rollout={"promote": "v1"}
    ),
    "a shadow": manifest(shadow={"modelVersion": "v3", "percent": 12.5}),
    "a shadow that is compared": manifest(
        shadow={"modelVersion": "v3", "maxDivergence": 1, "predictions": "p_bucket", **COMPARED}
    ),
    "a challenger that must agree before it goes live": manifest(
        champion="v2", shadow={"modelVersion": "v1", "maxDivergence": 0.02, **COMPARED}
    ),
    "durations": manifest(analysis={"interval": "1m30s", "maxDuration": "14d", "washout": "0.5h"}),
}


@dataclass(frozen=True)
class Refused:
    """A wrong spec: the field that must be named, and a part of what must be said about it.

    `server` is what the API server says where it speaks for itself and not by a rule of ours.
    """

    field: str
    says: str
    spec: Manifest
    server: str = ""


def _analysis(field: str, value: object, says: str, server: str) -> Refused:
    return Refused(f"spec.analysis.{field}", says, {"analysis": {field: value}}, server)


SUM = "the percents must sum to exactly 100"
DECIMALS = "percent takes at most two decimals"
PRIMARY = "exactly one metric must have role Primary"
ONE_KIND = "exactly one of proportion, mean, rate, quantile must be set"
ONE_ROUTE = "exactly one of istio, gatewayAPI must be set"
DURATION = 'must be a duration such as "30s", "5m", "72h" or "14d"'
SAMPLE_SIZE = "methods GroupSequential and FixedHorizon need sampleSize"
PROMOTE = "rollout.promote must be one of the challengers"
UNKNOWN = "is not a known field"

REFUSED = {
    "60/50": Refused("spec.traffic", SUM, {"traffic": arms(60, 50)}),
    "a hundredth short": Refused("spec.traffic", SUM, {"traffic": arms(49.99, 50)}),
    "one version": Refused(
        "spec.traffic", "at least 2 items", {"traffic": arms(100)}, "should have at least 2 items"
    ),
    "nine versions": Refused(
        "spec.traffic", "at most 8 items", {"traffic": arms(*[11] * 8, 12)}, "must have at most 8"
    ),
    "percent below 0": Refused(
        "spec.traffic[1].percent", "greater than or equal to 0", {"traffic": arms(100, -1, 1)}
    ),
    "percent over 100": Refused(
        "spec.traffic[0].percent", "less than or equal to 100", {"traffic": arms(101, 0)}
    ),
    "three decimals": Refused(
        "spec.traffic[2].percent", DECIMALS, {"traffic": arms(33.333, 33.333, 33.334)}
    ),
    "a percent in quotes": Refused(
        "spec.traffic[0].percent",
        "must be a valid number",
        {"traffic": arms("90", 10)},
        "must be of type number",
    ),
    "no percent": Refused(
        "spec.traffic[1].percent",
        "is required",
        {"traffic": [*arms(100), {"modelVersion": "v2"}]},
        "Required value",
    ),
    "the same version twice": Refused(
        "spec.traffic[1]", "must be unique", {"traffic": arms(50) * 2}, "Duplicate value"
    ),
    "a version that breaks out of a selector": Refused(
        "spec.traffic[1].modelVersion",
        "should match",
        {"traffic": [*arms(90), {"modelVersion": 'v2"}', "percent": 10}]},
    ),
    "a champion that gets no traffic": Refused(
        "spec.champion", "champion must be one of traffic's modelVersions", {"champion": "v9"}
    ),
    "an unknown field": Refused(
        "spec.trafic", UNKNOWN, {"trafic": arms(90, 10)}, 'unknown field "spec.trafic"'
    ),
    "an unknown field deep down": Refused(
        "spec.analysis.alhpa",
        UNKNOWN,
        {"analysis": {"alhpa": 0.01}},
        'unknown field "spec.analysis.alhpa"',
    ),
    "two primary metrics": Refused(
        "spec.metrics", PRIMARY, {"metrics": [ACCURACY, {**ACCURACY, "name": "recall"}]}
    ),
    "no primary metric": Refused(
        "spec.metrics", PRIMARY, {"metrics": [{**ACCURACY, "role": "Secondary"}]}
    ),
    "no metric": Refused(
        "spec.metrics", "at least 1 item", {"metrics": []}, "should have at least 1 items"
    ),
    "the same metric twice": Refused(
        "spec.metrics[1]",
        "must be unique",
        {"metrics": [ACCURACY, {**ACCURACY, "role": "Secondary"}]},
        "Duplicate value",
    ),
    "two kinds in one metric": Refused(
        "spec.metrics[0]", ONE_KIND, {"metrics": [{**ACCURACY, "rate": {"events": "e"}}]}
    ),
    "a metric of no kind": Refused(
        "spec.metrics[0]", ONE_KIND, {"metrics": [{"name": "accuracy", "role": "Primary"}]}
    ),
    "an effect both ways": Refused(
        "spec.metrics[0].minimumEffect",
        "exactly one of relative, absolute must be set",
        {"metrics": [{**ACCURACY, "minimumEffect": {"relative": 2, "absolute": 0.01}}]},
    ),
    "a guardrail without a bound": Refused(
        "spec.guardrails[0]",
        "a guardrail needs a bound: max, min or maxIncrease",
        {"guardrails": [{"name": "errors", "query": "vector(0)"}]},
    ),
    "a window shorter than its limit": Refused(
        "spec.guardrails[0].failureWindow",
        "failureWindow must be at least failureLimit",
        {"guardrails": [{**ERRORS, "failureLimit": 4, "failureWindow": 3}]},
    ),
    "a guardrail of two kinds": Refused(
        "spec.guardrails[0]",
        "exactly one of query, proportion, mean, rate, quantile must be set",
        {"guardrails": [{**ERRORS, "proportion": PROPORTION}]},
    ),
    "both routes": Refused(
        "spec.route",
        ONE_ROUTE,
        {"route": {"istio": ISTIO, "gatewayAPI": {"httpRoute": "fraud"}}},
    ),
    "neither route": Refused("spec.route", ONE_ROUTE, {"route": {}}),
    "no route": Refused("spec.route", "is required", {"route": None}, "Required value"),
    "a duration in words": _analysis("interval", "5 minutes", DURATION, DURATION),
    "a duration without a unit": _analysis("maxDuration", "14", DURATION, DURATION),
    "a duration with a line break": _analysis("washout", "5m\n", DURATION, DURATION),
    "a group-sequential method without a size": Refused(
        "spec.analysis.sampleSize", SAMPLE_SIZE, {"analysis": {"method": "GroupSequential"}}
    ),
    "a fixed horizon without a size": Refused(
        "spec.analysis.sampleSize", SAMPLE_SIZE, {"analysis": {"method": "FixedHorizon"}}
    ),
    "a method that there is not": _analysis(
        "method",
        "Bayes",
        "must be 'Sequential', 'GroupSequential' or 'FixedHorizon'",
        'supported values: "Sequential", "GroupSequential", "FixedHorizon"',
    ),
    "alpha over a half": _analysis("alpha", 0.7, "less than 0.5", "less than 0.5"),
    "users without an assignment": Refused(
        "spec.analysis.unit", "unit User needs assignment", {"analysis": {"unit": "User"}}
    ),
    "a shadow that is the champion": Refused(
        "spec.shadow.modelVersion",
        "shadow.modelVersion must not be the champion",
        {"shadow": {"modelVersion": "v1", **COMPARED}},
    ),
    "a shadow that is the champion by name": Refused(
        "spec.shadow.modelVersion",
        "shadow.modelVersion must not be the champion",
        {"champion": "v2", "shadow": {"modelVersion": "v2", **COMPARED}},
    ),
    "a challenger's shadow that nothing could let go live": Refused(
        "spec.shadow.modelVersion",
        "it needs shadow.comparisons and shadow.disagreements",
        {"shadow": {"modelVersion": "v2"}},
    ),
    "a challenger's shadow served by something else": Refused(
        "spec.shadow",
        "shadow.subset and shadow.service: a challenger's are those of traffic",
        {"shadow": {"modelVersion": "v2", "subset": "other", **COMPARED}},
    ),
    "comparisons without disagreements": Refused(
        "spec.shadow",
        "comparisons and disagreements go together",
        {"shadow": {"modelVersion": "v3", "comparisons": "compared_total"}},
    ),
    "a divergence that is never measured": Refused(
        "spec.shadow.maxDivergence",
        "maxDivergence needs comparisons and disagreements",
        {"shadow": {"modelVersion": "v3", "maxDivergence": 0.1}},
    ),
    "a shadow's three decimals": Refused(
        "spec.shadow.percent", DECIMALS, {"shadow": {"modelVersion": "v3", "percent": 0.001}}
    ),
    "a shadow of nothing": Refused(
        "spec.shadow.percent", "greater than 0", {"shadow": {"modelVersion": "v3", "percent": 0}}
    ),
    "header and cookie": Refused(
        "spec.assignment",
        "exactly one of header, cookie must be set",
        {"assignment": {"header": "x-user-id", "cookie": "uid"}},
    ),
    "fifty buckets": Refused(
        "spec.assignment.buckets",
        "buckets must be 0, 32, 64 or 128",
        {"assignment": {"header": "x-user-id", "buckets": 50}},
        'supported values: "0", "32", "64", "128"',
    ),
    "a salt with an expansion in it": Refused(
        "spec.assignment.salt",
        "should match",
        {"assignment": {"header": "x-user-id", "salt": "\\1"}},
    ),
    "a rollout that stops short": Refused(
        "spec.rollout.steps",
        "the last of rollout.steps must be 100",
        {"rollout": {"steps": [25, 50]}},
    ),
    "a rollout that goes back": Refused(
        "spec.rollout.steps", "rollout.steps must rise", {"rollout": {"steps": [50, 25, 100]}}
    ),
    "a promote of the champion": Refused(
        "spec.rollout.promote", PROMOTE, {"rollout": {"promote": "v1"}}
    ),
    "a promote of nobody": Refused("spec.rollout.promote", PROMOTE, {"rollout": {"promote": "v9"}}),
    "a password in an address": Refused(
        "spec.prometheus.url",
        "should match",
        {"prometheus": {"url": "http://user:secret@prometheus"}},
    ),
    "a Secret of another namespace": Refused(
        "spec.alerts[0].slack.secretRef.name",
        "should match",
        {"alerts": [{"slack": {"secretRef": {"name": "../../other/secrets/chat"}}}]},
    ),
    "an alert to nobody": Refused(
        "spec.alerts[0].slack",
        "exactly one of url, secretRef must be set",
        {"alerts": [{"slack": {}}]},
    ),
}
