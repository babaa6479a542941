"""`rollout.promote`: somebody's word that a challenger is to be rolled out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.status import Action, Phase, RiskLevel, Verdict
from tests.core.builders import ERRORS, Life, traffic

HOUR = timedelta(hours=1)
SOME = {"v1": (100, 50), "v2": (100, 52)}
BETTER = {"v1": (1_000, 500), "v2": (1_000, 600)}
MANUAL = {"onWin": "Manual", "steps": [75, 100]}
PROMOTE = {**MANUAL, "promote": "v2"}


def running(**fields: Any) -> Life:
    life = Life(**{"rollout": MANUAL, **fields})
    life.start()
    life.poll(SOME)
    life.events()
    return life


def won(grown: Mapping[str, tuple[float, float]] = BETTER, **fields: Any) -> Life:
    """An experiment whose challenger has won, and which waits for a word."""
    life = Life(**{"rollout": MANUAL, **fields})
    life.start()
    for _ in range(40):
        life.poll(grown)
    assert (life.status.phase, life.status.verdict) == (Phase.RUNNING, Verdict.CHALLENGER_BETTER)
    life.events()
    return life


def message(life: Life, type_: str = "Complete") -> str:
    found = life.status.condition(type_)
    assert found is not None
    return found.message


def reason(life: Life) -> str:
    assert life.status.decision is not None
    return life.status.decision.reason


def test_a_manual_winner_says_the_command_and_waits_for_longer_than_max_duration() -> None:
    life = won(analysis={"maxDuration": "1h"})
    life.poll(BETTER, after=2 * HOUR)

    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, {"v1": 50, "v2": 50})
    assert life.status.decision is not None
    assert life.status.decision.next_steps[0] == (
        "to roll v2 out: kubectl mexp promote fraud-v2 -n fraud (or set rollout.promote)"
    )
    assert life.status.summary.reason == "WaitsForPromote"
    assert "waits for rollout.promote" in message(life)


def test_with_several_challengers_the_command_names_the_winner() -> None:
    grown = {"v1": (400, 200), "v2": (400, 280), "v3": (200, 100)}
    life = won(grown, traffic=traffic(v1=40, v2=40, v3=20))

    assert life.status.decision is not None
    assert "promote fraud-v2 -n fraud --to v2 " in life.status.decision.next_steps[0]


def test_a_word_takes_the_winner_through_the_steps_to_everything() -> None:
    life = won()
    life.edit(rollout=PROMOTE)
    plan = life.decide(life.snapshot())

    assert (life.status.phase, plan.split) == (Phase.ROLLING_OUT, {"v1": 25, "v2": 75})
    assert life.events() == ["PromoteRequested", "RolloutStep"]
    assert reason(life).startswith("rollout.promote asks for v2, which has won: accuracy of v2")
    assert life.status.decision is not None
    assert life.status.decision.risk_level is RiskLevel.LOW

    life.poll(BETTER, after=HOUR)
    life.poll(BETTER, after=HOUR)
    assert (life.status.phase, life.status.routed_split) == (Phase.SUCCEEDED, {"v1": 0, "v2": 100})
    assert life.events() == ["RolloutStep", "Promoted", "Completed"]
    steps = life.status.decision.next_steps
    assert "which puts the route back as it was (to v1)" in steps[1]
    assert "v1's deployment can be removed" in steps[2]


def test_before_a_verdict_it_says_that_there_is_none() -> None:
    life = running()
    life.edit(rollout={"steps": [75, 100], "promote": "v2"})
    life.poll(SOME)

    assert (life.status.phase, life.status.verdict) == (Phase.ROLLING_OUT, Verdict.INCONCLUSIVE)
    assert reason(life).startswith("rollout.promote asks for v2 without a verdict for it: accuracy")
    assert life.status.decision is not None
    assert life.status.decision.risk_level is RiskLevel.MEDIUM
    life.poll(SOME, after=HOUR)
    plan = life.poll(SOME, after=HOUR)
    assert life.status.phase is Phase.SUCCEEDED
    assert plan.events[-1].message.startswith("v2 was promoted")


def test_before_the_first_sample_there_is_no_number_to_say() -> None:
    life = Life(rollout=PROMOTE)
    life.start()
    life.poll()

    assert life.status.phase is Phase.ROLLING_OUT
    assert reason(life).endswith("without a verdict for it: too few samples for an interval yet")


def test_full_is_at_once() -> None:
    life = running()
    life.edit(rollout={"onWin": "Full", "promote": "v2"})
    life.poll(SOME)

    assert life.status.phase is Phase.SUCCEEDED
    assert life.status.decision is not None
    assert life.status.decision.action is Action.FULL_ROLLOUT
    assert life.events() == ["PromoteRequested", "Promoted", "Completed"]


def test_where_the_arms_did_not_get_their_shares_it_goes_on_and_says_so() -> None:
    life = running()
    life.poll({"v1": (3000, 1500), "v2": (600, 300)})
    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.mismatch
    life.edit(rollout=PROMOTE)
    life.poll(SOME)

    assert life.status.phase is Phase.ROLLING_OUT
    assert "although no number can be trusted: v1 got 8" in reason(life)
    assert life.status.decision is not None
    assert life.status.decision.risk_level is RiskLevel.CRITICAL


def test_paused_it_waits_and_says_so() -> None:
    life = running()
    life.edit(paused=True)
    life.poll()
    life.edit(rollout=PROMOTE)
    life.poll()
    assert (life.status.phase, life.status.routed_split) == (Phase.PAUSED, {"v1": 50, "v2": 50})
    assert "rollout.promote v2 waits until the experiment is resumed" in message(life)

    life.edit(paused=False)
    life.poll()
    assert life.status.phase is Phase.ROLLING_OUT


def test_it_waits_for_guardrails_that_are_not_known_to_pass() -> None:
    life = Life(rollout=PROMOTE, guardrails=[ERRORS])
    life.start(errors=0.01)
    life.decide(life.snapshot())
    assert life.status.phase is Phase.RUNNING
    assert "rollout.promote v2 waits until every guardrail passes" in message(life)

    life.poll(errors="is empty")
    assert life.status.phase is Phase.RUNNING

    life.poll(errors=0.01)
    assert life.status.phase is Phase.ROLLING_OUT


def test_a_challenger_without_traffic_has_no_guardrail_to_wait_for() -> None:
    life = Life(rollout=MANUAL, guardrails=[ERRORS], traffic=traffic(v1=100, v2=0))
    life.start(errors=0.01)
    life.edit(rollout=PROMOTE)
    life.poll(errors=0.01)

    assert life.status.routed_split == {"v1": 25, "v2": 75}


def test_a_breach_in_a_step_rolls_back_and_the_same_word_is_not_followed_again() -> None:
    life = Life(rollout=PROMOTE, guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.01)
    assert life.status.phase is Phase.ROLLING_OUT
    life.poll(errors=0.5)
    assert (life.status.phase, life.status.routed_split) == (
        Phase.ROLLED_BACK,
        {"v1": 100, "v2": 0},
    )
    life.poll(errors=0.01, after=HOUR)
    assert life.status.phase is Phase.ROLLED_BACK

    life.edit(guardrails=[{**ERRORS, "max": 0.6}])
    for _ in range(3):
        life.poll(SOME, errors=0.01)
    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, {"v1": 50, "v2": 50})
    assert "rollout.promote v2 is of before this run and not followed" in message(life)

    life.edit(rollout=MANUAL)
    life.poll(SOME, errors=0.01)
    life.edit(rollout=PROMOTE)
    life.poll(SOME, errors=0.01)
    assert life.status.phase is Phase.ROLLING_OUT


def test_an_ended_experiment_does_not_follow_it() -> None:
    life = Life(rollout=MANUAL, guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.5)
    life.events()
    life.edit(rollout=PROMOTE)
    for _ in range(3):
        life.poll(errors=0.01)

    assert (life.status.phase, life.events()) == (Phase.ROLLED_BACK, [])
    assert message(life).endswith(
        "; rollout.promote v2 is not followed: the experiment had ended before"
    )


def test_what_was_set_after_the_end_is_not_followed_by_the_next_run_either() -> None:
    life = Life(rollout=MANUAL, guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.5)
    life.edit(rollout=PROMOTE, traffic=traffic(v1=60, v2=40))
    for _ in range(3):
        life.poll(SOME, errors=0.01)

    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, {"v1": 60, "v2": 40})
    assert "is of before this run and not followed" in message(life)


def test_stop_ends_a_promoted_rollout() -> None:
    life = running()
    life.edit(rollout=PROMOTE)
    life.poll()
    life.edit(stop=True)
    life.poll()

    assert (life.status.phase, life.status.routed_split) == (Phase.STOPPED, {"v1": 100, "v2": 0})


@pytest.mark.parametrize("paused", [False, True])
def test_taken_back_in_a_step_the_split_is_as_before(paused: bool) -> None:
    life = running()
    life.edit(rollout=PROMOTE, paused=paused)
    if paused:
        life.edit(paused=False)
    life.poll(SOME)
    life.edit(paused=paused)
    life.poll(SOME)
    life.events()
    life.edit(rollout=MANUAL)
    life.poll(SOME)

    assert life.status.phase is (Phase.PAUSED if paused else Phase.RUNNING)
    assert life.status.routed_split == {"v1": 50, "v2": 50}
    assert life.status.memory.split_since == life.now
    assert life.events() == ["PromoteRequested"]


def test_another_challenger_takes_the_place_of_the_one_before() -> None:
    life = running(traffic=traffic(v1=40, v2=40, v3=20))
    life.edit(rollout=PROMOTE)
    life.poll()
    life.edit(rollout={**MANUAL, "promote": "v3"})
    life.poll()

    assert life.status.routed_split == {"v1": 25, "v2": 0, "v3": 75}


def test_a_rollout_that_is_under_way_goes_on_where_it_is() -> None:
    life = running(rollout={"onWin": "Gradual", "steps": [60, 75, 100]})
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER)
    life.poll(after=HOUR)
    life.edit(rollout={"onWin": "Gradual", "steps": [60, 75, 100], "promote": "v2"})
    life.poll()

    assert life.status.routed_split == {"v1": 25, "v2": 75}
    assert life.status.memory.promoted == "v2"


def test_what_a_paused_rollout_serves_is_not_held_against_the_split() -> None:
    life = running()
    life.edit(rollout=PROMOTE)
    life.poll(SOME)
    life.edit(paused=True)
    for _ in range(5):
        life.poll({"v1": (250, 125), "v2": (750, 375)}, after=timedelta(minutes=1))

    assert life.status.phase is Phase.PAUSED
    assert life.status.sample_ratio is not None
    assert not life.status.sample_ratio.mismatch
