"""The users' table on an HTTPRoute: no buckets in the route, and never more than 16 entries."""

from __future__ import annotations

from typing import Any

from modelexperiment.core.allocation import SegmentTable, moved
from modelexperiment.core.status import Phase
from tests.core.builders import ERRORS, Life, traffic

ROUTE = {"gatewayAPI": {"httpRoute": "fraud"}}
EIGHT = [f"v{i}" for i in range(1, 9)]


def running(**fields: Any) -> Life:
    given = {"assignment": {"header": "x-user-id"}, "analysis": {"unit": "Request"}}
    life = Life(**{"route": ROUTE, **given, **fields})
    life.start(readings=Life(guardrails=[ERRORS]).readings(0.01))
    life.events()
    return life


def written(life: Life) -> SegmentTable:
    assert life.plan is not None
    assert life.plan.routing is not None
    assert life.plan.routing.table is not None
    return life.plan.routing.table


def remembered(life: Life) -> SegmentTable:
    assert life.status.assignment is not None
    return life.status.assignment.table


def test_the_route_has_no_buckets_and_users_have() -> None:
    life = running(traffic=traffic(v1=90, v2=10))

    assert written(life) == SegmentTable.initial({"v1": 90, "v2": 10}, "v1", 0)
    assert written(life).total == 10_000
    assert remembered(life).buckets == 64
    assert remembered(life).layout == written(life).layout


def test_a_rollback_remembers_the_table() -> None:
    life = running(traffic=traffic(v1=90, v2=10), guardrails=[ERRORS])
    before = remembered(life)

    life.poll(errors=0.5)

    assert life.status.phase is Phase.ROLLED_BACK
    assert written(life).split == {"v1": 100}
    assert remembered(life) == before


def shares(*percents: float) -> list[dict[str, object]]:
    return traffic(**dict(zip(EIGHT, percents, strict=True)))


def test_where_the_list_grows_over_16_it_is_laid_anew_and_that_is_told() -> None:
    life = running(traffic=shares(30, 10, 10, 10, 10, 10, 10, 10), champion="v1")
    told = ""
    # Ever other versions grow at the cost of the others; only the last of these needs 17 entries.
    splits = [
        (17, 14, 17, 13, 9, 6, 2, 22),
        (2, 7, 25, 27, 14, 3, 3, 19),
        (25, 5, 21, 10, 9, 1, 21, 8),
        (2, 18, 10, 20, 17, 15, 13, 5),
        (6, 3, 12, 18, 37, 10, 12, 2),
        (4, 31, 15, 11, 16, 15, 1, 7),
        (18, 29, 4, 4, 2, 17, 20, 6),
        (5, 8, 5, 10, 6, 30, 23, 13),
    ]
    for split in splits:
        before = remembered(life)
        life.edit(traffic=shares(*split))
        life.poll()
        after = remembered(life)
        least = before.moved_to(dict(zip(EIGHT, map(float, split), strict=True)))
        assert len(written(life).layout) <= 16
        assert written(life).split == dict(zip(EIGHT, map(float, split), strict=True))
        assert life.plan is not None
        laid_anew = [e.message for e in life.plan.events if "laid anew" in e.message]
        assert bool(laid_anew) is (len(least.layout) > 16)
        if laid_anew:
            told = laid_anew[0]
            percent = sum(moved(before, after).values())
            assert f"would need {len(least.layout)}: {percent:g} % of the users move" in told
    assert "16 backendRefs and it would need 17: " in told


def test_versions_without_users_take_an_entry_as_well() -> None:
    life = running(traffic=shares(40, 60, 0, 0, 0, 0, 0, 0), champion="v1")

    life.edit(traffic=shares(60, 40, 0, 0, 0, 0, 0, 0))
    life.poll()

    assert len(written(life).layout) + 6 <= 16
