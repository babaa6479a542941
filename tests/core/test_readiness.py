"""Only ready versions get traffic: the split, the users' table, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.core.allocation import SegmentTable, Share
from modelexperiment.core.readiness import only_ready, routable
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem
from tests.core.builders import ERRORS, Life, spec, traffic

WHY = "none of 2 Pods is ready"
THREE = spec(traffic=traffic(v1=70, v2=20, v3=10))


@pytest.mark.parametrize(
    ("not_ready", "expected"),
    [
        ((), {"v1": 70, "v2": 20, "v3": 10}),
        (("v2",), {"v1": 90, "v2": 0, "v3": 10}),
        (("v2", "v3"), {"v1": 100, "v2": 0, "v3": 0}),
        (("v1",), {"v1": 70, "v2": 20, "v3": 10}),
        (("v1", "v2"), {"v1": 70, "v2": 20, "v3": 10}),
    ],
)
def test_shares_of_challengers_that_are_not_ready_stay_with_the_champion(
    not_ready: tuple[str, ...], expected: dict[str, float]
) -> None:
    assert routable(THREE, THREE.split, not_ready) == expected


def test_a_challenger_that_has_everything_leaves_it_to_the_champion() -> None:
    assert routable(spec(), {"v1": 0.0, "v2": 100.0}, ["v2"]) == {"v1": 100.0, "v2": 0.0}


def test_shares_with_decimals_sum_to_exactly_100() -> None:
    given = {"v1": 66.66, "v2": 33.33, "v3": 0.01}

    assert routable(THREE, given, ["v2"]) == {"v1": 99.99, "v2": 0.0, "v3": 0.01}


def test_only_users_of_the_version_that_is_not_ready_move() -> None:
    table = SegmentTable.initial(THREE.split, "v1", 32)

    routing = only_ready(THREE, Routing(THREE.split, table), ["v2"])

    assert routing is not None
    assert routing.table is not None
    assert routing.table.layout == (Share("v1", 2000), Share("v3", 1000), Share("v1", 7000))
    assert routing.table.split == {v: p for v, p in routing.split.items() if p}


@pytest.mark.parametrize("not_ready", [[], ["v1"], ["v1", "v2"]])
def test_nobody_moves_where_all_are_ready_or_the_champion_is_not(not_ready: list[str]) -> None:
    routing = Routing(THREE.split, SegmentTable.initial(THREE.split, "v1", 0))

    assert only_ready(THREE, routing, not_ready) is routing
    assert only_ready(THREE, None, not_ready) is None


def condition(life: Life) -> tuple[str, str, str]:
    found = life.status.condition("RoutesReady")
    assert found is not None
    return str(found.status), found.reason, found.message


def test_nothing_is_split_before_every_version_is_ready() -> None:
    life = Life()

    plan = life.poll(not_ready={"v2": WHY})

    assert (life.status.phase, plan.split) == ("Pending", None)
    text = f"v2 is not ready: {WHY}; the experiment starts once it is"
    assert condition(life) == ("False", "ArmNotReady", text)
    assert life.events() == ["ArmNotReady"]
    life.start()


def test_a_version_with_no_share_need_not_be_ready() -> None:
    Life(traffic=traffic(v1=50, v2=50, v3=0)).start(not_ready={"v3": WHY})


def test_a_version_that_is_not_ready_gets_nothing_until_it_is() -> None:
    life = Life(traffic=traffic(v1=90, v2=10))
    life.start()
    life.events()

    plan = life.poll(not_ready={"v2": WHY})

    assert plan.split == life.status.routed_split == {"v1": 100.0, "v2": 0.0}
    assert condition(life)[:2] == ("False", "ArmNotReady")
    assert f"v2 is not ready: {WHY}; its 10 % stay with v1 until" in condition(life)[2]
    assert life.events() == ["SplitChanged", "ArmNotReady"]

    life.poll(not_ready={"v2": WHY})
    assert life.events() == []

    plan = life.poll()

    assert plan.split == {"v1": 90.0, "v2": 10.0}
    assert condition(life)[0] == "True"
    assert life.events() == ["SplitChanged", "ArmReady"]


def test_the_shares_are_checked_against_what_was_routed() -> None:
    life = Life(traffic=traffic(v1=50, v2=50))
    life.start()
    half = {"v1": (5_000.0, 3_000.0), "v2": (5_000.0, 3_000.0)}
    for _ in range(3):
        life.poll(half)
    whole = {"v1": (10_000.0, 6_000.0), "v2": (0.0, 0.0)}
    for _ in range(4):
        life.poll(whole, not_ready={"v2": WHY})
    for _ in range(3):
        life.poll(half)

    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.expected == {"v1": 0.5, "v2": 0.5}
    assert not life.status.sample_ratio.mismatch


def test_guardrails_of_a_version_that_gets_nothing_do_not_time_out() -> None:
    life = Life(guardrails=[ERRORS], analysis={"guardrailTimeout": "1m"})
    life.start(readings=life.readings(0.01))

    for _ in range(10):
        life.poll(errors="returns nothing", not_ready={"v2": WHY})

    assert life.status.phase == "Running"


def test_where_the_champion_is_not_ready_nothing_moves_and_it_is_said() -> None:
    life = Life(traffic=traffic(v1=90, v2=10))
    life.start()

    plan = life.poll(not_ready={"v1": WHY, "v2": WHY})

    assert plan.split == {"v1": 90.0, "v2": 10.0}
    assert "its 90 % stay with it, for it is the champion" in condition(life)[2]
    assert "v2 is not ready" in condition(life)[2]
    assert "for the champion is not ready either" in condition(life)[2]


def test_a_rollback_goes_on_while_a_version_is_not_ready() -> None:
    life = Life(guardrails=[ERRORS], traffic=traffic(v1=50, v2=30, v3=20))
    life.start(readings=life.readings(0.01))
    readings = life.readings(0.5)

    plan = life.poll(not_ready={"v2": WHY}, readings=readings)

    assert life.status.phase == "RolledBack"
    assert plan.split == {"v1": 100.0, "v2": 0.0, "v3": 0.0}
    life.poll(not_ready={"v2": WHY})
    assert condition(life)[0] == "True"


STICKY: dict[str, Any] = {"assignment": {"header": "x-user-id"}}


def test_users_return_to_the_version_that_they_had() -> None:
    life = Life(traffic=traffic(v1=70, v2=20, v3=10), **STICKY)
    life.start()
    life.edit(traffic=traffic(v1=40, v2=30, v3=30))
    before = life.poll().routing
    kept = life.status.assignment

    away = life.poll(not_ready={"v2": WHY}).routing
    back = life.poll().routing

    assert before is not None
    assert away is not None
    assert away.table is not None
    assert away.table.split == {"v1": 70, "v3": 30}
    assert life.status.assignment == kept
    assert back == before


def test_readiness_that_cannot_be_read_is_said_and_changes_nothing() -> None:
    life = Life(traffic=traffic(v1=90, v2=10))
    life.start()

    plan = life.poll(readiness_error="API server: 403 pods is forbidden")

    assert plan.split == {"v1": 90.0, "v2": 10.0}
    assert condition(life)[0] == "True"
    assert "which versions are ready can't be read: API server: 403" in condition(life)[2]


def test_a_route_that_is_wrong_comes_first() -> None:
    life = Life()

    life.poll(route=Problem("RouteNotFound", "there is none"), not_ready={"v2": WHY})

    assert condition(life)[1] == "RouteNotFound"
