"""A challenger that is the shadow serves nobody before it agrees with the champion."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.mirroring import mirror_target
from modelexperiment.core.routing import Mirror
from modelexperiment.core.snapshot import Counted, Problem, RouteSeen
from modelexperiment.core.starting import wants_restart
from modelexperiment.core.status import Action, Phase, ShadowState
from tests.core.builders import ERRORS, ORIGINAL, POLL, START, spec, traffic
from tests.core.shadowed import AGREES, BESIDE, CHALLENGER, DIFFERS, Shadowed

ALL_V1 = {"v1": 100, "v2": 0}
HALVES = {"v1": 50, "v2": 50}
V2 = Mirror("v2", 30, "v2")
USERS = {"assignment": {"header": "x-user-id"}, "analysis": {"unit": "Request"}}


def shadowing(**fields: object) -> Shadowed:
    life = Shadowed(**{"shadow": CHALLENGER, **fields})
    life.poll(after=timedelta(0), errors=0.01)
    assert life.status.phase == "Shadowing"
    return life


def mirror(life: Shadowed) -> Mirror | None:
    assert life.plan is not None
    assert life.plan.routing is not None
    return life.plan.routing.mirror


def test_the_champion_keeps_everything_and_the_challenger_gets_copies() -> None:
    life = shadowing()

    assert life.events() == ["Shadowing"]
    assert life.status.memory.original_route == ORIGINAL
    assert (life.status.start_time, life.status.counted_until) == (None, None)
    assert life.status.summary.reason == "Shadowing"
    assert (life.status.routed_split, mirror(life)) == (ALL_V1, None)
    life.compare(10, 0)
    assert (life.status.routed_split, mirror(life)) == (ALL_V1, V2)
    assert life.condition("RoutesReady").message == (
        "routed: v1 100 / v2 0; v2 gets copies of 30 % of the requests"
    )
    assert life.condition("Complete").message.startswith(
        "not live yet: v2 is still being compared: 0 of 10 comparisons disagree, 0 % (at every"
    )


def test_once_it_agrees_it_goes_live_and_is_copied_to_no_more() -> None:
    life = shadowing()
    life.compare(50, 0)
    assert life.status.phase == "Shadowing"
    life.compare(*AGREES)

    assert life.status.phase is Phase.RUNNING
    assert life.status.routed_split == HALVES
    assert mirror(life) is None
    assert life.plan is not None
    assert life.plan.routing is not None
    assert life.plan.routing.retired == ("v2",)
    assert life.events() == ["Shadowing", "ShadowPassed", "Started"]
    # The experiment itself begins here, and nothing before counts.
    assert life.status.start_time == life.status.counted_until == life.now
    assert life.status.memory.split_since == life.now
    life.poll({"v1": (10.0, 5.0), "v2": (12.0, 6.0)})
    assert life.status.analysis[0].challenger.samples == 12
    assert (life.shadow.state, life.shadow.comparisons) == (ShadowState.PASS, 250)
    assert life.condition("ShadowAgrees").status == "True"
    assert mirror(life) is None


def test_where_it_differs_the_champion_is_kept_with_the_figures() -> None:
    life = shadowing()
    life.compare(*DIFFERS)

    assert life.status.phase is Phase.CHAMPION_KEPT
    assert life.status.routed_split == ALL_V1
    assert mirror(life) is None
    decided = life.status.decision
    assert decided is not None
    assert decided.action is Action.KEEP_CHAMPION
    assert decided.reason.startswith(
        "v2 differs too often from the champion: 60 of 200 comparisons disagree, 30 % (at every "
    )
    assert decided.reason.endswith("; limit 5 %")
    assert life.status.verdict is None
    assert life.events() == ["Shadowing", "ShadowDiverged", "Completed"]
    for type_ in ("Complete", "VerdictReached"):
        assert life.condition(type_).message == decided.reason
    assert life.condition("ShadowAgrees").status == "False"
    life.poll()
    assert life.events() == []


def test_without_an_answer_it_ends_after_max_duration() -> None:
    life = shadowing(analysis={"maxDuration": "1h"})
    life.compare(20, 1, after=timedelta(minutes=59))
    assert life.status.phase == "Shadowing"
    life.compare(0, 0, after=timedelta(minutes=1))

    assert life.status.phase is Phase.CHAMPION_KEPT
    assert life.status.decision is not None
    assert life.status.decision.reason.startswith(
        "analysis.maxDuration of 1h is over, and no answer of the shadow gate was found: v2 is "
        "still being compared: 1 of 20 comparisons disagree, 5 %"
    )


def test_without_data_it_goes_on_shadowing_and_says_what_is_missing() -> None:
    life = shadowing()
    for _ in range(20):
        life.compare(0, 0, silent=("spec.shadow.comparisons: compared_total{}",))

    assert life.status.phase == "Shadowing"
    assert life.status.routed_split == ALL_V1
    found = life.condition("ShadowAgrees")
    assert (found.status, found.reason) == ("Unknown", "NoSeries")


def test_guardrails_and_metrics_wait_for_traffic() -> None:
    life = shadowing(guardrails=[ERRORS], analysis={"guardrailTimeout": "1m"})
    for _ in range(20):
        life.compare(0, 0, errors="returns nothing")

    assert life.status.phase == "Shadowing"
    assert (life.status.guardrails, life.status.analysis) == ([], [])
    life.compare(*AGREES, errors=0.5)
    assert life.status.phase is Phase.RUNNING
    life.poll(errors=0.5)
    assert life.status.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize(
    "seen",
    [
        {"counted": Problem("PrometheusUnreachable", "down", bad_input=False)},
        {"counted": Counted(START, START, {}, silent=("spec.metrics[accuracy]: t",))},
        {"not_ready": {"v2": "the Service has no ready endpoints"}},
        {"route": RouteSeen(ALL_V1, ORIGINAL, pending=Problem("NotAccepted", "wait"))},
    ],
)
def test_it_goes_live_only_once_it_could_start_as_well(seen: dict[str, Any]) -> None:
    life = shadowing()
    life.compare(*AGREES, **seen)

    assert (life.status.phase, life.shadow.state) == (Phase.SHADOWING, ShadowState.PASS)
    assert life.plan is not None
    assert life.plan.split == ALL_V1
    life.compare(10, 0)
    assert life.status.phase is Phase.RUNNING


def test_a_pause_keeps_copying_and_lets_nothing_live() -> None:
    life = shadowing()
    life.edit(paused=True)
    life.compare(*AGREES)
    life.compare(*AGREES)

    assert (life.status.phase, life.shadow.state) == (Phase.PAUSED, ShadowState.PASS)
    assert (life.status.routed_split, mirror(life)) == (ALL_V1, V2)
    life.edit(paused=False)
    life.compare(10, 0)
    assert life.status.phase is Phase.RUNNING


def test_a_pause_before_an_answer_goes_back_to_shadowing() -> None:
    life = shadowing()
    life.edit(paused=True)
    life.compare(10, 0)
    life.edit(paused=False)
    life.compare(10, 0)

    assert life.status.phase == "Shadowing"
    assert life.shadow.comparisons == 20


def test_stop_ends_it_and_without_stop_it_shadows_again() -> None:
    life = shadowing()
    life.compare(50, 0)
    life.edit(stop=True)
    life.compare(10, 0)
    assert (life.status.phase, life.status.routed_split) == (Phase.STOPPED, ALL_V1)
    assert mirror(life) is None

    life.edit(stop=False)
    life.poll()
    assert (life.status.phase, life.shadow.comparisons) == (Phase.SHADOWING, 0)


def test_an_edit_of_the_split_counts_from_when_it_goes_live() -> None:
    life = shadowing()
    life.compare(50, 0)
    life.edit(traffic=traffic(v1=90, v2=10))
    life.compare(10, 0)
    assert (life.status.routed_split, life.shadow.comparisons) == (ALL_V1, 60)
    assert "SplitChanged" not in life.events()
    life.compare(*AGREES)
    assert life.status.routed_split == {"v1": 90, "v2": 10}


def test_taking_the_gate_out_lets_it_live() -> None:
    life = shadowing()
    life.compare(10, 0)
    life.edit(shadow=None)
    life.poll()

    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, HALVES)
    assert life.status.shadow is None
    assert life.status.condition("ShadowAgrees") is None


def test_another_shadow_beside_the_split_lets_it_live_too() -> None:
    life = shadowing()
    life.compare(10, 0)
    life.edit(shadow=BESIDE)
    life.poll()

    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, HALVES)
    assert (life.shadow.model_version, life.shadow.comparisons) == ("v3", 0)


def test_the_route_is_put_right_while_it_shadows() -> None:
    life = shadowing()
    life.compare(10, 0)
    life.events()
    life.compare(10, 0, route=RouteSeen(HALVES, ORIGINAL))

    assert life.plan is not None
    assert life.plan.split == ALL_V1
    assert life.events() == ["RouteCorrected"]


def test_a_promote_waits_and_says_for_what() -> None:
    life = shadowing(rollout={"promote": "v2", "onWin": "Full"})
    life.compare(10, 0)

    assert life.status.routed_split == ALL_V1
    assert life.condition("Complete").message.endswith(
        "rollout.promote v2 waits until the shadow agrees, or spec.shadow is taken out"
    )
    life.compare(*AGREES)
    life.poll({"v1": (10.0, 5.0), "v2": (12.0, 6.0)})
    assert life.status.phase is Phase.SUCCEEDED


def test_with_several_challengers_the_whole_split_waits() -> None:
    life = shadowing(traffic=traffic(v1=50, v2=25, v4=25))
    assert life.status.routed_split == {"v1": 100, "v2": 0, "v4": 0}
    life.compare(*AGREES)
    assert life.status.routed_split == {"v1": 50, "v2": 25, "v4": 25}


def test_after_an_end_another_limit_or_counter_tries_again_and_no_gate_does_not() -> None:
    life = shadowing()
    life.compare(*DIFFERS)
    ended, experiment = life.status, life.experiment

    def again(**fields: Any) -> bool:
        life.experiment = experiment
        life.edit(**fields)
        return wants_restart(life.experiment.spec, ended)

    assert again(shadow={**CHALLENGER, "maxDivergence": 0.5})
    assert again(shadow={**CHALLENGER, "comparisons": "others_total"})
    assert again(traffic=traffic(v1=40, v2=60))
    assert not again(shadow=None)
    assert not again(shadow={**CHALLENGER, "percent": 10})
    assert not again(shadow=CHALLENGER)


def test_what_starts_again_after_the_gate_has_ended_it_shadows_first() -> None:
    life = shadowing()
    life.compare(*DIFFERS)
    life.edit(shadow={**CHALLENGER, "maxDivergence": 0.5})
    life.poll()
    assert (life.status.phase, life.shadow.comparisons) == (Phase.SHADOWING, 0)
    life.compare(*DIFFERS)
    assert life.status.phase is Phase.RUNNING


def test_a_gate_that_comes_when_the_challenger_serves_holds_nothing_back() -> None:
    life = Shadowed()
    life.start()
    life.edit(shadow=CHALLENGER)
    life.poll({"v1": (10.0, 5.0), "v2": (12.0, 6.0)})

    assert (life.status.phase, life.status.routed_split) == (Phase.RUNNING, HALVES)
    assert mirror(life) is None
    found = life.condition("ShadowAgrees")
    assert (found.status, found.reason) == ("Unknown", "AlreadyLive")


def test_users_who_are_kept_are_copied_and_move_only_when_it_goes_live() -> None:
    life = shadowing(**USERS)
    life.compare(10, 0)

    assert life.plan is not None
    routing = life.plan.routing
    assert routing is not None
    assert routing.copies_users
    assert {segment.model_version for segment in routing.segments} == {"v1"}
    copied = sum(segment.slots for segment in routing.segments if segment.copied)
    assert copied == 0.3 * sum(segment.slots for segment in routing.segments)
    life.compare(*AGREES)
    routing = life.plan.routing if life.plan else None
    assert routing is not None
    assert routing.table is not None
    assert routing.table.split == HALVES
    assert not routing.copies_users


@pytest.mark.parametrize(
    ("route", "arm", "target"),
    [
        ({}, {"subset": "canary"}, "canary"),
        ({"route": {"gatewayAPI": {"httpRoute": "fraud"}}}, {"service": "fraud-v2"}, "fraud-v2"),
    ],
)
def test_what_is_copied_to_is_what_would_serve(
    route: dict[str, Any], arm: dict[str, str], target: str
) -> None:
    arms = [{"modelVersion": "v1", "percent": 90}, {"modelVersion": "v2", "percent": 10, **arm}]

    assert mirror_target(spec(traffic=arms, shadow=CHALLENGER, **route)) == target


def test_the_poll_goes_on_from_where_shadowing_began() -> None:
    life = shadowing()

    assert life.status.memory.shadow_until == life.shadow.since == START
    life.compare(10, 0)
    assert life.status.memory.shadow_until == START + POLL
