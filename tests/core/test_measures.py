"""What has to be counted for a metric, and what it adds up to."""

from __future__ import annotations

import pytest

from modelexperiment.core.measures import guardrail_query, increments, kind_of, parts_of
from modelexperiment.core.stats import Increment
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
    found = increments(
        {
            ("accuracy", "n", "v1"): 10,
            ("accuracy", "s", "v1"): 7,
            ("accuracy", "n", "v2"): 4,
            ("amount", "q", "v1"): 90,
        }
    )

    assert found == {
        ("accuracy", "v1"): Increment(10, 7, None),
        ("accuracy", "v2"): Increment(4, 0, None),
        ("amount", "v1"): Increment(0, 0, 90),
    }


def test_a_guardrails_query_is_about_one_version_in_the_experiments_namespace() -> None:
    query = 'errors{version="{{version}}", namespace="{{namespace}}"}'

    assert guardrail_query(query, "v2", "fraud") == 'errors{version="v2", namespace="fraud"}'
