"""What a route is to say: shares, who of the users gets which, and who gets copies."""

from __future__ import annotations

from dataclasses import dataclass

from modelexperiment.core.allocation import Segment, SegmentTable
from modelexperiment.core.rollout import Split, same_split
from modelexperiment.core.snapshot import RouteSeen

SAME_PERCENT = 0.005


@dataclass(frozen=True)
class Mirror:
    """A version that gets copies of requests, and whose answers nobody sees."""

    model_version: str
    percent: float
    """The share that is copied, in percent: of the route's requests or of the champion's users."""
    target: str
    """The subset (Istio) or the backend (Gateway API) that serves it."""
    by_user: bool = False
    """Whether the users' table tells whose requests are copied."""


@dataclass(frozen=True)
class Routing:
    """What a route is to say."""

    split: Split
    """Percent by modelVersion; who gets nothing stays listed."""
    table: SegmentTable | None = None
    """Which users get which version, of the same split; None: every request is drawn at random."""
    mirror: Mirror | None = None
    retired: tuple[str, ...] = ()
    """Where the route's mirrors led once, and must not any more."""
    marker: str | None = None
    """Of a rollback, why: it stands in the route's object from the same write on, so that whoever
    finds the route without a status that tells of it can finish the rollback."""

    @property
    def copies_users(self) -> bool:
        """Whether the table's entries tell whose requests are copied."""
        return self.table is not None and self.mirror is not None and self.mirror.by_user

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The table's entries with whom they copy; empty without a table."""
        if self.table is None:
            return ()
        if self.mirror and self.copies_users:
            return tuple(self.table.mirrored(self.mirror.percent))
        return tuple(self.table.segments)


def in_place(seen: RouteSeen, wanted: Routing) -> bool:
    """Whether the route already says what it should."""
    if seen.split is None or not same_split(dict(seen.split), wanted.split):
        return False
    mirror = None if wanted.copies_users else wanted.mirror
    if mirror and abs(seen.mirrors.get(mirror.target, 0.0) - mirror.percent) >= SAME_PERCENT:
        return False
    if any(target in seen.mirrors for target in wanted.retired):
        return False
    if wanted.table is None:
        return seen.sticky is False
    users = seen.sticky is True and seen.segments == wanted.segments
    return users and seen.copies_users is wanted.copies_users
