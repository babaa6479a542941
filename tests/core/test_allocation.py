"""Whatever the sequence of splits: the shares are exact, and nobody moves who need not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelexperiment.core.allocation import (
    SLOTS,
    Segment,
    SegmentTable,
    moved,
    slots_of,
    without_copies,
)

FAST = settings(max_examples=60, deadline=None, derandomize=True)
Split = dict[str, float]
BUCKETS = st.sampled_from([0, 32, 64, 128])


@st.composite
def splits(draw: st.DrawFn, versions: int) -> Split:
    """Percents with two decimals; zeros are as likely as anything else."""
    cut = st.one_of(st.integers(0, SLOTS), st.sampled_from([0, SLOTS // 2, SLOTS]))
    cuts = sorted(draw(st.lists(cut, min_size=versions - 1, max_size=versions - 1)))
    shares = [after - before for before, after in itertools.pairwise([0, *cuts, SLOTS])]
    return {f"v{i}": share / 100 for i, share in enumerate(shares)}


@st.composite
def histories(draw: st.DrawFn, most: int = 8) -> list[Split]:
    """Splits that follow each other, of the same 2 to 8 versions."""
    versions = draw(st.integers(2, most))
    return draw(st.lists(splits(versions), min_size=2, max_size=8))


def tables(history: Iterable[Split], buckets: int = 64) -> list[SegmentTable]:
    first, *others = history
    found = [SegmentTable.initial(first, "v0", buckets)]
    for split in others:
        found.append(found[-1].moved_to(split))
    return found


def layout(table: SegmentTable) -> list[tuple[str, int]]:
    return [(share.model_version, share.slots) for share in table.layout]


def changed(before: Split, after: Split) -> int:
    """Slots of a bucket that must change hands."""
    one, other = slots_of(before), slots_of(after)
    return sum(max(0, other[version] - one[version]) for version in one)


@FAST
@given(histories(), BUCKETS)
def test_shares_are_exact_after_any_history(history: list[Split], buckets: int) -> None:
    for table, split in zip(tables(history, buckets), history, strict=True):
        assert table.split == {v: percent for v, percent in split.items() if percent}
        segments = table.segments
        assert sum(segment.slots for segment in segments) == table.total
        for bucket in range(max(1, buckets)):
            held = dict.fromkeys(split, 0)
            for segment in segments:
                if segment.bucket == bucket:
                    held[segment.model_version] += segment.slots
            assert held == slots_of(split)


@FAST
@given(histories())
def test_no_user_moves_who_need_not(history: list[Split]) -> None:
    pairs = zip(itertools.pairwise(tables(history)), itertools.pairwise(history), strict=True)
    for (before, after), (was, now) in pairs:
        moves = moved(before, after)
        assert round(sum(moves.values()) * 100) == changed(was, now)
        for old, new in moves:
            assert now[old] < was[old]
            assert now[new] > was[new]


@FAST
@given(histories())
def test_neighbours_are_of_different_versions(history: list[Split]) -> None:
    for table in tables(history):
        versions = [share.model_version for share in table.layout]
        assert all(one != other for one, other in itertools.pairwise(versions))
        assert all(share.slots > 0 for share in table.layout)


@FAST
@given(histories(), st.sampled_from([0, 32]))
def test_a_slot_is_answered_by_the_segment_that_envoy_counts_up_to(
    history: list[Split], buckets: int
) -> None:
    table = tables(history, buckets)[-1]
    slots = np.arange(table.total)
    numbers = [segment.slots for segment in table.segments]
    versions = np.repeat([segment.model_version for segment in table.segments], numbers)
    in_bucket = np.repeat([segment.bucket for segment in table.segments], numbers)
    assert (table.versions_of(slots) == versions).all()
    assert (table.buckets_of(slots) == in_bucket).all()


@FAST
@given(histories(), st.integers(0, 2**63 - 1))
def test_a_users_bucket_stays_whatever_the_split(history: list[Split], number: int) -> None:
    found = tables(history)
    assert {table.total for table in found} == {64 * SLOTS}
    slots = np.array([number % (64 * SLOTS)])
    assert len({int(table.buckets_of(slots)[0]) for table in found}) == 1


@FAST
@given(histories(), st.integers(0, 2**63 - 1))
def test_a_users_version_is_the_same_with_any_number_of_buckets(
    history: list[Split], number: int
) -> None:
    versions = set()
    for buckets in (0, 32, 64, 128):
        table = tables(history, buckets)[-1]
        versions.add(str(table.versions_of(np.array([number % table.total]))[0]))
    assert len(versions) == 1


@FAST
@given(histories(most=2))
def test_the_table_of_two_versions_depends_on_the_split_alone(history: list[Split]) -> None:
    assert tables(history)[-1] == SegmentTable.initial(history[-1], "v0", 64)


@FAST
@given(histories())
def test_the_state_is_all_the_memory_that_is_needed(history: list[Split]) -> None:
    *_, before, after = tables(history)
    kept = SegmentTable.from_state(json.loads(json.dumps(before.to_state())))
    assert kept == before
    assert kept.moved_to(history[-1]) == after


@FAST
@given(histories())
def test_after_a_rollback_the_same_split_brings_everybody_back(history: list[Split]) -> None:
    table = tables(history)[-1]
    rolled_back = table.everything_to("v0")
    assert rolled_back.split == {"v0": 100.0}
    assert rolled_back.total == table.total
    assert {new for _, new in moved(table, rolled_back)} <= {"v0"}
    assert table.moved_to(history[-1]) == table


@FAST
@given(histories(), st.integers(8, 12))
def test_a_limit_of_segments_is_kept(history: list[Split], at_most: int) -> None:
    table = tables(history[:1])[0]
    for split in history[1:]:
        least = table.moved_to(split)
        limited = table.moved_to(split, at_most)
        assert len(limited.layout) <= at_most
        if len(least.layout) <= at_most:
            assert limited == least
        table = limited


def test_challengers_come_first_and_the_champion_last_in_every_bucket() -> None:
    table = SegmentTable.initial({"v1": 88.0, "v2": 10.0, "v3": 2.0, "v4": 0.0}, "v1", 32)
    assert table.segments[:4] == [
        Segment(0, "v2", 1_000),
        Segment(0, "v3", 200),
        Segment(0, "v1", 8_800),
        Segment(1, "v2", 1_000),
    ]
    assert len(table.segments) == 32 * 3
    assert table.total == 320_000


def test_without_buckets_the_list_is_just_the_arms() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 0)
    assert table.segments == [Segment(0, "v2", 1_000), Segment(0, "v1", 9_000)]


def test_a_ramp_moves_the_border() -> None:
    before = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 64)
    after = before.moved_to({"v1": 75.0, "v2": 25.0})
    assert layout(after) == [("v2", 2_500), ("v1", 7_500)]
    assert moved(before, after) == {("v1", "v2"): 15.0}


def test_two_challengers_that_grow_are_carved_out_of_the_champion_and_give_back() -> None:
    before = SegmentTable.initial({"c": 10.0, "t": 10.0, "p": 80.0}, "p", 64)
    after = before.moved_to({"c": 20.0, "t": 20.0, "p": 60.0})
    assert layout(after) == [("c", 1_000), ("t", 2_000), ("c", 1_000), ("p", 6_000)]
    assert moved(before, after) == {("p", "c"): 10.0, ("p", "t"): 10.0}
    assert after.moved_to({"c": 10.0, "t": 10.0, "p": 80.0}) == before


def test_whole_segments_change_hands_where_a_version_ends() -> None:
    table = SegmentTable.initial({"v1": 40.0, "v2": 30.0, "v3": 30.0}, "v1", 64)
    after = table.moved_to({"v1": 70.0, "v2": 0.0, "v3": 30.0})
    assert moved(table, after) == {("v2", "v1"): 30.0}
    assert len(after.layout) == 3


def test_a_version_grows_where_it_is_already() -> None:
    table = SegmentTable.initial({"v1": 80.0, "v2": 10.0, "v3": 10.0}, "v1", 64)
    to_the_left = table.moved_to({"v1": 80.0, "v2": 5.0, "v3": 15.0})
    assert layout(to_the_left) == [("v2", 500), ("v3", 1_500), ("v1", 8_000)]
    to_the_right = table.moved_to({"v1": 80.0, "v2": 15.0, "v3": 5.0})
    assert layout(to_the_right) == [("v2", 1_500), ("v3", 500), ("v1", 8_000)]


def test_a_version_may_join_and_another_leave() -> None:
    table = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 64)
    after = table.moved_to({"v1": 80.0, "v3": 20.0})
    assert after.split == {"v3": 20.0, "v1": 80.0}
    assert sum(moved(table, after).values()) == 20.0


def test_the_champion_comes_back_to_the_users_that_it_had() -> None:
    before = SegmentTable.initial({"v1": 60.0, "v2": 40.0}, "v1", 64)
    promoted = before.moved_to({"v1": 0.0, "v2": 100.0})
    assert layout(promoted) == [("v2", 10_000)]
    assert promoted.moved_to({"v1": 60.0, "v2": 40.0}) == before


def test_nobody_moves_between_equal_tables() -> None:
    table = SegmentTable.initial({"v1": 60.0, "v2": 40.0}, "v1", 64)
    assert moved(table, table.moved_to({"v2": 40.0, "v1": 60.0})) == {}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"v1": 60.0, "v2": 30.0}, "must sum to exactly 100, got 90"),
        ({"v1": 110.0, "v2": -10.0}, "v2: a percent is at least 0"),
        ({"v1": 99.9995, "v2": 0.0005}, "v1: a percent .* got 99.9995"),
        ({"v1": 99.995, "v2": 0.005}, "v1: a percent .* at most two decimals, got 99.995"),
    ],
)
def test_a_split_that_slots_can_not_hold_is_refused(split: Split, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentTable.initial(split, "v1", 64)


def test_percents_that_binary_fractions_only_approach_are_exact() -> None:
    assert slots_of({"v1": 99.71, "v2": 0.29}) == {"v1": 9_971, "v2": 29}
    assert slots_of({"v1": 100 - 33.33, "v2": 33.33}) == {"v1": 6_667, "v2": 3_333}


@pytest.mark.parametrize("slots", [[9_000, 999], [11_000, -1_000], [10_000, 0]])
def test_a_state_that_is_no_table_is_refused(slots: list[int]) -> None:
    shares = [{"modelVersion": f"v{i}", "slots": number} for i, number in enumerate(slots)]
    with pytest.raises(ValueError, match="slots must be positive and sum to 10000"):
        SegmentTable.from_state({"champion": "v0", "buckets": 64, "layout": shares})


PERCENTS = st.integers(0, SLOTS).map(lambda hundredths: hundredths / 100)


def copied_slots(table: SegmentTable, percent: float) -> np.ndarray:
    """Whether the requests of each slot of the whole route are copied."""
    found = table.mirrored(percent)
    return np.repeat([bool(s.copied) for s in found], [s.slots for s in found])


@FAST
@given(histories(), BUCKETS, PERCENTS)
def test_a_mirror_copies_its_share_of_the_champion_and_moves_nobody(
    history: list[Split], buckets: int, percent: float
) -> None:
    for table in tables(history, buckets):
        found = table.mirrored(percent)
        assert without_copies(found) == table.segments
        assert all(segment.slots for segment in found)
        assert {s.model_version for s in found if s.copied} <= {table.champion}
        per_bucket = copied_slots(table, percent).reshape(max(1, buckets), SLOTS)
        held = round(table.split.get(table.champion, 0) * 100)
        assert set(per_bucket.sum(axis=1).tolist()) == {round(held * percent / 100)}
        assert (per_bucket == per_bucket[0]).all()
        # One entry more in each bucket at most: that of the border.
        assert len(found) <= len(table.segments) + max(1, buckets)


@FAST
@given(histories(), PERCENTS, PERCENTS)
def test_a_larger_mirror_copies_the_same_users_and_more(
    history: list[Split], one: float, other: float
) -> None:
    less, more = sorted((one, other))
    for table in tables(history, 0):
        assert not (copied_slots(table, less) & ~copied_slots(table, more)).any()


def test_a_challenger_that_grows_takes_the_users_that_are_not_copied() -> None:
    before = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 64)
    after = before.moved_to({"v1": 50.0, "v2": 50.0})

    assert before.mirrored(30.0)[:3] == [
        Segment(0, "v2", 1_000, False),
        Segment(0, "v1", 6_300, False),
        Segment(0, "v1", 2_700, True),
    ]
    assert not (copied_slots(after, 30.0) & ~copied_slots(before, 30.0)).any()
