"""From intervals to a verdict, and from the verdict to what to do."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.core.decision import (
    Outcome,
    decision,
    gain,
    more_samples,
    outcome,
    percent,
    rolled_back,
    timed_out,
    within,
)
from modelexperiment.core.spec import Effect, ExperimentSpec, Role
from modelexperiment.core.status import (
    Action,
    ArmEstimate,
    Decision,
    Interval,
    MetricAnalysis,
    RiskLevel,
    SamplePlan,
    Verdict,
)
from tests.core.builders import ACCURACY, spec, traffic

NO_PLAN = SamplePlan(samples_so_far=0)
BASELINE = 0.5


def interval(effect: float, width: float, scale: float) -> Interval:
    return Interval(
        effect=effect * scale, lower=(effect - width) * scale, upper=(effect + width) * scale
    )


def entry(
    lift: float | None, width: float = 4, version: str = "v2", **fields: Any
) -> MetricAnalysis:
    """One challenger's primary metric: its lift in percent, significant where 0 is outside."""
    known = lift is not None
    return MetricAnalysis.model_validate(
        {
            "metric": "accuracy",
            "role": Role.PRIMARY,
            "modelVersion": version,
            "champion": ArmEstimate(samples=100, estimate=BASELINE),
            "challenger": ArmEstimate(samples=100, estimate=BASELINE),
            "relative": interval(lift, width, 1) if known else None,
            "absolute": interval(lift, width, BASELINE / 100) if known else None,
            "pValue": 0.004 if known else None,
            "correctedPValue": 0.004 if known else None,
            "significant": known and abs(lift) > width,
            "method": "exact",
            **fields,
        }
    )


def asked(**metric: Any) -> ExperimentSpec:
    return spec(metrics=[{**ACCURACY, **metric}])


DECREASE = asked(goal="Decrease")
TWO_CHALLENGERS = spec(traffic=traffic(v1=50, v2=25, v3=25))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        pytest.param(entry(10), Verdict.CHALLENGER_BETTER, id="the interval lies above 0"),
        pytest.param(entry(-10), Verdict.CHAMPION_BETTER, id="the interval lies below 0"),
        pytest.param(entry(3), Verdict.INCONCLUSIVE, id="the interval holds 0 and too much else"),
        pytest.param(entry(0.5), Verdict.NO_DIFFERENCE, id="the interval lies within +-5 %"),
        pytest.param(entry(None), Verdict.INCONCLUSIVE, id="no interval yet"),
        pytest.param(entry(10, withheld="too few"), Verdict.INCONCLUSIVE, id="withheld, though up"),
        pytest.param(
            entry(-10, withheld="too few"), Verdict.INCONCLUSIVE, id="withheld, though down"
        ),
    ],
)
def test_the_verdict_follows_the_interval(found: MetricAnalysis, verdict: Verdict) -> None:
    assert outcome(spec(), [found]).verdict is verdict


@pytest.mark.parametrize(
    ("lift", "verdict"),
    [
        (10, Verdict.CHAMPION_BETTER),
        (-10, Verdict.CHALLENGER_BETTER),
        (0.5, Verdict.NO_DIFFERENCE),
        (3, Verdict.INCONCLUSIVE),
    ],
)
def test_where_less_is_better_the_verdict_is_mirrored(lift: float, verdict: Verdict) -> None:
    assert outcome(DECREASE, [entry(lift)]).verdict is verdict


def test_only_the_primary_metric_decides() -> None:
    secondary = entry(50).model_copy(update={"role": Role.SECONDARY, "metric": "amount"})

    assert outcome(spec(), [secondary, entry(3)]).verdict is Verdict.INCONCLUSIVE


def test_without_a_minimum_effect_nothing_is_ever_no_difference() -> None:
    assert outcome(asked(minimumEffect=None), [entry(0.0, 0.01)]).verdict is Verdict.INCONCLUSIVE


V2, V3 = "v2", "v3"


@pytest.mark.parametrize(
    ("first", "second", "verdict", "leader"),
    [
        pytest.param(10, 15, Verdict.CHALLENGER_BETTER, V3, id="both win: the better one leads"),
        pytest.param(10, -10, Verdict.CHALLENGER_BETTER, V2, id="one winner is enough"),
        pytest.param(-10, -15, Verdict.CHAMPION_BETTER, V2, id="all must lose"),
        pytest.param(-10, 2, Verdict.INCONCLUSIVE, V3, id="one that may still win"),
        pytest.param(-10, 0.5, Verdict.NO_DIFFERENCE, V3, id="one equal, the other worse"),
        pytest.param(0.2, 0.5, Verdict.NO_DIFFERENCE, V3, id="both equal"),
        pytest.param(-10, None, Verdict.INCONCLUSIVE, V2, id="one not seen yet"),
        pytest.param(10, None, Verdict.CHALLENGER_BETTER, V2, id="a winner needs no other"),
    ],
)
def test_several_challengers(
    first: float | None, second: float | None, verdict: Verdict, leader: str
) -> None:
    found = outcome(TWO_CHALLENGERS, [entry(first), entry(second, version=V3)])

    assert (found.verdict, found.leader) == (verdict, leader)


def test_the_leader_itself_must_be_sure_though_another_already_is() -> None:
    unsure, sure = entry(12, 20), entry(10, version=V3)

    assert outcome(TWO_CHALLENGERS, [unsure, sure]).verdict is Verdict.INCONCLUSIVE


def test_the_reason_names_effect_interval_and_p_value() -> None:
    assert outcome(spec(), [entry(10)]).reason == (
        "accuracy of v2 +10.0 % (95 % interval +6.0 % to +14.0 %), p = 0.004"
    )


def test_the_reason_gives_the_metrics_own_units_where_no_lift_is_known() -> None:
    found = entry(10, relative=None)

    assert outcome(spec(), [found]).reason == (
        "accuracy of v2 +0.05 (95 % interval +0.03 to +0.07), p = 0.004"
    )


def test_the_reason_tells_why_a_verdict_is_withheld() -> None:
    why = "There are not yet 10 successes and failures."

    assert outcome(spec(), [entry(3, withheld=why)]).reason == why
    assert outcome(spec(), [entry(None, withheld=why)]).reason == why
    assert outcome(spec(), [entry(None)]).reason == "too few samples for an interval yet"


@pytest.mark.parametrize(
    ("smallest", "expected"),
    [
        (Effect(relative=5), True),
        (Effect(relative=4.4), False),
        (Effect(absolute=0.025), True),
        (Effect(absolute=0.02), False),
        (None, False),
    ],
)
def test_within_takes_the_minimum_effect_in_its_own_unit(
    smallest: Effect | None, expected: bool
) -> None:
    assert within(entry(0.5), smallest) is expected


def test_an_interval_that_is_not_known_lies_within_nothing() -> None:
    assert not within(entry(0.5, relative=None), Effect(relative=50))


@pytest.mark.parametrize(
    ("found", "asked_for", "expected"),
    [
        (entry(10), spec(), 10),
        (entry(10), DECREASE, -10),
        (entry(None), spec(), None),
    ],
)
def test_gain_is_positive_where_it_is_an_improvement(
    found: MetricAnalysis, asked_for: ExperimentSpec, expected: float | None
) -> None:
    assert gain(asked_for, found) == expected


def decided(asked_for: ExperimentSpec, found: MetricAnalysis) -> Decision:
    return decision(asked_for, outcome(asked_for, [found]), [found], NO_PLAN)


@pytest.mark.parametrize(
    ("lift", "minimum", "action", "risk"),
    [
        pytest.param(21, None, Action.FULL_ROLLOUT, RiskLevel.MEDIUM, id="over 20 %"),
        pytest.param(20, None, Action.GRADUAL_ROLLOUT, RiskLevel.LOW, id="20 %"),
        pytest.param(5.1, None, Action.GRADUAL_ROLLOUT, RiskLevel.LOW, id="over 5 %"),
        pytest.param(5, None, Action.KEEP_CHAMPION, RiskLevel.LOW, id="5 %"),
        pytest.param(
            4.5, {"relative": 4.5}, Action.GRADUAL_ROLLOUT, RiskLevel.LOW, id="the minimum effect"
        ),
        pytest.param(
            4.4, {"relative": 4.5}, Action.KEEP_CHAMPION, RiskLevel.LOW, id="under the minimum"
        ),
        pytest.param(
            4.5, {"absolute": 0.0225}, Action.GRADUAL_ROLLOUT, RiskLevel.LOW, id="minimum, absolute"
        ),
        pytest.param(
            4.4, {"absolute": 0.0225}, Action.KEEP_CHAMPION, RiskLevel.LOW, id="under it, absolute"
        ),
    ],
)
@pytest.mark.parametrize("goal", ["Increase", "Decrease"])
def test_where_the_spec_leaves_it_open_the_lift_decides(
    goal: str, lift: float, minimum: dict[str, float] | None, action: Action, risk: RiskLevel
) -> None:
    won = entry(lift if goal == "Increase" else -lift, width=1)

    found = decided(asked(goal=goal, minimumEffect=minimum), won)

    assert (found.action, found.risk_level) == (action, risk)


@pytest.mark.parametrize(
    ("on_win", "action", "step"),
    [
        ("Full", Action.FULL_ROLLOUT, "v2 gets all traffic now"),
        (
            "Gradual",
            Action.GRADUAL_ROLLOUT,
            "v2 is rolled out to 100 %; guardrails stay on",
        ),
        (
            "Manual",
            Action.GRADUAL_ROLLOUT,
            "set rollout.promote to v2 to roll it out",
        ),
    ],
)
def test_what_the_spec_says_comes_before_the_lift(on_win: str, action: Action, step: str) -> None:
    found = decided(spec(rollout={"onWin": on_win}), entry(2, width=1))

    assert (found.action, found.next_steps) == (action, [step])


def test_a_win_too_small_to_be_worth_it_says_so() -> None:
    found = decided(asked(minimumEffect={"relative": 5}), entry(2, width=1))

    assert found.reason.endswith("significant, but too small to be worth a rollout")
    assert found.next_steps == [
        "to roll out all the same, apply the experiment anew with rollout.onWin Gradual"
    ]


@pytest.mark.parametrize(
    ("lift", "steps"),
    [(-10, 1), (0.5, 2)],
    ids=["the champion is better", "there is no difference"],
)
def test_without_a_winner_the_champion_stays(lift: float, steps: int) -> None:
    found = decided(spec(), entry(lift))

    assert found.action is Action.KEEP_CHAMPION
    assert found.next_steps[0].startswith("v1 keeps all traffic")
    assert len(found.next_steps) == steps


def test_without_a_verdict_the_test_goes_on() -> None:
    plan = SamplePlan(samples_needed=5_000, samples_so_far=3_000, arrival_rate=250)

    found = decision(spec(), outcome(spec(), [entry(3)]), [entry(3)], plan)

    assert found.action is Action.EXTEND_TEST
    assert found.next_steps == ["2,000 more samples per arm, about 8.0 hours at 6,000 a day"]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (SamplePlan(samples_so_far=0), "wait for more samples"),
        (SamplePlan(samples_so_far=0, message="is needed for a plan"), "is needed for a plan"),
        (SamplePlan(samples_needed=100, samples_so_far=40), "60 more samples per arm"),
        (
            SamplePlan(samples_needed=100, samples_so_far=40, arrival_rate=600),
            "60 more samples per arm, about 6 minutes at 14,400 a day",
        ),
        (
            SamplePlan(samples_needed=1_000, samples_so_far=40, arrival_rate=10),
            "960 more samples per arm, about 4.0 days at 240 a day",
        ),
    ],
)
def test_what_is_missing_is_said_in_numbers(plan: SamplePlan, text: str) -> None:
    assert more_samples(spec(), plan) == text


@pytest.mark.parametrize("so_far", [100, 101])
def test_past_the_plan_it_says_that_the_plan_did_not_hold(so_far: int) -> None:
    plan = SamplePlan(samples_needed=100, samples_so_far=so_far)

    assert more_samples(spec(), plan).startswith("the planned 100 samples per arm are there")


def test_a_rollback_is_critical_and_names_the_challenger() -> None:
    found = rolled_back("guardrail errors broke", "v2")

    assert (found.action, found.risk_level) == (Action.ROLLBACK, RiskLevel.CRITICAL)
    assert "v2" in found.next_steps[0]


def test_a_time_out_keeps_the_champion_and_tells_how_it_stood() -> None:
    found = timed_out(spec(), Outcome(Verdict.INCONCLUSIVE, "v2", "accuracy of v2 +3.0 %"))

    assert found.action is Action.KEEP_CHAMPION
    assert found.reason.endswith("at the end: accuracy of v2 +3.0 %")


@pytest.mark.parametrize(
    ("value", "text"), [(4.25, "+4.2 %"), (-0.04, "+0.0 %"), (99.5, "+100 %"), (-250, "-250 %")]
)
def test_percents_have_as_many_decimals_as_one_reads(value: float, text: str) -> None:
    assert percent(value) == text
