"""The comparisons of all metrics and challengers, carried from poll to poll."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelexperiment.core.analysis import (
    Comparisons,
    analyse,
    fingerprint,
    lacking,
    margin_of,
    method_name,
    observe,
    ratio_of,
    restore,
    save,
    settings_for,
)
from modelexperiment.core.segments import with_segments
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.spec import Effect, ExperimentSpec
from modelexperiment.core.stats import Increment, Margin, Unit
from modelexperiment.core.tally import Arms
from tests.core.builders import ACCURACY, START, spec, traffic

RECALL = {**ACCURACY, "name": "recall", "role": "Secondary"}
USERS = {"header": "x-user-id", "buckets": 64, "bucketLabel": "bucket"}
THREE = {"traffic": traffic(v1=50, v2=25, v3=25)}


def poll(**trials: tuple[float, float]) -> Counted:
    """A poll in which every metric saw the same (trials, successes) by version."""
    increments = {
        (metric, version): Increment(n, s)
        for metric in ("accuracy", "recall")
        for version, (n, s) in trials.items()
    }
    return Counted(START, START, increments)


def seen(asked: ExperimentSpec, polls: int = 30) -> Comparisons:
    comparisons = restore(asked, None, {})
    for _ in range(polls):
        counted = poll(v1=(100, 50), v2=(100, 62), v3=(100, 55))
        comparisons = observe(asked, comparisons, counted)
    return comparisons


def prints(asked: ExperimentSpec) -> dict[str, str]:
    return {metric.name: fingerprint(asked, metric) for metric in asked.metrics}


def test_each_challenger_is_compared_in_each_metric_and_the_primary_stands_first() -> None:
    asked = spec(metrics=[RECALL, ACCURACY], **THREE)

    entries = analyse(asked, seen(asked))

    assert [(e.metric, e.model_version) for e in entries] == [
        ("accuracy", "v2"),
        ("accuracy", "v3"),
        ("recall", "v2"),
        ("recall", "v3"),
    ]
    assert {e.champion.samples for e in entries} == {3_000}


def test_a_version_that_was_not_seen_has_no_samples() -> None:
    asked = spec()
    comparisons = observe(asked, restore(asked, None, {}), poll(v1=(100, 50)))

    (entry,) = analyse(asked, comparisons)

    assert (entry.champion.samples, entry.challenger.samples) == (100, 0)
    assert (entry.absolute, entry.p_value, entry.significant) == (None, None, False)
    assert entry.withheld


def test_comparisons_come_back_from_json_bit_for_bit() -> None:
    asked = spec()
    state = save(seen(asked))

    restored = restore(asked, json.loads(json.dumps(state)), prints(asked))

    assert save(restored) == state
    again = observe(asked, restored, poll(v1=(9, 4), v2=(7, 5)))
    assert save(again) == save(observe(asked, seen(asked), poll(v1=(9, 4), v2=(7, 5))))


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"proportion": {"successes": "other_total", "trials": "labelled_total"}}, True),
        ({"goal": "Decrease"}, True),
        ({"versionLabel": "version"}, True),
        ({"minimumEffect": {"relative": 1}}, False),
    ],
)
def test_a_metric_starts_anew_where_what_it_counts_is_another_thing(
    change: dict[str, Any], anew: bool
) -> None:
    asked, edited = spec(), spec(metrics=[{**ACCURACY, **change}])

    (comparison,) = restore(edited, save(seen(asked)), prints(asked)).values()

    assert comparison.result().champion.samples == (0 if anew else 3_000)


def test_another_champion_is_another_question() -> None:
    asked, edited = spec(), spec(champion="v2")

    assert prints(asked) != prints(edited)


@pytest.mark.parametrize(
    ("correction", "factors"), [("None", (1, 1)), ("Bonferroni", (2, 2)), ("Holm", (2, 1))]
)
def test_p_values_are_corrected_for_the_number_of_challengers(
    correction: str, factors: tuple[int, int]
) -> None:
    asked = spec(analysis={"correction": correction}, **THREE)

    entries = analyse(asked, seen(asked))

    # v2 has the smaller p-value by far; Holm leaves the larger one as it is.
    for entry, factor in zip(entries, factors, strict=True):
        assert entry.p_value is not None
        assert entry.corrected_p_value == pytest.approx(min(1, factor * entry.p_value), rel=0.01)


def test_a_secondary_metric_costs_the_primary_one_nothing() -> None:
    alone, beside = spec(), spec(metrics=[ACCURACY, RECALL])

    assert analyse(alone, seen(alone))[0] == analyse(beside, seen(beside))[0]


def test_significance_is_by_the_corrected_p_value() -> None:
    strict = spec(analysis={"alpha": 1e-15})
    loose = spec(analysis={"alpha": 0.05})

    p_value = analyse(loose, seen(loose))[0].corrected_p_value

    assert p_value is not None
    assert 1e-15 < p_value < 0.05
    assert analyse(loose, seen(loose))[0].significant
    assert not analyse(strict, seen(strict))[0].significant


@pytest.mark.parametrize(
    ("effect", "margin"),
    [
        (None, None),
        (Effect(relative=5), Margin(relative=5)),
        (Effect(absolute=0.1), Margin(absolute=0.1)),
    ],
)
def test_an_effect_is_a_margin(effect: Effect | None, margin: Margin | None) -> None:
    assert margin_of(effect) == margin


@pytest.mark.parametrize(
    ("shares", "ratio", "size"),
    [((90, 10), 1 / 9, 9), ((50, 50), 1, 1), ((20, 80), 4, 4), ((100, 0), 1, 1), ((0, 100), 1, 1)],
)
def test_the_plan_knows_how_unequal_the_arms_are(
    shares: tuple[float, float], ratio: float, size: float
) -> None:
    asked = spec(traffic=traffic(v1=shares[0], v2=shares[1]))

    assert ratio_of(asked, "v2") == pytest.approx(ratio)
    assert settings_for(asked, asked.primary, "v2").ratio == pytest.approx(size)


def test_a_baseline_is_the_primary_metrics_only() -> None:
    asked = spec(metrics=[ACCURACY, RECALL], analysis={"baseline": 0.3})

    assert [settings_for(asked, m, "v2").baseline for m in asked.metrics] == [0.3, None]


def by_bucket(n: float, s: float) -> dict[int, Increment]:
    """The same of every one of 32 buckets, but for what tells them apart."""
    return {bucket: Increment(n, s + bucket % 2) for bucket in range(32)}


def test_sticky_users_are_compared_by_their_buckets() -> None:
    asked = spec(assignment={"header": "x-user-id", "buckets": 32})
    buckets = {("accuracy", "v1"): by_bucket(20, 9), ("accuracy", "v2"): by_bucket(20, 12)}
    whole = poll(v1=(640, 304), v2=(640, 400)).increments
    comparisons = restore(asked, None, {})
    for seen_buckets in ({("accuracy", "v1"): by_bucket(20, 9)}, *[buckets] * 20):
        counted = Counted(START, START, whole, buckets=seen_buckets)
        comparisons = observe(asked, comparisons, counted)

    (entry,) = analyse(asked, comparisons)

    assert entry.withheld is None
    assert entry.significant
    assert (entry.champion.samples, entry.challenger.samples) == (21 * 640, 20 * 640)


def test_sticky_users_without_buckets_have_no_verdict() -> None:
    asked = spec(assignment={"header": "x-user-id", "buckets": 32})

    (entry,) = analyse(asked, seen(asked))

    assert not entry.significant
    assert entry.withheld is not None
    assert "bucket" in entry.withheld


def test_users_are_the_unit_by_their_buckets() -> None:
    asked = spec(assignment={"header": "x-user-id", "buckets": 32})

    settings = settings_for(asked, asked.primary, "v2")

    assert (settings.unit, settings.buckets) == (Unit.USER, 32)


DEVICE = {"name": "device", "label": "device", "values": ["ios", "web"]}
BY_DEVICE = spec(segments=[DEVICE])


def in_segments(**successes: float) -> Counted:
    """A poll of 200 trials of each version, half of them of each device."""
    arms = {
        ("device", device): Arms(
            {("accuracy", "v1"): Increment(100, 50), ("accuracy", "v2"): Increment(100, s)}
        )
        for device, s in successes.items()
    }
    total = 50 * len(arms), sum(successes.values())
    increments = {
        ("accuracy", version): Increment(200, s)
        for version, s in zip(("v1", "v2"), total, strict=True)
    }
    return Counted(START, START, increments, segments=arms)


def test_segments_are_compared_each_for_itself_and_reported_with_their_metric() -> None:
    comparisons = restore(BY_DEVICE, None, {})
    for _ in range(12):
        comparisons = observe(BY_DEVICE, comparisons, in_segments(ios=70, web=50))

    (entry,) = with_segments(BY_DEVICE, comparisons, analyse(BY_DEVICE, comparisons))

    (segment,) = entry.segments
    ios, web = segment.values
    assert (ios.value, ios.champion.samples, ios.significant) == ("ios", 1_200, True)
    assert (web.value, web.champion.samples, web.significant) == ("web", 1_200, False)
    assert segment.heterogeneity is not None
    assert segment.heterogeneity.p_value < 0.001
    assert segment.overall is not None
    assert segment.overall.effect == pytest.approx(0.1)
    assert entry.champion.samples == 2_400


def test_without_samples_a_segment_says_why_it_has_no_numbers() -> None:
    comparisons = restore(BY_DEVICE, None, {})

    (entry,) = with_segments(BY_DEVICE, comparisons, analyse(BY_DEVICE, comparisons))

    (segment,) = entry.segments
    assert (segment.overall, segment.heterogeneity) == (None, None)
    assert all(value.withheld and not value.significant for value in segment.values)


def test_a_segment_that_is_added_begins_with_its_next_poll() -> None:
    plain = spec()
    state = save(observe(plain, restore(plain, None, {}), in_segments(ios=70, web=50)))
    comparisons = restore(BY_DEVICE, state, prints(BY_DEVICE))
    comparisons = observe(BY_DEVICE, comparisons, in_segments(ios=70, web=50))

    samples = {key: c.result().champion.samples for key, c in comparisons.items()}
    assert samples == {
        ("accuracy", "v2"): 400,
        ("accuracy", "v2", "device", "ios"): 100,
        ("accuracy", "v2", "device", "web"): 100,
    }
    assert list(save(comparisons))[1] == "accuracy/v2/device/ios"


@pytest.mark.parametrize(
    ("kind", "analysis", "assignment", "name"),
    [
        ("proportion", {}, None, "exact e-process, anytime-valid interval"),
        ("mean", {}, None, "asymptotic confidence sequence"),
        (
            "rate",
            {},
            None,
            "exact e-process, anytime-valid interval; events per second, by t",
        ),
        ("quantile", {}, None, "exact e-process, anytime-valid interval; share of observations ab"),
        ("proportion", {}, USERS, "asymptotic confidence sequence, robust by hash bucket of users"),
        (
            "mean",
            {"method": "GroupSequential", "sampleSize": 100},
            None,
            "O'Brien-Fleming boundary up to sampleSize",
        ),
        (
            "proportion",
            {"method": "FixedHorizon", "sampleSize": 100},
            None,
            "a single look at sampleSize",
        ),
    ],
)
def test_the_method_is_named(
    kind: str, analysis: dict[str, Any], assignment: dict[str, Any] | None, name: str
) -> None:
    kinds = {
        "proportion": ACCURACY["proportion"],
        "mean": {"sum": "a", "count": "b"},
        "rate": {"events": "a"},
        "quantile": {"histogram": "a", "quantile": 0.9},
    }
    metric = {"name": "m", "role": "Primary", kind: kinds[kind]}
    asked = spec(metrics=[metric], analysis=analysis, assignment=assignment)

    assert method_name(asked, asked.primary).startswith(name)


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [({**USERS, "buckets": 0}, "NoBuckets"), (USERS, "NoBucketLabel"), (None, None)],
)
def test_what_users_lack_is_named_with_a_reason(
    assignment: dict[str, Any] | None, reason: str | None
) -> None:
    asked = spec(assignment=assignment)

    found = lacking(asked, analyse(asked, seen(asked)))

    assert (found[0] if found else None) == reason
    if found:
        assert found[1].startswith("accuracy: users are the unit")
        assert "spec.assignment.bucket" in found[1]


def test_other_buckets_are_another_count() -> None:
    specs = [
        spec(assignment={**USERS, "buckets": 32}),
        spec(assignment={**USERS, "buckets": 64}),
        spec(assignment={**USERS, "bucketLabel": "other"}),
        spec(),
    ]

    assert len({prints(asked)["accuracy"] for asked in specs}) == 4


def test_a_design_effect_is_said_where_users_are_the_unit() -> None:
    asked = spec(assignment={"header": "x-user-id", "buckets": 32})
    buckets = {("accuracy", v): by_bucket(20, 9) for v in ("v1", "v2")}
    comparisons = restore(asked, None, {})
    for _ in range(20):
        counted = Counted(START, START, {}, buckets=buckets)
        comparisons = observe(asked, comparisons, counted)

    (entry,) = analyse(asked, comparisons)

    assert entry.design_effect is not None
    assert entry.design_effect > 0
    assert [e.design_effect for e in analyse(spec(), seen(spec()))] == [None]
