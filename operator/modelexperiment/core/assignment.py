"""Which slot of a route a user falls on, exactly as Envoy draws it.

A route with `use_hash_policy` sends a request to `hash(value) mod total weight`. The hash is
xxHash64 with seed 0, and `regex_rewrite` turns the header's value into `SALT:value` first, so that
every experiment draws anew. Envoy hashes the bytes of the value without the spaces and tabs around
it, whatever their encoding. An empty value is hashed as well, which would put everybody without an
id on one version: it is no user.

Users are hashed together, a column of words of all of them at a time: numpy then does for many what
a loop in Python would do for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_STRIPE = 4
"""Words of 8 bytes that the long form of the hash takes at once, one for each accumulator."""


def trimmed(value: bytes) -> bytes:
    """A header's value as Envoy hashes it: without the spaces and tabs around it."""
    return value.strip(b" \t")


def user_slots(users: Sequence[bytes], salt: str, total: int) -> NDArray[np.int64]:
    """The slot of each user, from 0 to total - 1, on a route of that total weight."""
    return (user_hashes(users, salt) % np.uint64(total)).astype(np.int64)


def user_hashes(users: Sequence[bytes], salt: str) -> Words:
    """Envoy's hash of each user's header value, as it is after `trimmed`; shape (users,)."""
    prefix = np.frombuffer(f"{salt}:".encode(), np.uint8)
    text = np.frombuffer(b"".join(users), np.uint8)
    lengths = np.fromiter(map(len, users), np.int64, len(users))
    starts = np.cumsum(lengths) - lengths
    by_length = np.argsort(lengths)
    borders = np.flatnonzero(np.diff(lengths[by_length])) + 1
    hashes = np.empty(len(users), np.uint64)
    for group in np.split(by_length, borders) if len(users) else []:
        length = int(lengths[group[0]])
        rows = np.empty((len(group), len(prefix) + length), np.uint8)
        rows[:, : len(prefix)] = prefix
        if length:
            rows[:, len(prefix) :] = sliding_window_view(text, length)[starts[group]]
        hashes[group] = xxhash64(rows)
    return hashes


def xxhash64(rows: Bytes) -> Words:
    """XxHash64 with seed 0 of each row; shape (rows, bytes) to (rows,).

    After the specification, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
    """
    count, length = rows.shape
    words = _words(rows)
    stripes = length // (8 * _STRIPE)
    start = _long_form(words[: stripes * _STRIPE]) if stripes else np.full(count, _P5)
    state = start + np.uint64(length)
    for word in words[stripes * _STRIPE : length // 8]:
        state = _rotated(state ^ _round(np.uint64(0), word), 27) * _P1 + _P4
    at = length // 8 * 8
    if length - at >= 4:
        half = words[-1] & np.uint64(0xFFFFFFFF)
        state = _rotated(state ^ half * _P1, 23) * _P2 + _P3
        at += 4
    for byte in rows.T[at:]:
        state = _rotated(state ^ byte.astype(np.uint64) * _P5, 11) * _P1
    return _avalanche(state)


def _words(rows: Bytes) -> Words:
    """The rows as little-endian words, the last one filled up with zeros; shape (words, rows)."""
    count, length = rows.shape
    filled = np.zeros((count, -(-length // 8) * 8), np.uint8)
    filled[:, :length] = rows
    return np.ascontiguousarray(filled.view("<u8").T)


def _long_form(words: Words) -> Words:
    """The state after all whole stripes; shape (4 stripes, rows) to (rows,)."""
    # Sums and products in this hash wrap at 64 bits; numpy warns of it for scalars, not for arrays.
    zero = np.zeros(words.shape[1], np.uint64)
    accumulators = [zero + _P1 + _P2, zero + _P2, zero, zero - _P1]
    for index, word in enumerate(words):
        lane = index % _STRIPE
        accumulators[lane] = _round(accumulators[lane], word)
    turns = (1, 7, 12, 18)
    state = zero
    for accumulator, turn in zip(accumulators, turns, strict=True):
        state = state + _rotated(accumulator, turn)
    for accumulator in accumulators:
        state = (state ^ _round(np.uint64(0), accumulator)) * _P1 + _P4
    return state


def _rotated(words: Words, bits: int) -> Words:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _round(accumulator: Words | np.uint64, words: Words) -> Words:
    return _rotated(accumulator + words * _P2, 31) * _P1


def _avalanche(state: Words) -> Words:
    state = (state ^ (state >> np.uint64(33))) * _P2
    state = (state ^ (state >> np.uint64(29))) * _P3
    return state ^ (state >> np.uint64(32))
