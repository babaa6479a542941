"""A manifest is read whole, or refused with everything that is wrong with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from modelexperiment.core.manifest import (
    Experiment,
    FieldError,
    ManifestError,
    parse_experiment,
    parse_spec,
)
from modelexperiment.core.spec import Correction, OnWin, Role, TimeoutAction, Unit
from tests.core.builders import ACCURACY, LEAST, spec, traffic

# Every field that there is, once.
WHOLE = """
apiVersion: experiments.mlops.dev/v1alpha1
kind: ModelExperiment
metadata: {name: fraud-v2, namespace: fraud}
spec:
  champion: v1
  traffic:
  - {modelVersion: v1, percent: 90, subset: stable}
  - {modelVersion: v2, percent: 10, service: fraud-v2}
  route:
    istio: {virtualService: fraud, httpRoute: predict, host: fraud, port: 8080}
  assignment: {header: x-user-id, salt: fraud-v2, buckets: 64, bucketLabel: bucket}
  prometheus: {url: "http://prometheus:9090"}
  metrics:
  - name: accuracy
    role: Primary
    goal: Increase
    proportion:
      successes: fraud_correct_total{job="fraud"}
      trials: fraud_labelled_total{job="fraud"}
    versionLabel: version
    minimumEffect: {relative: 2}
    delay: 0s
  - name: amount
    mean: {sum: amount_sum, count: amount_count, sumSquares: amount_squares}
    minimumEffect: {absolute: 3.5}
  guardrails:
  - name: errors
    proportion: {successes: fraud_errors_total, trials: fraud_requests_total}
    maxIncrease: {relative: 50}
    alpha: 0.01
  - name: p95-latency
    query: histogram_quantile(0.95, sum by (le) (rate(s_bucket{version="{{version}}"}[1m])))
    max: 0.2
    failureLimit: 3
    noData: Wait
  analysis:
    method: Sequential
    alpha: 0.05
    power: 0.8
    sampleSize: 20000
    baseline: 0.15
    interval: 15s
    guardrailTimeout: 5m
    onGuardrailTimeout: Pause
    minDuration: 0s
    maxDuration: 14d
    washout: 0s
    unit: User
    correction: Holm
  segments:
  - {name: device, label: device, values: [ios, android, web]}
  rollout: {onWin: Gradual, steps: [25, 50, 100], stepDuration: 1h}
  shadow:
    modelVersion: v3
    percent: 100
    maxDivergence: 0.05
    comparisons: compared_total
    disagreements: disagreed_total
  tracking: {mlflow: {uri: "http://mlflow:5000", experiment: fraud}}
  alerts:
  - alertmanager: {url: "http://alertmanager:9093"}
  - slack: {secretRef: {name: slack}}
  - webhook: {url: "https://hooks.example.com/x"}
  paused: false
  stop: false
"""


def whole() -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(WHOLE)
    return manifest


def errors_of(manifest: object) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse_experiment(manifest)
    assert str(caught.value) == "; ".join(map(str, caught.value.errors))
    return [str(error) for error in caught.value.errors]


def test_a_manifest_with_every_field_is_read() -> None:
    found = parse_experiment(whole())

    assert (found.namespace, found.name, found.salt) == ("fraud", "fraud-v2", "fraud-v2")
    assert found.spec.primary.name == "accuracy"
    assert found.spec.analysis.on_guardrail_timeout is TimeoutAction.PAUSE
    assert found.spec.rollout.on_win is OnWin.GRADUAL


def test_what_is_read_can_be_written_and_read_again() -> None:
    found = parse_experiment(whole()).spec

    assert parse_spec(found.dump()) == found


def test_what_is_left_out_has_its_documented_default() -> None:
    found = spec()

    assert (found.champion_version, found.challengers, found.unit) == ("v1", ["v2"], Unit.REQUEST)
    assert found.metrics[0].version_label == "model_version"
    assert found.analysis.correction is Correction.HOLM
    assert found.rollout.steps == [25, 50, 100]
    assert (found.paused, found.stop) == (False, False)


def test_users_are_the_unit_where_they_are_kept_on_one_version() -> None:
    assert spec(assignment={"header": "x-user-id"}).unit is Unit.USER


def test_the_champion_may_stand_anywhere_in_traffic() -> None:
    found = spec(champion="v2", traffic=traffic(v1=30, v2=50, v3=20))

    assert (found.champion_version, found.challengers) == ("v2", ["v1", "v3"])
    assert found.split == {"v1": 30, "v2": 50, "v3": 20}


def test_the_salt_is_the_experiments_own_where_none_is_given() -> None:
    assert Experiment("fraud", "fraud-v2", spec()).salt == "fraud/fraud-v2"


def test_a_namespace_is_default_where_none_is_given() -> None:
    manifest = whole()
    del manifest["metadata"]["namespace"]

    assert parse_experiment(manifest).namespace == "default"


def test_all_wrong_types_are_told_at_once_each_with_path_and_value() -> None:
    manifest = whole()
    changed = manifest["spec"]
    changed["traffic"][1]["percent"] = "many"
    changed["analysis"]["interval"] = "soon"
    changed["analysis"]["alhpa"] = 0.1
    del changed["metrics"][0]["name"]

    assert sorted(errors_of(manifest)) == [
        "spec.analysis.alhpa: is not a known field",
        'spec.analysis.interval: must be a duration such as "30s", "5m", "72h" or "14d", got soon',
        "spec.metrics[0].name: is required",
        "spec.traffic[1].percent: must be a valid number, got many",
    ]


def test_all_broken_rules_are_told_at_once_each_with_path_and_value() -> None:
    broken = {
        "traffic": traffic(v1=60, v2=50.005),
        "champion": "v9",
        "metrics": [ACCURACY, {**ACCURACY, "minimumEffect": {"relative": 1, "absolute": 1}}],
        "analysis": {"method": "FixedHorizon", "unit": "User"},
        "guardrails": [{"name": "errors", "query": "vector(0)"}],
        "rollout": {"steps": [50, 25]},
    }

    with pytest.raises(ManifestError) as caught:
        parse_spec({**LEAST, **broken})

    assert {str(error) for error in caught.value.errors} == {
        "spec.traffic: the percents must sum to exactly 100, got 110",
        "spec.traffic[1].percent: percent takes at most two decimals, got 50.005",
        "spec.champion: champion must be one of traffic's modelVersions, got v9",
        "spec.metrics: exactly one metric must have role Primary, got 2",
        "spec.metrics[1].name: must be unique, got accuracy",
        "spec.metrics[1].minimumEffect: exactly one of relative, absolute must be set, "
        "got relative, absolute",
        "spec.analysis.unit: analysis.unit User needs assignment, got User",
        "spec.analysis.sampleSize: methods GroupSequential and FixedHorizon need sampleSize",
        "spec.guardrails[0]: a guardrail needs a bound: max, min or maxIncrease, got errors",
        "spec.rollout.steps: the last of rollout.steps must be 100, got [50.0, 25.0]",
        "spec.rollout.steps: rollout.steps must rise, got [50.0, 25.0]",
    }


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kind": "Deployment"}, "kind: must be ModelExperiment, got Deployment"),
        ({"apiVersion": "v1"}, "apiVersion: must be experiments.mlops.dev/v1alpha1, got v1"),
        ({"metadata": {}}, "metadata.name: is required"),
        ({"metadata": None}, "metadata.name: is required"),
        ({"spec": None}, "spec: is required and must be a mapping"),
        ({"spec": "fraud"}, "spec: is required and must be a mapping, got fraud"),
    ],
)
def test_what_is_no_experiment_is_refused(change: dict[str, object], error: str) -> None:
    assert errors_of({**whole(), **change}) == [error]


def test_a_text_is_no_manifest() -> None:
    assert errors_of("kind: ModelExperiment") == [
        "manifest: must be a mapping, got kind: ModelExperiment"
    ]


def test_a_number_in_quotes_is_no_number() -> None:
    manifest = whole()
    manifest["spec"]["analysis"]["alpha"] = "0.05"

    assert errors_of(manifest) == ["spec.analysis.alpha: must be a valid number, got 0.05"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_finite_number_is_refused(value: float) -> None:
    manifest = whole()
    manifest["spec"]["guardrails"][1]["max"] = value

    assert "spec.guardrails[1].max: must be a finite number" in errors_of(manifest)[0]


def test_a_long_value_is_shown_shortened() -> None:
    shown = str(FieldError("spec.champion", "must be short", "v" * 200))

    assert shown == "spec.champion: must be short, got " + "v" * 77 + "..."


def test_a_route_of_two_kinds_and_one_of_none_are_refused() -> None:
    istio = copy.deepcopy(LEAST["route"]["istio"])

    for route, shown in (
        ({"istio": istio, "gatewayAPI": {"httpRoute": "f"}}, "both"),
        ({}, "none"),
    ):
        with pytest.raises(ManifestError, match=f"exactly one of istio, gatewayAPI.*got {shown}"):
            spec(route=route)


def test_the_only_primary_metric_decides() -> None:
    secondary = {"name": "amount", "mean": {"sum": "a", "count": "b"}}

    assert spec(metrics=[secondary, ACCURACY]).primary.role is Role.PRIMARY
