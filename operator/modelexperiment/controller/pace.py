"""When an experiment is polled next, and what is remembered of it until then."""

from __future__ import annotations

from dataclasses import dataclass

from modelexperiment.core import plan as planning
from modelexperiment.core.manifest import Experiment, parse_experiment
from modelexperiment.core.snapshot import Snapshot
from modelexperiment.ports import Object

# A sample bears the time at which its scrape began, and can be read so much later.
STORED = 0.25
# The next poll comes no sooner than this part of an interval.
SOONEST = 0.2
# How much of a poll's distance from others it keeps at each poll.
KEPT = 0.9


@dataclass
class Pace:
    """What is remembered of an experiment between two calls; none of it needs to outlive us."""

    due: float = 0.0
    """When it is polled next."""
    spread: float = 0.0
    """How much later than it could it is polled, so that not all are at once, in seconds."""
    failures: int = 0
    """How often it has failed in a row."""
    rollback: planning.Plan | None = None
    """A rollback that was decided and perhaps routed, but that no status tells of yet."""
    parsed: tuple[tuple[str, int], Experiment] | None = None
    """The experiment by the uid and the generation of its object."""
    doubtful: bool = False
    """Whether what is known of the experiment may be out of date: then it is read anew."""
    breach_seen: float | None = None
    """When the poll began whose breach is not yet answered by the route."""

    def took_up(self, began: float) -> None:
        """Note when a poll that was due has begun."""
        self.spread = KEPT * self.spread + began - self.due

    def experiment(self, seen: Object) -> Experiment:
        """The experiment, which is read only when its spec has changed; ManifestError."""
        metadata = seen["metadata"]
        read = str(metadata["uid"]), int(metadata["generation"])
        if self.parsed is None or self.parsed[0] != read:
            self.parsed = read, parse_experiment(seen)
        return self.parsed[1]


def until_poll(interval: float, snapshot: Snapshot, spread: float = 0.0) -> float:
    """Seconds until the next poll: soon after the last scrape within the interval.

    A fault that is scraped is then read at once, instead of half an interval later. Polls that
    follow the scrapes of one counter come no more often than the interval says.

    Where one scrape is followed by more polls than can be done at once, they would all be late, and
    an edit would wait behind them. So a poll that was late comes `spread` seconds after the scrape.
    """
    expected = snapshot.next_sample
    if expected is None or expected[1] > interval:
        return interval
    due, period = expected
    if due < 0:
        # It should be there by now: its scrape takes long. Look again after as long again.
        return max(-due, STORED)
    stored = (due + STORED) % period
    if stored < SOONEST * interval:
        stored += period
    stored += max(0.0, (interval - stored) // period) * period
    return max(stored, min(stored + spread, interval))
