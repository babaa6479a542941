"""What has to be counted for a metric, and what it adds up to."""

from __future__ import annotations

import math

import pytest

from modelexperiment.core.measures import cells, guardrail_query, kind_of, parts_of
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Cell
from tests.core.builders import ACCURACY, spec

AMOUNT = {
    "name": "amount",
    "mean": {"sum": "amount_sum", "count": "amount_count", "sumSquares": "amount_squares"},
    "versionLabel": "version",
}


def test_each_counter_of_each_metric_is_a_part() -> None:
    parts = parts_of(spec(metrics=[ACCURACY, AMOUNT]))

    assert [(p.metric, p.letter, p.selector.select()) for p in parts] == [
        ("accuracy", "n", "labelled_total"),
        ("accuracy", "s", "correct_total"),
        ("amount", "n", "amount_count"),
        ("amount", "s", "amount_sum"),
        ("amount", "q", "amount_squares"),
    ]


def test_squares_that_are_not_given_are_not_asked_for() -> None:
    short = {**AMOUNT, "mean": {"sum": "amount_sum", "count": "amount_count"}}

    assert [part.letter for part in parts_of(spec(metrics=[ACCURACY, short]))][2:] == ["n", "s"]


def test_a_part_asks_for_the_raw_samples_of_the_experiments_versions_only() -> None:
    part = parts_of(spec(metrics=[ACCURACY, AMOUNT]))[2]

    query = part.query(["v1", "v2.1"], 90)

    assert query == r'amount_count{version=~"v1|v2\\.1"}[90000ms]'


def test_a_window_is_never_empty() -> None:
    assert parts_of(spec())[0].query(["v1"], 0).endswith("[1ms]")


def test_what_is_no_selector_is_refused_with_its_field_and_value() -> None:
    wrong = {**ACCURACY, "proportion": {"successes": "sum(correct_total)", "trials": "t_total"}}

    with pytest.raises(
        ValueError,
        match=r"^spec\.metrics\[accuracy\]\.proportion\.successes: must be .*, got sum\(correct",
    ):
        parts_of(spec(metrics=[wrong]))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"proportion": ACCURACY["proportion"]}, "proportion"),
        ({"mean": AMOUNT["mean"]}, "mean"),
        ({"rate": {"events": "clicks_total"}}, "rate"),
        ({"quantile": {"histogram": "seconds_bucket", "quantile": 0.95}}, "quantile"),
    ],
)
def test_a_metric_has_one_kind(fields: dict[str, object], kind: str) -> None:
    assert kind_of(spec(metrics=[{"name": "m", "role": "Primary", **fields}]).primary) == kind


def test_growth_is_put_together_by_metric_and_version() -> None:
    asked = spec(metrics=[ACCURACY, AMOUNT])
    trials, successes, _, _, squares = parts_of(asked)

    found, histograms = cells(
        asked,
        [
            (trials, {("v1",): 10, ("v2",): 4}),
            (successes, {("v1",): 7}),
            (squares, {("v1",): 90}),
        ],
    )

    assert dict(found) == {
        Cell("accuracy", "v1"): Increment(10, 7, None),
        Cell("accuracy", "v2"): Increment(4, 0, None),
        Cell("amount", "v1"): Increment(0, 0, 90),
    }
    assert histograms == {}


USERS = spec(
    metrics=[ACCURACY],
    assignment={"header": "x-user-id", "buckets": 32, "bucketLabel": "bucket"},
    segments=[{"name": "device", "label": "device", "values": ["ios", "web"]}],
)


@pytest.mark.parametrize(
    ("bucket", "device", "cell"),
    [
        ("31", "ios", Cell("accuracy", "v1", 31, (("device", "ios"),))),
        ("32", "ios", Cell("accuracy", "v1", None, (("device", "ios"),))),
        ("", "", Cell("accuracy", "v1", None)),
        ("-1", "tv", Cell("accuracy", "v1", None)),
        ("0", "tv", Cell("accuracy", "v1", 0)),
    ],
)
def test_labels_say_whose_the_growth_is(bucket: str, device: str, cell: Cell) -> None:
    trials = parts_of(USERS)[0]
    assert trials.labels == ("model_version", "bucket", "device")

    found, _ = cells(USERS, [(trials, {("v1", bucket, device): 3})])

    assert found == [(cell, Increment(3, 0))]


def test_a_histogram_is_kept_by_its_edges() -> None:
    p95 = {"name": "p95", "quantile": {"histogram": "seconds_bucket", "quantile": 0.95}}
    asked = spec(metrics=[ACCURACY, p95])
    histogram = parts_of(asked)[-1]
    assert histogram.labels == ("model_version", "le")

    _, found = cells(asked, [(histogram, {("v1", "0.1"): 3, ("v1", "+Inf"): 5})])

    assert found == {Cell("p95", "v1"): {0.1: 3, math.inf: 5}}


@pytest.mark.parametrize("edge", ["", "NaN", "fast"])
def test_an_edge_that_is_no_number_is_refused_naming_the_field(edge: str) -> None:
    p95 = {"name": "p95", "quantile": {"histogram": "seconds_bucket", "quantile": 0.95}}
    asked = spec(metrics=[ACCURACY, p95])

    with pytest.raises(ValueError, match=r"^spec\.metrics\[p95\]\.quantile\.histogram: a series"):
        cells(asked, [(parts_of(asked)[-1], {("v1", edge): 3})])


def test_a_guardrails_query_is_about_one_version_in_the_experiments_namespace() -> None:
    query = 'errors{version="{{version}}", namespace="{{namespace}}"}'

    assert guardrail_query(query, "v2", "fraud") == 'errors{version="v2", namespace="fraud"}'
