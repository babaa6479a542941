"""A sample ratio mismatch names the causes that were found, and what was looked at and is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelexperiment.core.snapshot import RouteSeen
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import SampleRatioStatus
from tests.core.builders import ORIGINAL, POLL, Life

LOPSIDED = {"v1": (1_000, 500), "v2": (700, 455)}
SPLIT = {"v1": 50.0, "v2": 50.0}
WELL = ["every arm counts", "all instances are scraped", "nobody edited the weights", "no retries"]
SCRAPED = {"v1": (0, 3), "v2": (0, 3)}


def mismatched(
    life: Life, retries: int | None = 0, grown: Any = LOPSIDED, polls: int = 20, **counted: Any
) -> SampleRatioStatus:
    """Polls that differ from the split, and what is said of it."""
    for _ in range(polls):
        life.now += POLL
        seen = replace(life.counted(grown), **({"instances": SCRAPED} | counted))
        route = RouteSeen(SPLIT, ORIGINAL, retries=retries)
        life.decide(life.snapshot(counted=seen, route=route))
    found = life.status.sample_ratio
    assert found is not None
    assert found.mismatch
    return found


def started() -> Life:
    life = Life()
    life.start()
    return life


def test_where_nothing_is_found_it_says_what_was_looked_at() -> None:
    life = started()
    found = mismatched(life)

    assert (found.causes, found.checked) == ([], WELL)
    condition = life.status.condition("SampleRatioHealthy")
    assert condition is not None
    assert condition.message.endswith(
        "the verdict is frozen; no cause was found (checked and well: every arm counts, "
        "all instances are scraped, nobody edited the weights, no retries)"
    )


def test_what_nobody_tells_is_not_called_well() -> None:
    assert mismatched(started(), retries=None, instances={}).checked == [WELL[0], WELL[2]]


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ({"grown": {"v1": (1_000, 500), "v2": (0, 0)}}, "v2 counted nothing in the last poll"),
        ({"instances": {"v1": (0, 3), "v2": (1, 3)}}, "missing for some instances (1 of 3 of v2)"),
        ({"retries": 2}, "the route retries a failed request up to 2 times"),
    ],
)
def test_a_cause_that_was_seen_is_named_and_not_called_well(
    seen: dict[str, Any], says: str
) -> None:
    found = mismatched(started(), **seen)

    (cause,) = found.causes
    assert says in cause
    assert len(found.checked) == 3


def test_an_edit_of_the_weights_is_remembered() -> None:
    life = started()
    life.now += POLL
    life.decide(life.snapshot(route=RouteSeen({"v1": 90.0, "v2": 10.0}, ORIGINAL)))
    (cause,) = mismatched(life).causes

    assert cause.startswith("the weights were edited by somebody else, at 2026-03-01T12:00:15")


def test_what_was_found_once_stays_found_and_is_told_once() -> None:
    life = started()
    mismatched(life, instances={"v1": (0, 3), "v2": (1, 3)})
    found = mismatched(life, polls=2, instances={"v1": (0, 3), "v2": (2, 3)}, retries=1)
    found = mismatched(life, polls=2)

    assert [cause[:30] for cause in found.causes] == [
        "series that were there are mis",
        "the route retries a failed req",
    ]
    assert "2 of 3 of v2" in found.causes[0]


def test_requests_without_a_bucket_are_told() -> None:
    life = Life(assignment={"header": "x-user-id", "buckets": 64, "bucketLabel": "bucket"})
    life.start()
    buckets = {
        ("accuracy", v): {b: Increment(n, n / 2) for b in range(64)}
        for v, n in (("v1", 16.0), ("v2", 8.0))
    }
    found = mismatched(life, polls=80, buckets=buckets)

    assert "requests are in no bucket: are they without x-user-id" in found.causes[0]
