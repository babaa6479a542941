"""The hash is xxHash64, and a slot is what Envoy draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelexperiment.core.assignment import trimmed, user_hashes, user_slots, xxhash64
from tests.core.vectors.record_xxhash import pattern

RECORDED = json.loads((Path(__file__).parent / "vectors" / "xxhash64.json").read_text())["hashes"]
FAST = settings(max_examples=60, deadline=None, derandomize=True)
MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK


def mixed(state: int, word: int) -> int:
    return rotated((state + word * P2) & MASK, 31) * P1 & MASK


def reference(data: bytes) -> int:
    """XxHash64 with seed 0, word by word, after its specification."""
    at = 0
    if len(data) >= 32:
        lanes = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while at + 32 <= len(data):
            for lane in range(4):
                lanes[lane] = mixed(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        bits = (1, 7, 12, 18)
        state = sum(rotated(lane, n) for lane, n in zip(lanes, bits, strict=True)) & MASK
        for lane in lanes:
            state = ((state ^ mixed(0, lane)) * P1 + P4) & MASK
    else:
        state = P5
    state = (state + len(data)) & MASK
    while at + 8 <= len(data):
        word = int.from_bytes(data[at : at + 8], "little")
        state = (rotated(state ^ mixed(0, word), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= len(data):
        half = int.from_bytes(data[at : at + 4], "little")
        state = (rotated(state ^ half * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        state = rotated(state ^ byte * P5 & MASK, 11) * P1 & MASK
    state = (state ^ state >> 33) * P2 & MASK
    state = (state ^ state >> 29) * P3 & MASK
    return state ^ state >> 32


def hashed(*rows: bytes) -> list[int]:
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    return [int(found) for found in xxhash64(table)]


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("a", 0xD24EC4F1A98C6E5B),
        ("as", 0x1C330FB2D66BE179),
        ("asd", 0x631C37CE72A97393),
        ("asdf", 0x415872F599CEA71E),
        (
            "Call me Ishmael. Some years ago--never mind how long precisely-",
            0x02A2E85470D6FD96,
        ),
    ],
)
def test_it_gives_the_published_hashes(text: str, digest: int) -> None:
    assert hashed(text.encode()) == [digest]


def test_nothing_has_the_published_hash() -> None:
    assert xxhash64(np.empty((1, 0), np.uint8)).tolist() == [0xEF46DB3751D8E999]


@pytest.mark.parametrize("length", [int(length) for length in RECORDED])
def test_it_agrees_with_the_library_at_every_length(length: int) -> None:
    rows = np.frombuffer(pattern(length), np.uint8).reshape(1, length)
    assert f"{int(xxhash64(rows)[0]):016x}" == RECORDED[str(length)]


@FAST
@given(
    st.integers(0, 200).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1))
)
def test_rows_are_hashed_apart_from_each_other(rows: list[bytes]) -> None:
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), len(rows[0]))
    assert xxhash64(table).tolist() == [reference(row) for row in rows]


@FAST
@given(st.lists(st.binary(max_size=80)), st.text("abc/._-", max_size=40))
def test_a_user_is_hashed_with_the_salt_before_it(users: list[bytes], salt: str) -> None:
    expected = [reference(salt.encode() + b":" + user) for user in users]
    assert user_hashes(users, salt).tolist() == expected


@FAST
@given(st.lists(st.binary(max_size=20), min_size=1), st.integers(1, 1_280_000))
def test_a_slot_is_the_hash_modulo_the_total_weight(users: list[bytes], total: int) -> None:
    expected = [reference(b"fraud/fraud-v2:" + user) % total for user in users]
    assert user_slots(users, "fraud/fraud-v2", total).tolist() == expected


# Answers of Envoy 1.40: a route of 1,000 segments of 7 slots, and the segment of each x-user-id.
ENVOY = {
    b" u1": 667,
    b"  u1\t ": 667,
    b"\xa0u1": 679,
    b"u1\xa0": 734,
    b"a b": 549,
    b"a\tb": 6,
    "é".encode(): 713,
    b"\xe9": 921,
    "日本語\u3000".encode(): 576,
    b"\xed\xa0\x80": 643,
    b"x" * 5000: 284,
}


@pytest.mark.parametrize("value", ENVOY, ids=lambda value: ascii(value[:20]))
def test_a_header_value_is_read_as_envoy_reads_it(value: bytes) -> None:
    slots = user_slots([trimmed(value)], "fraud/fraud-v2", 7_000)
    assert slots[0] // 7 == ENVOY[value]


def test_other_white_space_is_part_of_the_value() -> None:
    assert trimmed(b"\t \x0bu1\x0c \t") == b"\x0bu1\x0c"


def test_another_salt_is_an_independent_draw() -> None:
    users = [b"user-%d" % i for i in range(20_000)]
    ours, other = (user_slots(users, salt, 10_000) < 1_000 for salt in ("a/one", "a/two"))
    expected = len(users) * 0.1 * 0.1
    # Binomial: five standard deviations around the product of the shares.
    assert abs(int((ours & other).sum()) - expected) < 5 * (expected * 0.99) ** 0.5
