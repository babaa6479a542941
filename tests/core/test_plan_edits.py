"""Pause, stop, and what an edit of the spec means for an experiment that is on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.plan import decide, finish_rollback
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.core.status import Action, Phase, Verdict
from tests.core.builders import ACCURACY, ERRORS, ORIGINAL, Life, traffic

HOUR = timedelta(hours=1)
SOME = {"v1": (100, 50), "v2": (100, 52)}
BETTER = {"v1": (1_000, 500), "v2": (1_000, 600)}
OTHER = {**ACCURACY, "proportion": {"successes": "other_total", "trials": "labelled_total"}}
RECALL = {**ACCURACY, "name": "recall", "role": "Secondary"}


def running(**fields: Any) -> Life:
    life = Life(**fields)
    life.start()
    life.poll(SOME)
    life.events()
    return life


def test_a_pause_keeps_the_split_and_decides_nothing() -> None:
    life = running()
    life.edit(paused=True)
    for _ in range(40):
        life.poll(BETTER)

    assert life.status.phase is Phase.PAUSED
    assert life.status.routed_split == {"v1": 50, "v2": 50}
    assert life.status.analysis[0].champion.samples == 40_100


def test_a_pause_ends_where_it_began() -> None:
    life = running()
    life.edit(paused=True)
    life.poll()
    life.edit(paused=False)
    life.poll()

    assert life.status.phase is Phase.RUNNING


def test_a_paused_rollout_stays_at_its_step_and_goes_on_from_there() -> None:
    life = running(traffic=traffic(v1=50, v2=50), rollout={"onWin": "Gradual", "steps": [75, 100]})
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER)
    life.edit(paused=True)
    life.poll(after=HOUR)
    life.poll(after=HOUR)
    assert (life.status.phase, life.status.routed_split) == (Phase.PAUSED, {"v1": 25, "v2": 75})

    life.edit(paused=False)
    life.poll()
    assert life.status.phase is Phase.ROLLING_OUT


def test_stop_gives_everything_to_the_champion() -> None:
    life = running()
    life.edit(stop=True)
    plan = life.poll()

    assert plan.split == {"v1": 100, "v2": 0}
    assert (life.status.phase, life.events()) == (Phase.STOPPED, ["Completed"])
    complete = life.status.condition("Complete")
    assert complete is not None
    assert (complete.status, complete.reason) == ("True", "Stopped")


def test_stop_ends_a_pause_and_a_rollout_as_well() -> None:
    life = running(rollout={"onWin": "Gradual"})
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER)
    life.edit(paused=True)
    life.poll()
    life.edit(stop=True)
    life.poll()

    assert (life.status.phase, life.status.rollout) == (Phase.STOPPED, None)


def test_a_stop_that_is_taken_back_starts_again_from_nothing() -> None:
    life = running()
    life.edit(stop=True)
    life.poll()
    life.edit(stop=False)
    life.poll(after=HOUR)

    assert life.status.phase is Phase.RUNNING
    assert life.status.start_time == life.now
    assert life.status.analysis == []
    assert life.events() == ["Completed", "Started"]
    assert life.status.memory.original_route == ORIGINAL


def test_another_split_takes_effect_at_once_and_opens_a_new_phase_of_the_count() -> None:
    life = running()
    life.edit(traffic=traffic(v1=90, v2=10))
    plan = life.decide(life.snapshot())

    assert plan.split == {"v1": 90, "v2": 10}
    assert life.status.memory.split_since == life.now
    assert [event.message for event in plan.events] == [
        "v1 50 / v2 50 became v1 90 / v2 10: a new phase of the count"
    ]

    life.poll({"v1": (90, 45), "v2": (10, 5)})
    assert life.events() == ["SplitChanged"]
    assert life.status.analysis[0].champion.samples == 190


def test_the_same_split_written_otherwise_is_no_change() -> None:
    life = running()
    life.edit(traffic=traffic(v2=50, v1=50), champion="v1")
    life.poll()

    assert life.events() == []


def test_what_waits_for_more_samples_is_counted_under_its_own_split() -> None:
    # A single sample can't be compared: it waits for the next poll, but not beyond a new split.
    life = running()
    life.poll({"v1": (1, 1), "v2": (1, 1)})
    life.edit(traffic=traffic(v1=90, v2=10))
    life.poll({"v1": (90, 45), "v2": (10, 5)})
    state = life.status.memory.comparisons["accuracy/v2"]

    assert "pending" not in state
    assert state["samples"] == [191, 111]


def test_another_metric_starts_anew_and_says_so_once() -> None:
    life = running()
    life.edit(metrics=[OTHER])
    for _ in range(3):
        life.decide(life.snapshot())
    assert life.events() == ["MetricRestarted"]

    life.poll({"v1": (10, 5), "v2": (10, 5)})
    assert life.status.analysis[0].champion.samples == 10
    assert life.events() == []


def test_what_another_metric_has_not_touched_goes_on() -> None:
    life = running(metrics=[ACCURACY, RECALL])
    life.edit(metrics=[OTHER, RECALL])
    life.poll()

    assert [entry.metric for entry in life.status.analysis] == ["recall"]
    assert list(life.status.memory.comparisons) == ["recall/v2"]


def test_no_verdict_comes_from_what_was_seen_of_another_metric() -> None:
    # The numbers say that v2 is better, and asked the other way round they would say it is worse.
    life = running(rollout={"onWin": "Manual"})
    while life.status.verdict is not Verdict.CHALLENGER_BETTER:
        life.poll(BETTER)
    life.edit(metrics=[{**ACCURACY, "goal": "Decrease"}])
    life.poll()

    assert (life.status.phase, life.status.verdict) == (Phase.RUNNING, Verdict.INCONCLUSIVE)


def test_a_new_metric_begins_and_one_that_is_gone_is_forgotten() -> None:
    life = running(metrics=[ACCURACY, RECALL])
    life.edit(metrics=[ACCURACY])
    life.poll(SOME)
    assert [entry.metric for entry in life.status.analysis] == ["accuracy"]
    assert list(life.status.memory.comparisons) == ["accuracy/v2"]

    life.edit(metrics=[ACCURACY, RECALL])
    life.poll(SOME)
    assert [(e.metric, e.champion.samples) for e in life.status.analysis] == [
        ("accuracy", 300),
        ("recall", 0),
    ]
    assert life.events() == []


def test_another_minimum_effect_keeps_what_was_counted() -> None:
    life = running()
    life.edit(metrics=[{**ACCURACY, "minimumEffect": {"relative": 1}}])
    life.poll(SOME)

    assert life.status.analysis[0].champion.samples == 200


@pytest.mark.parametrize(
    "change",
    [
        {"traffic": traffic(v1=80, v2=20)},
        {"guardrails": [{**ERRORS, "max": 0.5}]},
        {"analysis": {"alpha": 0.01}},
    ],
    ids=["another split", "another guardrail", "another analysis"],
)
def test_a_rolled_back_experiment_starts_again_once_it_is_asked_something_else(
    change: dict[str, Any],
) -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(SOME, errors=0.1)
    assert life.status.phase is Phase.ROLLED_BACK
    life.events()

    life.edit(**change)
    life.poll(errors=0.01)

    assert life.status.phase is Phase.RUNNING
    assert life.events() == ["Started"]
    assert life.status.routed_split == life.experiment.spec.split
    assert life.status.decision is not None
    assert life.status.decision.action is Action.EXTEND_TEST
    assert life.status.guardrails[0].breaches == 0
    assert life.status.memory.original_route == ORIGINAL


def test_a_rollback_under_a_split_that_was_edited_before_it_stays() -> None:
    """What was edited while it ran has been asked already, and is no reason to start again."""
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.edit(traffic=traffic(v1=80, v2=20))
    life.poll(errors=0.01)
    life.poll(errors=0.1)
    assert life.status.phase is Phase.ROLLED_BACK

    life.poll(errors=0.01)
    assert life.status.phase is Phase.ROLLED_BACK
    # Nor one that is seen for the first time by the poll that finds the breach.
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.edit(traffic=traffic(v1=80, v2=20))
    life.poll(errors=0.1)
    life.poll(errors=0.01)
    assert life.status.phase is Phase.ROLLED_BACK


def test_nor_does_one_start_again_whose_status_was_written_late() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.edit(traffic=traffic(v1=80, v2=20))
    before = life.status
    decided = life.poll(errors=0.1)

    finished = finish_rollback(before, decided).status
    assert finished.phase is Phase.ROLLED_BACK
    later = life.snapshot(counted=life.counted(), readings=life.readings(0.01))
    assert decide(life.experiment, finished, later).status.phase is Phase.ROLLED_BACK


def test_nor_one_whose_rollback_is_finished_by_what_the_route_tells() -> None:
    """Killed between the route and the status, by the first poll that saw an edit."""
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.edit(traffic=traffic(v1=80, v2=20))
    before = life.status
    decided = life.poll(errors=0.1)
    assert decided.routing is not None
    route = RouteSeen(decided.split, ORIGINAL, marker=decided.routing.marker)

    later = life.snapshot(counted=life.counted(), readings=life.readings(0.01), route=route)
    assert decide(life.experiment, before, later).status.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(
    "change", [{"rollout": {"onWin": "Full"}}, {"paused": True}], ids=["rollout", "paused"]
)
def test_it_does_not_for_what_asks_nothing_else(change: dict[str, Any]) -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.1)
    life.edit(**change)
    life.poll(errors=0.01)

    assert life.status.phase is Phase.ROLLED_BACK


def test_until_it_starts_again_it_is_not_complete_for_the_new_spec() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.1)
    life.edit(traffic=traffic(v1=80, v2=20))
    life.decide(life.snapshot())
    complete = life.status.condition("Complete")

    assert complete is not None
    assert (complete.status, complete.reason) == ("False", "StartsAgain")
    assert complete.observed_generation == 2
    assert complete.message.endswith("so that it starts again: with the next poll")

    life.decide(life.snapshot(route=Problem("RouteNotFound", "no such route")))
    complete = life.status.condition("Complete")
    assert complete is not None
    assert complete.message.endswith("so that it starts again: no such route")


def test_a_default_that_is_written_out_asks_nothing_new() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.1)
    life.edit(analysis={"alpha": 0.05}, guardrails=[{**ERRORS, "failureLimit": 1}])
    life.poll(errors=0.01)

    assert life.status.phase is Phase.ROLLED_BACK


def test_it_does_not_while_it_is_stopped_or_something_is_in_the_way() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(errors=0.1)
    life.edit(traffic=traffic(v1=80, v2=20), stop=True)
    life.poll(errors=0.01)
    assert life.status.phase is Phase.ROLLED_BACK

    life.edit(stop=False)
    life.poll(errors=0.01, route=Problem("RouteNotFound", "no such route"))
    assert life.status.phase is Phase.ROLLED_BACK

    life.decide(life.snapshot())
    assert life.status.phase is Phase.ROLLED_BACK

    life.poll(errors=0.01)
    assert life.status.phase is Phase.RUNNING
