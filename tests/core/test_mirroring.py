"""A shadow: mirrored while the experiment is on, and whatever was mirrored can be taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.mirroring import by_user, mirror_target
from modelexperiment.core.routing import Mirror, Routing, in_place
from modelexperiment.core.snapshot import RouteSeen
from modelexperiment.core.status import Condition, Phase
from tests.core.builders import ERRORS, ORIGINAL, Life, spec

HALVES = {"v1": 50.0, "v2": 50.0}
SHADOW = {"modelVersion": "v3", "percent": 30}
V3 = Mirror("v3", 30, "v3")
SOME = {"v1": (100.0, 50.0), "v2": (100.0, 52.0)}
GATEWAY = {"gatewayAPI": {"httpRoute": "fraud"}}


def routing(life: Life) -> Routing:
    assert life.plan is not None
    assert life.plan.routing is not None
    return life.plan.routing


def routes_ready(life: Life) -> Condition:
    found = life.status.condition("RoutesReady")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({}, None),
        ({"shadow": SHADOW}, "v3"),
        ({"shadow": {**SHADOW, "subset": "canary", "service": "fraud-v3"}}, "canary"),
        ({"shadow": {**SHADOW, "subset": "canary"}, "route": GATEWAY}, "v3"),
        ({"shadow": {**SHADOW, "service": "fraud-v3"}, "route": GATEWAY}, "fraud-v3"),
    ],
)
def test_the_shadow_is_served_by_what_the_route_kind_knows(
    fields: dict[str, Any], target: str | None
) -> None:
    assert mirror_target(spec(**fields)) == target


def test_nothing_is_mirrored_before_the_status_tells_where_to() -> None:
    life = Life(shadow=SHADOW)

    life.start()
    assert routing(life).mirror is None
    assert life.status.memory.mirrored == ["v3"]

    life.poll(SOME)
    assert routing(life).mirror == V3
    assert routes_ready(life).message == (
        "routed: v1 50 / v2 50; v3 gets copies of 30 % of the requests"
    )


def test_another_shadow_ends_the_mirror_to_the_first() -> None:
    life = Life(shadow=SHADOW)
    life.start()
    life.poll(SOME)
    life.edit(shadow={"modelVersion": "v4"})

    life.poll(SOME)
    assert (routing(life).mirror, routing(life).retired) == (None, ("v3",))
    life.poll(SOME)
    assert (routing(life).mirror, routing(life).retired) == (Mirror("v4", 100, "v4"), ("v3",))
    assert life.status.memory.mirrored == ["v3", "v4"]


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.RUNNING])
def test_a_pause_keeps_the_mirror(phase: Phase) -> None:
    life = Life(shadow=SHADOW)
    life.start()
    life.edit(paused=phase is Phase.PAUSED)
    life.poll(SOME)

    assert life.status.phase is phase
    assert routing(life).mirror == V3


def test_the_mirror_ends_with_the_experiment() -> None:
    life = Life(shadow=SHADOW, guardrails=[ERRORS])
    life.start(readings=life_readings())
    life.poll(SOME, errors=0.01)
    assert routing(life).mirror == V3

    life.poll(SOME, errors=0.5)

    assert life.status.phase is Phase.ROLLED_BACK
    assert (routing(life).mirror, routing(life).retired) == (None, ("v3",))


def life_readings() -> Any:
    return Life(guardrails=[ERRORS]).readings(0.01)


def test_an_experiment_that_starts_again_remembers_what_it_mirrored_to() -> None:
    life = Life(shadow=SHADOW)
    life.start()
    life.poll(SOME)
    life.edit(stop=True)
    life.poll(SOME)
    life.edit(stop=False)
    life.poll(SOME)

    assert life.status.phase is Phase.RUNNING
    assert life.status.memory.mirrored == ["v3"]
    assert routing(life).mirror == V3


USERS = {"header": "x-user-id"}
# Nothing of this file is about buckets of users.
BY_REQUEST = {"unit": "Request"}


def test_where_users_are_kept_it_is_users_that_are_copied() -> None:
    life = Life(shadow=SHADOW, assignment=USERS, analysis=BY_REQUEST)
    life.start()
    life.poll(SOME)

    found = routing(life)
    assert (found.mirror, found.retired) == (Mirror("v3", 30, "v3", by_user=True), ("v3",))
    assert found.table is not None
    assert found.segments == tuple(found.table.mirrored(30))
    assert routes_ready(life).message.startswith(
        "routed: v1 50 / v2 50; v3 gets copies of the requests of 30 % of v1's users; users are "
    )


def test_copies_of_users_come_and_go_and_the_table_stays() -> None:
    life = Life(shadow=SHADOW, assignment=USERS, analysis=BY_REQUEST)
    life.start()
    life.poll(SOME)
    with_shadow, table = routing(life), life.status.assignment
    life.edit(shadow=None)
    life.poll(SOME)

    assert routing(life).mirror is None
    assert not in_place(seen_with(with_shadow), routing(life))
    assert in_place(seen_with(routing(life)), routing(life))
    assert life.status.assignment == table


def test_an_http_route_copies_requests_also_where_it_keeps_users() -> None:
    found = spec(shadow=SHADOW, assignment=USERS, analysis=BY_REQUEST, route=GATEWAY)

    assert not by_user(found)
    assert by_user(spec(shadow=SHADOW, assignment=USERS))
    assert not by_user(spec(shadow=SHADOW))


def seen_with(routing: Routing, **changes: Any) -> RouteSeen:
    found = RouteSeen(
        routing.split, ORIGINAL, routing.segments, True, copies_users=routing.copies_users
    )
    return replace(found, **changes)


def test_copies_of_users_are_in_place_with_their_entries_and_the_filter() -> None:
    table = SegmentTable.initial(HALVES, "v1", 64)
    wanted = Routing(HALVES, table, Mirror("v3", 30, "v3", by_user=True), ("v3",))

    assert in_place(seen_with(wanted), wanted)
    assert not in_place(seen_with(wanted, copies_users=False), wanted)
    assert not in_place(seen_with(wanted, segments=tuple(table.mirrored(31))), wanted)
    assert not in_place(seen_with(wanted, segments=tuple(table.segments)), wanted)
    assert not in_place(seen_with(wanted, mirrors={"v3": 30.0}), wanted)


@pytest.mark.parametrize(
    ("mirrors", "wanted", "there"),
    [
        ({}, Routing(HALVES), True),
        ({"theirs": 5.0}, Routing(HALVES), True),
        ({}, Routing(HALVES, mirror=V3), False),
        ({"v3": 30.0}, Routing(HALVES, mirror=V3), True),
        ({"v3": 29.0}, Routing(HALVES, mirror=V3), False),
        ({"v3": 30.0}, Routing(HALVES, retired=("v3",)), False),
        ({"v3": 30.0, "v4": 1.0}, Routing(HALVES, mirror=V3, retired=("v4",)), False),
        ({"theirs": 5.0}, Routing(HALVES, retired=("v3",)), True),
    ],
)
def test_a_route_is_in_place_with_its_mirror_and_without_old_ones(
    mirrors: dict[str, float], wanted: Routing, there: bool
) -> None:
    assert in_place(RouteSeen(HALVES, ORIGINAL, mirrors=mirrors), wanted) is there
