"""One poll, added up by arm, by hash bucket and by segment."""

from __future__ import annotations

from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Arms, Cell, add_up, add_up_segments

V1, V2 = ("accuracy", "v1"), ("accuracy", "v2")
IOS, WEB = ("device", "ios"), ("device", "web")


def cell(version: str, bucket: int | None = None, *segments: tuple[str, str]) -> Cell:
    return Cell("accuracy", version, bucket, segments)


def test_nothing_adds_up_to_nothing() -> None:
    assert add_up([]) == Arms({}, {})
    assert add_up_segments([]) == {}


def test_an_arm_is_all_of_its_cells() -> None:
    found = add_up(
        [
            (cell("v1", 3), Increment(10, 4)),
            (cell("v1", None), Increment(5, 1)),
            (cell("v1", 3, IOS), Increment(1, 1)),
            (cell("v2", 7), Increment(8, 3)),
        ]
    )

    assert found.increments == {V1: Increment(16, 6), V2: Increment(8, 3)}


def test_buckets_hold_users_only() -> None:
    found = add_up(
        [
            (cell("v1", 3), Increment(10, 4)),
            (cell("v1", None), Increment(5, 1)),
            (cell("v1", 3, IOS), Increment(1, 1)),
        ]
    )

    assert found.buckets == {V1: {3: Increment(11, 5)}}


def test_a_segments_value_is_all_that_belongs_to_it() -> None:
    tier = ("tier", "gold")
    found = add_up_segments(
        [
            (cell("v1", 3, IOS, tier), Increment(10, 4)),
            (cell("v1", 4, WEB), Increment(5, 1)),
            (cell("v2", None, IOS), Increment(2, 2)),
            (cell("v2"), Increment(9, 9)),
        ]
    )

    assert found[IOS] == Arms(
        {V1: Increment(10, 4), V2: Increment(2, 2)}, {V1: {3: Increment(10, 4)}}
    )
    assert found[WEB].increments == {V1: Increment(5, 1)}
    assert found[tier].increments == {V1: Increment(10, 4)}


def test_squares_are_known_only_where_all_of_them_are() -> None:
    both = [(cell("v1"), Increment(1, 2, 4)), (cell("v1", 1), Increment(1, 3, 9))]
    one = [(cell("v1"), Increment(1, 2, 4)), (cell("v1", 1), Increment(1, 3, None))]

    assert add_up(both).increments == {V1: Increment(2, 5, 13)}
    assert add_up(one).increments == {V1: Increment(2, 5, None)}


def test_sums_are_exact_in_whatever_order_the_cells_come() -> None:
    # Added one by one from the left, the two small ones would be lost beside the large one.
    parts = [
        (cell("v1", bucket), Increment(1, value)) for bucket, value in enumerate((1e16, 1.0, 1.0))
    ]

    assert add_up(parts) == add_up(parts[::-1])
    assert add_up(parts).increments == {V1: Increment(3, 1e16 + 2)}
