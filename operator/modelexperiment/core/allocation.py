"""Who gets which slots of a route, and how a new split moves as few users as it can.

A route is a list of weighted segments. With B buckets it has B x 10,000 slots, bucket after bucket:

    bucket 0: v2 1,000 slots, v1 9,000 slots | bucket 1: v2 1,000, v1 9,000 | ...

A user's slot is `hash mod (B x 10,000)`; what stands there is the user's version, and the slot
divided by 10,000 is the hash bucket. All buckets are laid alike, so the version hangs on
`hash mod 10,000` alone, and neither a new split nor another number of buckets changes anything
else: nobody's bucket changes with the split, nobody's version with the number of buckets.

A version that grows is carved out of those that shrink, and whoever need not move keeps the slot.
A split alone can't say where the segments lie, for what moves least depends on what was before: the
table is itself the memory, and goes from one split to the next by `moved_to`. Hence a rollback is
no move. It routes `everything_to` the champion and remembers the table as it was; the same split
afterwards finds every user's slot as before, and everybody returns to the version they had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SLOTS = 10_000
"""Slots of a bucket: one for a hundredth of a percent."""


class Segment(NamedTuple):
    """Neighbouring slots of one version: one entry of the route's list."""

    bucket: int
    model_version: str
    slots: int
    copied: bool | None = None
    """Whether a shadow gets copies of its requests; None where nobody's are copied."""


class Share(NamedTuple):
    """Neighbouring slots of one version, the same in every bucket."""

    model_version: str
    slots: int


@dataclass(frozen=True)
class SegmentTable:
    """The segments of a route. `layout` is that of each bucket, its slots sum to 10,000.

    `buckets` 0 means that no bucket is told apart: one list of 10,000 slots in all.
    """

    layout: tuple[Share, ...]
    champion: str
    buckets: int

    @classmethod
    def initial(cls, split: Mapping[str, float], champion: str, buckets: int) -> SegmentTable:
        """A first table: in each bucket the challengers in the split's order, then the champion.

        `split` is in percent with up to two decimals, and sums to 100; ValueError if not.
        """
        wanted = slots_of(split)
        wanted[champion] = wanted.pop(champion, 0)
        layout = tuple(Share(version, slots) for version, slots in wanted.items() if slots)
        return cls(layout, champion, buckets)

    @property
    def total(self) -> int:
        """All slots: the total weight of the route."""
        return SLOTS * max(1, self.buckets)

    @property
    def segments(self) -> list[Segment]:
        """The route's list, in order."""
        buckets = range(max(1, self.buckets))
        return [Segment(bucket, *share) for bucket in buckets for share in self.layout]

    def mirrored(self, percent: float) -> list[Segment]:
        """The route's list where the requests of `percent` of the champion's users are copied.

        Nobody moves: the champion's segments are divided. The last of its slots are copied, to the
        nearest slot, in each bucket alike. A larger percent copies the same users and more; and a
        challenger that grows takes the champion's first slots, far from these.
        """
        held = sum(slots for version, slots in self.layout if version == self.champion)
        left = round(held * percent / 100)
        parts: list[tuple[str, int, bool]] = []
        for version, slots in reversed(self.layout):
            copied = min(left, slots) if version == self.champion else 0
            left -= copied
            parts += [(version, copied, True), (version, slots - copied, False)]
        laid = [part for part in reversed(parts) if part[1]]
        return [Segment(bucket, *part) for bucket in range(max(1, self.buckets)) for part in laid]

    @property
    def split(self) -> dict[str, float]:
        """Percent by modelVersion, of those that have any."""
        return {version: slots / 100 for version, slots in _totals(self.layout).items()}

    def moved_to(self, split: Mapping[str, float], at_most: int | None = None) -> SegmentTable:
        """The table of another split; only as many slots change hands as the shares differ by.

        `at_most` limits the segments of a bucket, as an HTTPRoute's 16 backends do. Where that is
        too few, the table is laid anew, and more users move; two versions never need more than two.
        """
        wanted, held = slots_of(split), _totals(self.layout)
        lacking = {
            version: difference
            for version in {**held, **wanted}
            if (difference := wanted.get(version, 0) - held.get(version, 0))
        }
        layout = list(self.layout)
        while lacking:
            gift = min(_gifts(layout, lacking, self.champion), key=lambda gift: gift.cost)
            layout = _given(layout, gift)
            for version, slots in ((gift.donor, gift.slots), (gift.taker, -gift.slots)):
                lacking[version] += slots
                if not lacking[version]:
                    del lacking[version]
        if at_most is not None and len(layout) > at_most:
            return SegmentTable.initial(split, self.champion, self.buckets)
        return SegmentTable(tuple(layout), self.champion, self.buckets)

    def everything_to(self, model_version: str) -> SegmentTable:
        """The table that routes everybody to one version, as a rollback does; to be forgotten."""
        return SegmentTable((Share(model_version, SLOTS),), self.champion, self.buckets)

    def without(self, model_version: str) -> SegmentTable:
        """The table with one version's slots given to the champion; to be forgotten as well."""
        layout: list[Share] = []
        for share in self.layout:
            gone = share.model_version == model_version
            owner = self.champion if gone else share.model_version
            if layout and layout[-1].model_version == owner:
                layout[-1] = Share(owner, layout[-1].slots + share.slots)
            else:
                layout.append(Share(owner, share.slots))
        return SegmentTable(tuple(layout), self.champion, self.buckets)

    def versions_of(self, slots: NDArray[np.int64]) -> NDArray[np.str_]:
        """The modelVersion of each slot; same shape."""
        found: NDArray[np.str_] = _owners(self.layout)[slots % SLOTS]
        return found

    def buckets_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The hash bucket of each slot, from 0; same shape."""
        return slots // SLOTS

    def to_state(self) -> dict[str, Any]:
        """The table in JSON types. One bucket stands for all."""
        layout = [
            {"modelVersion": share.model_version, "slots": share.slots} for share in self.layout
        ]
        return {"champion": self.champion, "buckets": self.buckets, "layout": layout}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SegmentTable:
        """The table that `to_state` wrote; ValueError where the slots can't be a table's."""
        layout = tuple(Share(share["modelVersion"], share["slots"]) for share in state["layout"])
        if sum(share.slots for share in layout) != SLOTS or any(s.slots < 1 for s in layout):
            raise ValueError(f"layout: slots must be positive and sum to {SLOTS}, got {layout}")
        return cls(layout, state["champion"], state["buckets"])


def slots_of(split: Mapping[str, float]) -> dict[str, int]:
    """The slots of each version in a bucket; ValueError where the percents can't be slots."""
    slots = {version: round(percent * 100) for version, percent in split.items()}
    for version, percent in split.items():
        if slots[version] < 0 or abs(percent * 100 - slots[version]) > 1e-6:
            raise ValueError(
                f"{version}: a percent is at least 0 and takes at most two decimals, got {percent}"
            )
    if sum(slots.values()) != SLOTS:
        raise ValueError(f"the percents must sum to exactly 100, got {sum(slots.values()) / 100:g}")
    return slots


def without_copies(segments: Iterable[Segment]) -> list[Segment]:
    """Who gets what, whoever is copied: the segments that a mirror divided are one again."""
    joined: list[Segment] = []
    for bucket, version, slots, _ in segments:
        if joined and joined[-1][:2] == (bucket, version):
            slots += joined.pop().slots
        joined.append(Segment(bucket, version, slots))
    return joined


def moved(before: SegmentTable, after: SegmentTable) -> dict[tuple[str, str], float]:
    """Percent of all users that move, by (from, to); empty where nobody does."""
    old, new = _owners(before.layout), _owners(after.layout)
    movers = old != new
    pairs = Counter(zip(old[movers].tolist(), new[movers].tolist(), strict=True))
    return {pair: slots / 100 for pair, slots in pairs.items()}


def _owners(layout: Iterable[Share]) -> NDArray[np.str_]:
    """The version of each slot of a bucket; shape (SLOTS,)."""
    versions, slots = zip(*layout, strict=True)
    return np.repeat(np.array(versions), slots)


def _totals(layout: Iterable[Share]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for version, slots in layout:
        totals[version] = totals.get(version, 0) + slots
    return totals


class _Gift(NamedTuple):
    """Slots at one end of a segment that another version takes."""

    cost: tuple[int, ...]
    place: int
    donor: str
    taker: str
    slots: int
    at_left: bool


def _gifts(layout: Sequence[Share], lacking: Mapping[str, int], champion: str) -> Iterator[_Gift]:
    """All that could be given next, each as large as it can be.

    The cheapest is always taken, which keeps the list short, if not always the shortest of all. The
    cost is, in this order: the segments that it adds, how little it gives, and whether a
    challenger takes the right end or the champion the left one. The ends matter where a version
    comes back from nothing: the users it then gets are those that it had before.
    """
    takers = [(version, lack) for version, lack in lacking.items() if lack > 0]
    for index, (donor, size) in enumerate(layout):
        spare = -lacking.get(donor, 0)
        if spare <= 0:
            continue
        left = layout[index - 1].model_version if index else None
        right = layout[index + 1].model_version if index + 1 < len(layout) else None
        for taker, lack in takers:
            slots = min(size, spare, lack)
            for at_left in (True, False):
                if slots == size:
                    added = -(left == taker) - (right == taker)
                else:
                    added = int(taker != (left if at_left else right))
                wrong_end = at_left == (taker == champion)
                yield _Gift((added, -slots, wrong_end), index, donor, taker, slots, at_left)


def _given(layout: Sequence[Share], gift: _Gift) -> list[Share]:
    """The layout after a gift, neighbours of one version merged."""
    rest = Share(gift.donor, layout[gift.place].slots - gift.slots)
    given = Share(gift.taker, gift.slots)
    parts = [given, rest] if gift.at_left else [rest, given]
    merged: list[Share] = []
    for share in (*layout[: gift.place], *parts, *layout[gift.place + 1 :]):
        if merged and merged[-1].model_version == share.model_version:
            merged[-1] = Share(share.model_version, merged[-1].slots + share.slots)
        elif share.slots:
            merged.append(share)
    return merged
