"""How many samples an experiment needs, and when they will be there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.planning import needed_per_arm, sample_plan
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.stats import Margin
from modelexperiment.core.status import ArmEstimate, ExperimentStatus, MetricAnalysis, SamplePlan
from tests.core.builders import ACCURACY, START, spec, traffic

AMOUNT = {"name": "amount", "role": "Primary", "mean": {"sum": "a", "count": "b"}}
HOUR = timedelta(hours=1)


def asked(effect: dict[str, float] | None, **analysis: Any) -> ExperimentSpec:
    return spec(metrics=[{**ACCURACY, "minimumEffect": effect}], analysis=analysis)


def fixed(effect: dict[str, float] | None, **analysis: Any) -> ExperimentSpec:
    return asked(effect, method="FixedHorizon", sampleSize=10, **analysis)


def entry(samples: float, *, version: str = "v2", estimate: float | None = 0.2) -> MetricAnalysis:
    return MetricAnalysis(
        metric="accuracy",
        role="Primary",
        model_version=version,
        champion=ArmEstimate(samples=1_000, estimate=estimate),
        challenger=ArmEstimate(samples=samples),
        significant=False,
        method="exact",
    )


def planned(
    wanted: ExperimentSpec, *entries: MetricAnalysis, after: timedelta = HOUR
) -> SamplePlan:
    status = ExperimentStatus(analysis=list(entries), start_time=START)
    return sample_plan(wanted, status, START + after)


def test_a_fixed_horizon_needs_what_the_textbook_says() -> None:
    # 5 % -> 6 %, unpooled, power 0.8: 8,155 (van Belle's formula, and statsmodels).
    size = needed_per_arm(fixed({"absolute": 0.01}), "v2", 0.05)

    assert (size.champion, size.challenger) == (8_155, 8_155)


def test_continuous_looks_cost_samples() -> None:
    once = needed_per_arm(fixed({"relative": 20}), "v2", 0.05).champion
    always = needed_per_arm(asked({"relative": 20}), "v2", 0.05).champion

    assert 1.3 < always / once < 1.9


def test_a_decrease_is_planned_from_the_lower_rate() -> None:
    down = spec(metrics=[{**ACCURACY, "goal": "Decrease", "minimumEffect": {"relative": 20}}])

    # The variance of a smaller rate is smaller.
    assert (
        needed_per_arm(down, "v2", 0.05).champion
        < needed_per_arm(asked({"relative": 20}), "v2", 0.05).champion
    )


@pytest.mark.parametrize("goal", ["Increase", "Decrease"])
def test_an_effect_that_leaves_the_scale_is_planned_up_to_its_end(goal: str) -> None:
    extreme = spec(metrics=[{**ACCURACY, "goal": goal, "minimumEffect": {"absolute": 0.9}}])

    assert needed_per_arm(extreme, "v2", 0.5).champion > 0


def test_a_rate_may_double_beyond_one_and_never_falls_below_zero() -> None:
    clicks = {"name": "clicks", "role": "Primary", "rate": {"events": "clicks_total"}}
    for goal in ("Increase", "Decrease"):
        wanted = spec(metrics=[{**clicks, "goal": goal, "minimumEffect": {"relative": 150}}])

        assert needed_per_arm(wanted, "v2", 2.0).champion > 0


def test_more_challengers_need_more_samples_each() -> None:
    three = spec(traffic=traffic(v1=34, v2=33, v3=33))

    assert (
        needed_per_arm(three, "v2", 0.2).challenger > needed_per_arm(spec(), "v2", 0.2).challenger
    )


def test_an_unequal_split_needs_the_most_of_the_larger_arm() -> None:
    size = needed_per_arm(spec(traffic=traffic(v1=90, v2=10)), "v2", 0.2)

    assert size.champion == pytest.approx(9 * size.challenger, rel=0.01)


def test_any_effect_can_be_planned_for() -> None:
    large = needed_per_arm(asked(None), "v2", 0.2, Margin(relative=20))
    small = needed_per_arm(asked(None), "v2", 0.2, Margin(relative=10))

    # Half the effect, four times the samples, but for the variance of the challenger.
    assert 3.5 < small.champion / large.champion < 4.5


def test_without_an_effect_there_is_no_plan() -> None:
    with pytest.raises(ValueError, match=r"spec\.metrics\[accuracy\]\.minimumEffect: is needed"):
        needed_per_arm(asked(None), "v2", 0.2)


def test_before_the_first_sample_there_is_no_plan() -> None:
    assert planned(spec()) == SamplePlan(samples_so_far=0, message="no sample has been counted yet")


def test_the_rarest_challenger_is_what_one_waits_for() -> None:
    three = spec(traffic=traffic(v1=50, v2=25, v3=25), analysis={"sampleSize": 1_000})

    found = planned(three, entry(500), entry(200, version="v3"))

    assert (found.samples_so_far, found.samples_needed) == (200, 1_000)
    assert found.arrival_rate == 200
    assert found.eta == START + HOUR + 4 * HOUR


def test_the_end_is_given_to_the_minute() -> None:
    found = planned(spec(analysis={"sampleSize": 1_000}), entry(333))

    assert found.eta is not None
    assert (found.eta.second, found.eta.microsecond) == (0, 0)


def test_with_enough_samples_the_end_is_now() -> None:
    assert planned(spec(analysis={"sampleSize": 100}), entry(333)).eta == START + HOUR


def test_it_is_planned_from_the_value_seen_rather_than_from_the_guess() -> None:
    wanted = asked({"relative": 5}, baseline=0.5)

    assert planned(wanted, entry(10)).samples_needed == needed_per_arm(wanted, "v2", 0.2).champion
    assert (
        planned(wanted, entry(10, estimate=None)).samples_needed
        == needed_per_arm(wanted, "v2", 0.5).champion
    )


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (spec(), "planned once the champion has samples"),
        (asked(None, baseline=0.2), "spec.metrics[accuracy].minimumEffect: is needed for a plan"),
    ],
)
def test_what_is_missing_for_a_plan_is_said(wanted: ExperimentSpec, says: str) -> None:
    found = planned(wanted, entry(10, estimate=None))

    assert (found.samples_needed, found.eta, found.message) == (None, None, says)


def test_a_mean_needs_a_sample_size_of_its_own() -> None:
    wanted = spec(metrics=[{**AMOUNT, "minimumEffect": {"relative": 5}}])

    found = planned(wanted, entry(10))

    assert found.samples_needed is None
    assert found.message


def test_where_nothing_arrives_there_is_no_end_in_sight() -> None:
    found = planned(spec(analysis={"sampleSize": 100}), entry(0))

    assert (found.arrival_rate, found.eta) == (None, None)


def test_at_the_very_start_no_rate_is_known() -> None:
    found = planned(spec(analysis={"sampleSize": 100}), entry(10), after=timedelta(0))

    assert (found.arrival_rate, found.eta) == (None, None)


def test_an_end_after_a_lifetime_is_said_in_words() -> None:
    found = planned(asked({"relative": 0.001}), entry(100), after=30 * 24 * HOUR)

    assert found.samples_needed is not None
    assert found.samples_needed > 1e10
    assert found.eta is None
    assert found.message is not None
    assert found.message.endswith("samples per arm take over 10 years at this rate")
