"""What sends the traffic back to the champion, and what freezes a verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modelexperiment.core.snapshot import Problem, Reading, RouteSeen
from modelexperiment.core.status import Action, Condition, Phase, RiskLevel
from tests.core.builders import ERRORS, ORIGINAL, POLL, Life, fell, traffic

ALL_TO_CHAMPION = {"v1": 100, "v2": 0}
HALVES = {"v1": 50, "v2": 50}
BETTER = {"v1": (1_000, 500), "v2": (1_000, 650)}
HOUR = timedelta(hours=1)
DOWN = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)


def guarded(**fields: object) -> Life:
    life = Life(**{"guardrails": [ERRORS], **fields})
    life.start(errors=0.01)
    life.events()
    return life


def condition(life: Life, type_: str) -> Condition:
    found = life.status.condition(type_)
    assert found is not None
    return found


def test_a_breach_sends_everything_to_the_champion_in_the_same_plan() -> None:
    life = guarded()

    plan = life.poll(errors=0.05)

    assert plan.split == ALL_TO_CHAMPION
    assert plan.status.phase is Phase.ROLLED_BACK
    assert plan.status.decision is not None
    assert (plan.status.decision.action, plan.status.decision.risk_level) == (
        Action.ROLLBACK,
        RiskLevel.CRITICAL,
    )
    assert life.events() == ["GuardrailBreached", "RolledBack"]
    assert condition(life, "GuardrailsHealthy").reason == "Breach"
    assert "0.05 is over the limit of 0.02" in life.status.summary.reason


def test_a_breach_comes_before_a_verdict_that_would_be_due() -> None:
    life = guarded(analysis={"minDuration": "5m"})
    for _ in range(10):
        life.poll(BETTER, errors=0.01)
    life.poll(BETTER, errors=0.05, after=HOUR)

    assert life.status.phase is Phase.ROLLED_BACK
    assert life.status.rollout is None


def test_a_breach_is_told_before_anything_that_was_counted() -> None:
    life = guarded()
    life.now += POLL
    counted = replace(life.counted({"v1": (10, 4), "v2": (11, 5)}), resets=(fell(20, 11),))
    life.poll(counted=counted, errors=0.05)

    assert life.events() == ["GuardrailBreached", "RolledBack", "CounterReset"]


def test_what_a_breaking_poll_has_counted_is_still_counted() -> None:
    life = guarded()
    life.poll({"v1": (10, 4), "v2": (11, 5)}, errors=0.05)

    assert life.status.analysis[0].challenger.samples == 11


def test_breaches_must_come_in_a_row_where_the_spec_says_so() -> None:
    life = guarded(guardrails=[{**ERRORS, "failureLimit": 3}])
    phases = []
    for errors in (0.05, 0.05, 0.01, 0.05, 0.05, 0.05):
        life.poll(errors=errors)
        phases.append(life.status.phase)

    assert phases == [Phase.RUNNING] * 5 + [Phase.ROLLED_BACK]


def test_a_breach_that_has_not_broken_yet_is_shown() -> None:
    life = guarded(guardrails=[{**ERRORS, "failureLimit": 3}])
    life.poll(errors=0.05)

    found = condition(life, "GuardrailsHealthy")
    assert (found.status, found.reason) == ("False", "Breach")
    assert found.message.endswith("breach 1 of 3 in a row that roll back")
    assert life.status.summary.guardrails == "1 Breach"


def test_it_stays_rolled_back_whatever_comes_later() -> None:
    life = guarded()
    life.poll(errors=0.05)
    life.events()
    before = life.status
    for _ in range(3):
        life.poll(BETTER, errors=0.01, after=HOUR)

    assert life.status == before
    assert life.events() == []


def test_a_breach_in_a_rollout_rolls_back() -> None:
    life = guarded(rollout={"onWin": "Gradual", "steps": [60, 100]})
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER, errors=0.01)
    assert life.status.routed_split == {"v1": 40, "v2": 60}

    plan = life.poll(errors=0.05)

    assert plan.split == ALL_TO_CHAMPION
    assert life.status.phase is Phase.ROLLED_BACK


def test_a_rollout_goes_no_step_on_while_its_guardrails_do_not_pass() -> None:
    life = guarded(
        guardrails=[{**ERRORS, "failureLimit": 9}],
        rollout={"onWin": "Gradual", "steps": [60, 100], "stepDuration": "1m"},
    )
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER, errors=0.01)
    at_step = {"v1": 40, "v2": 60}
    for errors in (DOWN, "returns nothing", 0.05):
        life.poll(errors=errors, after=timedelta(minutes=1))
        assert (life.status.phase, life.status.routed_split) == (Phase.ROLLING_OUT, at_step)

    life.poll(errors=0.01)
    assert life.status.routed_split == {"v1": 0, "v2": 100}


def test_a_challenger_that_is_not_rolled_out_is_not_missed() -> None:
    life = guarded(
        traffic=traffic(v1=40, v2=30, v3=30), rollout={"onWin": "Gradual", "steps": [60, 100]}
    )
    while life.status.phase is Phase.RUNNING:
        life.poll({"v1": (400, 200), "v2": (300, 195), "v3": (300, 150)}, errors=0.01)
    for _ in range(4):
        silent = (Reading("errors", "v2", 0.01), Reading("errors", "v3", None, "returns nothing"))
        life.poll(readings=silent, after=timedelta(minutes=5))

    assert life.status.phase is Phase.ROLLING_OUT
    assert life.status.summary.guardrails == "1 Pass"


def test_guardrails_stay_on_in_a_pause() -> None:
    life = guarded()
    life.edit(paused=True)
    life.poll(errors=0.01)
    assert life.status.phase is Phase.PAUSED

    assert life.poll(errors=0.05).split == ALL_TO_CHAMPION


def test_guardrails_stay_on_while_an_edit_is_refused() -> None:
    life = guarded()
    refused = Problem("NotSupported", "spec.shadow: not supported")

    life.poll(counted=refused, unsupported=refused, errors=0.05)

    assert life.status.phase is Phase.ROLLED_BACK


def test_an_outage_of_prometheus_is_no_breach_until_it_has_lasted() -> None:
    life = guarded()
    life.poll(counted=DOWN, errors=DOWN)
    found = condition(life, "GuardrailsHealthy")
    assert (life.status.phase, found.status) == (Phase.RUNNING, "Unknown")
    assert "after 5m of this: Rollback" in found.message

    life.poll(counted=DOWN, errors=DOWN, after=timedelta(minutes=4, seconds=59))
    assert life.status.phase is Phase.RUNNING

    plan = life.poll(counted=DOWN, errors=DOWN, after=timedelta(seconds=1))
    assert plan.split == ALL_TO_CHAMPION
    assert life.status.phase is Phase.ROLLED_BACK
    assert life.events() == ["ConfigInvalid", "RolledBack"]


def test_an_answer_in_time_starts_the_clock_again() -> None:
    life = guarded()
    for errors in (DOWN, 0.01, DOWN):
        life.poll(errors=errors, after=timedelta(minutes=4))

    assert life.status.phase is Phase.RUNNING


def test_a_silence_can_pause_instead_and_ends_with_it() -> None:
    life = guarded(analysis={"onGuardrailTimeout": "Pause"})
    for _ in range(3):
        life.poll(errors="returns nothing", after=timedelta(minutes=5))
    assert life.status.phase is Phase.PAUSED
    assert life.status.routed_split == HALVES
    assert life.events() == ["GuardrailBreached"]

    life.poll(errors=0.01)
    assert life.status.phase is Phase.RUNNING


def test_between_polls_a_silence_goes_on() -> None:
    life = guarded()
    life.poll(errors="returns nothing")
    life.now += timedelta(minutes=5)

    plan = life.decide(life.snapshot())

    assert plan.split == ALL_TO_CHAMPION


def test_each_challenger_has_guardrails_of_its_own() -> None:
    life = guarded(traffic=traffic(v1=50, v2=25, v3=25))
    life.poll(errors=0.05)

    assert [(g.model_version, g.breaches) for g in life.status.guardrails] == [("v2", 1), ("v3", 1)]
    assert life.status.routed_split == {"v1": 100, "v2": 0, "v3": 0}


LOPSIDED = {"v1": (1_000, 500), "v2": (700, 455)}


def test_a_sample_ratio_mismatch_freezes_the_verdict_and_is_told_once() -> None:
    life = Life()
    life.start()
    for _ in range(20):
        life.poll(LOPSIDED)

    assert life.status.phase is Phase.RUNNING
    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.mismatch
    assert life.status.analysis[0].significant
    assert life.status.verdict in (None, "Inconclusive")
    assert life.events() == ["Started", "SampleRatioMismatch"]
    found = condition(life, "SampleRatioHealthy")
    assert (found.status, found.reason) == ("False", "Mismatch")
    assert "v2 got 41.18 % instead of 50.00 %" in found.message
    assert life.status.summary.reason == "SampleRatioMismatch"


def test_as_configured_is_healthy() -> None:
    life = Life(traffic=traffic(v1=90, v2=10))
    life.start()
    assert condition(life, "SampleRatioHealthy").status == "Unknown"
    # Proxies may still have been getting the split in the first poll: it is not judged.
    life.poll({"v1": (500, 250), "v2": (500, 250)})
    assert condition(life, "SampleRatioHealthy").status == "Unknown"
    life.poll({"v1": (9_050, 4_500), "v2": (950, 500)})

    assert condition(life, "SampleRatioHealthy").status == "True"
    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.observed == {"v1": 0.905, "v2": 0.095}


def test_another_split_is_judged_by_its_own_shares() -> None:
    life = Life()
    life.start()
    life.poll({"v1": (1_000, 500), "v2": (1_000, 500)})
    life.edit(traffic=traffic(v1=80, v2=20))
    life.poll()
    for _ in range(5):
        life.poll({"v1": (8_000, 4_000), "v2": (2_000, 1_000)})

    assert life.status.sample_ratio is not None
    assert not life.status.sample_ratio.mismatch


def test_a_poll_that_holds_requests_of_both_splits_is_not_judged() -> None:
    life = Life()
    life.start()
    life.edit(traffic=traffic(v1=90, v2=10))
    life.decide(life.snapshot())
    life.poll({"v1": (5_000, 2_500), "v2": (5_000, 2_500)})

    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.observed == {}
    assert life.status.analysis[0].challenger.samples == 5_000


@pytest.mark.parametrize(
    ("edited", "grown"),
    [
        (traffic(v1=50, v2=50, v3=0), {"v1": (1_000, 500), "v2": (1_000, 500)}),
        (traffic(v1=60, v3=40), {"v1": (600, 300), "v3": (400, 200)}),
        (traffic(v1=100, v2=0, v3=0), {"v1": (1_000, 500)}),
    ],
    ids=["one gets nothing", "one is taken out", "the champion gets everything"],
)
def test_arms_may_come_and_go(
    edited: list[dict[str, object]], grown: dict[str, tuple[float, float]]
) -> None:
    life = Life(traffic=traffic(v1=50, v2=25, v3=25))
    life.start()
    life.poll({"v1": (500, 250), "v2": (250, 125), "v3": (250, 125)})
    life.edit(traffic=edited)
    for _ in range(3):
        life.poll(grown, after=POLL)

    assert life.status.phase is Phase.RUNNING
    assert life.status.sample_ratio is not None
    assert not life.status.sample_ratio.mismatch


def test_sticky_users_are_not_judged_as_requests() -> None:
    life = Life(assignment={"header": "x-user-id"})
    life.start()
    for _ in range(5):
        life.poll(LOPSIDED)

    assert life.status.sample_ratio is None


def test_a_rollout_is_not_judged_by_the_experiments_split() -> None:
    life = Life(rollout={"onWin": "Gradual", "steps": [90, 100]})
    life.start()
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER)
    life.poll({"v1": (1_000, 500), "v2": (9_000, 5_850)})

    assert life.status.sample_ratio is not None
    assert not life.status.sample_ratio.mismatch


def test_somebodys_edit_of_the_weights_is_put_right_and_told() -> None:
    life = guarded()
    life.route = RouteSeen({"v1": 0.0, "v2": 100.0}, ORIGINAL)

    plan = life.poll(errors=0.01)

    assert plan.split == HALVES
    assert [str(event.reason) for event in plan.events] == ["RouteCorrected"]
    assert plan.events[0].message == (
        "the route said v1 0 / v2 100 and was put back to v1 50 / v2 50"
    )


def test_traffic_that_goes_elsewhere_is_put_right_as_well() -> None:
    life = guarded()
    life.route = RouteSeen(None, ORIGINAL)

    plan = life.poll(errors=0.01)

    assert plan.events[0].message.startswith("the route said other destinations")


def test_a_route_that_is_gone_is_said_and_not_taken_for_an_edit() -> None:
    life = guarded()
    gone = Problem("VirtualServiceNotFound", "there is no VirtualService fraud/fraud")

    life.poll(errors=0.01, route=gone)

    assert life.events() == ["ConfigInvalid"]
    assert life.status.phase is Phase.RUNNING


def test_the_operators_own_change_of_the_split_is_nobodys_edit() -> None:
    life = guarded()
    life.poll(errors=0.05)

    assert "RouteCorrected" not in life.events()
