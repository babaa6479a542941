"""Adds up one poll: by arm, by hash bucket, by segment.

Counters and recorded polls come in cells, each of one metric, version, bucket and segments. Sums
are taken exactly and rounded once, so that the order of cells makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from modelexperiment.core.stats import Increment

K = TypeVar("K")
Arm = tuple[str, str]
"""(metric, modelVersion)"""
SegmentValue = tuple[str, str]
"""(label, value)"""


@dataclass(frozen=True)
class Cell:
    """Whose increments they are."""

    metric: str
    version: str
    bucket: int | None = None
    """The users' hash bucket; None: they are no user's, or buckets are not known."""
    segments: tuple[SegmentValue, ...] = ()
    """The values of the spec's segments that they belong to."""

    @property
    def arm(self) -> Arm:
        """Metric and version."""
        return self.metric, self.version


@dataclass(frozen=True)
class Arms:
    """Increments by (metric, modelVersion), and those of users again by hash bucket."""

    increments: Mapping[Arm, Increment] = field(default_factory=dict)
    buckets: Mapping[Arm, Mapping[int, Increment]] = field(default_factory=dict)

    def __or__(self, other: Arms) -> Arms:
        """Both of them; they have no arm in common."""
        return Arms({**self.increments, **other.increments}, {**self.buckets, **other.buckets})


Cells = Sequence[tuple[Cell, Increment]]


def add_up(cells: Cells) -> Arms:
    """All of each arm."""
    by_bucket = [((c.arm, c.bucket), i) for c, i in cells if c.bucket is not None]
    buckets: dict[Arm, dict[int, Increment]] = {}
    for (arm, bucket), increment in _summed(by_bucket).items():
        assert bucket is not None
        buckets.setdefault(arm, {})[bucket] = increment
    return Arms(_summed((cell.arm, increment) for cell, increment in cells), buckets)


def add_up_segments(cells: Cells) -> dict[SegmentValue, Arms]:
    """All of each arm within each value of a segment."""
    found: dict[SegmentValue, list[tuple[Cell, Increment]]] = {}
    for cell, increment in cells:
        for value in cell.segments:
            found.setdefault(value, []).append((cell, increment))
    return {value: add_up(its) for value, its in found.items()}


def _summed(pairs: Iterable[tuple[K, Increment]]) -> dict[K, Increment]:
    parts: dict[K, list[Increment]] = {}
    for key, increment in pairs:
        parts.setdefault(key, []).append(increment)
    return {key: found[0] if len(found) == 1 else _sum(found) for key, found in parts.items()}


def _sum(parts: Sequence[Increment]) -> Increment:
    squares = [part.q for part in parts if part.q is not None]
    return Increment(
        math.fsum(part.n for part in parts),
        math.fsum(part.s for part in parts),
        math.fsum(squares) if len(squares) == len(parts) else None,
    )
