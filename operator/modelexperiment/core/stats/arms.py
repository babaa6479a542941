"""A poll's increments as arrays, checked."""

from __future__ import annotations

import numpy as np

from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.model import Increment, Kind, Poll, require
from modelexperiment.core.stats.stratified import Counts

ARMS = ("champion", "challenger")


def request_counts(poll: Poll, kind: Kind) -> Counts:
    """Both arms' increments.

    Raises:
        ValueError: a number is impossible for the kind of metric.
    """
    arms = (poll.champion, poll.challenger)
    for name, increment in zip(ARMS, arms, strict=True):
        increment.check(kind, name)
    return _stack(arms)


def bucket_counts(poll: Poll, kind: Kind, buckets: int) -> tuple[Counts, Array] | None:
    """Both arms' increments summed over buckets, and samples and sums by arm and bucket.

    The array has shape (2, 2, B). None where the poll knows no buckets; what belongs to no bucket
    is no user's, and is left out.

    Raises:
        ValueError: a number is impossible for the kind of metric, or a bucket for their number.
    """
    if poll.champion_buckets is None or poll.challenger_buckets is None or not buckets:
        return None
    totals, table = [], np.zeros((2, 2, buckets))
    sides = (poll.champion_buckets, poll.challenger_buckets)
    for index, (name, side) in enumerate(zip(ARMS, sides, strict=True)):
        total = Increment.zero()
        for bucket, increment in sorted(side.items()):
            require(0 <= bucket < buckets, f"{name} bucket", bucket, f"not below {buckets}")
            increment.check(kind, f"{name} bucket {bucket}")
            table[:, index, bucket] = increment.n, increment.s
            total += increment
        totals.append(total)
    return _stack(totals), table


def _stack(arms: tuple[Increment, ...] | list[Increment]) -> Counts:
    # An arm that saw nothing knows its sum of squares.
    squares = [0.0 if arm.n == arm.s == 0 else np.nan if arm.q is None else arm.q for arm in arms]
    return Counts(
        np.array([float(arm.n) for arm in arms]),
        np.array([float(arm.s) for arm in arms]),
        np.array(squares),
    )
