"""The users' table from split to split: in the status, in the route, after rollbacks and edits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.allocation import SegmentTable, moved
from modelexperiment.core.plan import decide
from modelexperiment.core.proof import HOLDS, due, route_id
from modelexperiment.core.routing import Routing, in_place
from modelexperiment.core.snapshot import Problem, Proof, RouteSeen
from modelexperiment.core.status import Phase
from tests.core.builders import ERRORS, ORIGINAL, Life, traffic

HOUR = timedelta(hours=1)
BETTER = {"v1": (1_000, 500), "v2": (1_000, 600)}
USERS = {"header": "x-user-id"}
REQUESTS = {"unit": "Request"}


def running(**fields: Any) -> Life:
    life = Life(**{"assignment": USERS, "analysis": REQUESTS, **fields})
    life.start()
    life.events()
    return life


def routing(life: Life) -> Routing:
    assert life.plan is not None
    assert life.plan.routing is not None
    return life.plan.routing


def table(life: Life) -> SegmentTable:
    found = routing(life).table
    assert found is not None
    return found


def remembered(life: Life) -> SegmentTable:
    assert life.status.assignment is not None
    return life.status.assignment.table


def test_the_first_table_is_in_the_route_and_in_the_status() -> None:
    life = running(traffic=traffic(v1=90, v2=10))

    assert table(life) == remembered(life) == SegmentTable.initial({"v1": 90, "v2": 10}, "v1", 64)
    assert life.status.dump()["assignment"] == {
        "header": "x-user-id",
        "salt": "fraud/fraud-v2",
        "buckets": 64,
        "champion": "v1",
        "layout": [
            {"modelVersion": "v2", "slots": 1000},
            {"modelVersion": "v1", "slots": 9000},
        ],
    }


def test_without_assignment_there_is_no_table() -> None:
    life = running(assignment=None)

    assert routing(life).table is None
    assert life.status.assignment is None


def test_another_split_moves_only_who_must() -> None:
    life = running(traffic=traffic(v1=80, v2=10, v3=10))
    before = table(life)
    life.edit(traffic=traffic(v1=60, v2=20, v3=20))
    life.poll()

    assert moved(before, table(life)) == {("v1", "v2"): 10, ("v1", "v3"): 10}
    assert remembered(life) == table(life)


def test_a_rollback_is_no_move_and_the_same_split_finds_everybody_where_they_were() -> None:
    life = running(traffic=traffic(v1=70, v2=30), guardrails=[ERRORS])
    life.edit(traffic=traffic(v1=40, v2=60))
    life.poll(errors=0.001)
    before = table(life)
    life.poll(errors=0.5)
    assert life.status.phase is Phase.ROLLED_BACK
    assert {share.model_version for share in table(life).layout} == {"v1"}
    assert table(life).total == before.total
    assert remembered(life) == before

    life.edit(analysis={**REQUESTS, "alpha": 0.01})
    life.poll(errors=0.001)
    assert life.status.phase is Phase.RUNNING
    assert table(life) == before


def test_a_rollout_that_is_rolled_back_finds_the_experiments_own_table_again() -> None:
    """With three versions the last step's table does not tell who had which before."""
    life = running(
        traffic=traffic(v1=70, v2=10, v3=20),
        guardrails=[ERRORS],
        rollout={"onWin": "Gradual", "steps": [25, 50, 100]},
    )
    own = table(life)
    while life.status.phase is Phase.RUNNING:
        life.poll({"v1": (700, 350), "v2": (100, 60), "v3": (200, 100)}, errors=0.001)
    life.poll(after=HOUR, errors=0.001)
    assert table(life).split == {"v2": 50, "v1": 50}
    assert remembered(life) == table(life)
    assert own.moved_to({"v1": 50, "v2": 50}).moved_to(own.split) != own

    life.poll(errors=0.5)
    assert life.status.phase is Phase.ROLLED_BACK
    life.edit(analysis={**REQUESTS, "alpha": 0.01})
    life.poll(errors=0.001)
    assert table(life) == own
    assert life.status.memory.layout == []


def test_a_promotion_gives_everybody_the_winner() -> None:
    life = running(rollout={"onWin": "Full"})
    while life.status.phase is Phase.RUNNING:
        life.poll(BETTER)

    assert life.status.phase is Phase.SUCCEEDED
    assert table(life).split == {"v2": 100}


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ({**USERS, "salt": "another"}, "header x-user-id with the salt 'another'"),
        ({"cookie": "uid"}, "now kept by cookie uid"),
        ({**USERS, "buckets": 32}, "64 hash buckets became 32: nobody moves"),
        (None, "are now routed at random"),
    ],
)
def test_another_draw_is_said_and_the_metrics_start_anew(
    assignment: dict[str, Any] | None, says: str
) -> None:
    life = running(analysis={"unit": "User"} if assignment else REQUESTS, metrics=[LABELLED])
    life.poll({"v1": (100, 50), "v2": (100, 52)})
    life.events()
    life.edit(assignment=assignment)
    plan = life.poll()

    (told,) = [e.message for e in plan.events if e.reason == "SplitChanged"]
    assert says in told
    assert "MetricRestarted" in life.events()
    assert life.status.memory.split_since == life.now
    life.poll()
    assert life.events() == []


LABELLED = {
    "name": "accuracy",
    "role": "Primary",
    "proportion": {"successes": "correct_total", "trials": "labelled_total"},
}


def test_where_the_proof_is_looked_for_is_no_part_of_the_question() -> None:
    life = running()
    life.edit(stop=True)
    life.poll()
    life.edit(stop=False, assignment={**USERS, "probe": {"url": "http://a"}})
    life.poll()
    before = life.status.memory.purpose
    life.edit(assignment={**USERS, "probe": {"url": "http://b"}})
    life.poll()
    assert life.status.memory.purpose == before


def test_a_route_is_in_place_only_with_order_stamps_and_filter() -> None:
    life = running()
    seen, wanted = life.route, routing(life)
    assert isinstance(seen, RouteSeen)
    assert seen.segments is not None

    assert in_place(seen, wanted)
    assert not in_place(replace(seen, segments=seen.segments[::-1]), wanted)
    assert not in_place(replace(seen, segments=None), wanted)
    assert not in_place(replace(seen, sticky=None), wanted)
    assert not in_place(seen, Routing(wanted.split))
    assert not in_place(replace(seen, split={"v1": 10, "v2": 90}), wanted)
    assert in_place(RouteSeen(wanted.split, ORIGINAL), Routing(wanted.split))


AMBIENT = Problem("AmbientMesh", "users can't be kept")


def test_users_who_can_not_be_kept_keep_the_experiment_from_starting() -> None:
    life = Life(assignment=USERS)
    life.poll(route=RouteSeen({"v1": 100, "v2": 0}, ORIGINAL, unsticky=AMBIENT))

    assert life.status.phase is Phase.PENDING
    assert reason(life) == ("False", "AmbientMesh")
    assert "ConfigInvalid" in life.events()


def test_users_who_can_not_be_kept_any_more_are_said() -> None:
    life = running()
    assert isinstance(life.route, RouteSeen)
    life.poll(route=replace(life.route, unsticky=AMBIENT))

    assert life.status.phase is Phase.RUNNING
    assert reason(life) == ("False", "AmbientMesh")


def reason(life: Life) -> tuple[str, str]:
    found = life.status.condition("RoutesReady")
    assert found is not None
    return found.status, found.reason


def test_only_a_proof_of_just_this_route_makes_it_sticky() -> None:
    life = running()
    assert reason(life) == ("True", "StickyUnproven")
    assert life.status.assignment is not None
    this = route_id(life.status.assignment.drawn_by, table(life).segments)

    life.poll(proof=Proof("another", 20))
    assert reason(life) == ("True", "StickyUnproven")
    life.poll(proof=Problem("ProbeFailed", "nobody answers"))
    assert reason(life) == ("True", "StickyUnproven")
    life.poll(proof=Proof(this, 20, ("u1 got v1 and v2 instead of v2",)))
    assert reason(life) == ("Unknown", "NotAsPredicted")
    life.poll(proof=Proof(this, 20))
    assert reason(life) == ("True", "Sticky")
    life.poll()
    assert reason(life) == ("True", "Sticky")

    life.edit(traffic=traffic(v1=40, v2=60))
    life.poll()
    assert reason(life) == ("True", "StickyUnproven")


def proved() -> tuple[Life, str]:
    """A running experiment just after its route was proven, and the route's name."""
    life = running()
    assert life.status.assignment is not None
    this = route_id(life.status.assignment.drawn_by, table(life).segments)
    life.poll(proof=Proof(this, 20))
    assert reason(life) == ("True", "Sticky")
    return life, this


def is_due(life: Life, after: timedelta) -> bool:
    assert life.status.assignment is not None
    now = life.now + after
    return due(life.status.assignment, table(life).segments, life.status.memory, now)


def test_a_proof_is_asked_for_again_after_a_while() -> None:
    life, this = proved()
    assert not is_due(life, HOLDS - timedelta(seconds=1))
    assert is_due(life, HOLDS)

    life.poll(after=HOLDS, proof=Proof(this, 20))
    assert reason(life) == ("True", "Sticky")
    assert not is_due(life, HOLDS - timedelta(seconds=1))
    # A status of before proofs were dated.
    memory = life.status.memory.model_copy(update={"proven_at": None})
    life.status = life.status.model_copy(update={"memory": memory})
    assert is_due(life, timedelta(0))


def test_a_proxy_that_follows_no_more_is_seen_and_asked_until_it_does() -> None:
    life, this = proved()
    life.poll(after=HOLDS, proof=Proof(this, 20, ("u1 got v1 and v2 instead of v2",)))
    assert reason(life) == ("Unknown", "NotAsPredicted")
    assert is_due(life, timedelta(0))

    life.poll(proof=Problem("ProbeFailed", "nobody answers"))
    assert reason(life) == ("True", "StickyUnproven")
    life.poll(proof=Proof(this, 20))
    assert reason(life) == ("True", "Sticky")


def test_a_proof_that_can_not_be_renewed_is_none() -> None:
    life, _ = proved()
    life.poll(after=HOLDS, proof=Problem("ProbeFailed", "nobody answers"))
    assert reason(life) == ("True", "StickyUnproven")
    assert is_due(life, timedelta(0))


def test_a_table_for_one_version_needs_no_proof() -> None:
    life = running()
    life.edit(stop=True)
    life.poll()

    assert reason(life) == ("True", "Sticky")
    assert not is_due(life, HOLDS)


def test_the_same_table_comes_of_a_decision_that_was_never_written() -> None:
    """A kill after the route's write leaves the old status: it decides to the same route."""
    life = running(traffic=traffic(v1=90, v2=10))
    life.edit(traffic=traffic(v1=75, v2=25))
    status, snapshot = life.status, life.snapshot()
    one = decide(life.experiment, status, snapshot)
    two = decide(life.experiment, status, replace(snapshot, route=life.route))

    assert one.routing == two.routing
