"""What was seen of the world for one decision: the route, the counts, the readings, the time.

`controller/gather.py` fills it in; `plan.py` decides from it and from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelexperiment.core.allocation import Segment
from modelexperiment.core.counting import Reset
from modelexperiment.core.stats import Increment
from modelexperiment.core.tally import Arms, Cell, SegmentValue


@dataclass(frozen=True)
class Problem:
    """Something that could not be seen, and what to do about it."""

    reason: str
    """One word for programs, in CamelCase."""
    message: str
    """One line for people that names the field and the value."""
    bad_input: bool = True
    """Whether the manifest or the cluster is wrong, rather than a service unreachable."""


@dataclass(frozen=True)
class RouteSeen:
    """The route as it is now."""

    split: Mapping[str, float] | None
    """Percent by modelVersion; None where it sends traffic anywhere else as well."""
    destinations: Any
    """Its destinations as they stand, to be restored later."""
    segments: tuple[Segment, ...] | None = None
    """Its entries in order as a table of users gives them, each with the hash bucket that it
    stamps; None where it can't be read as one. Entries without any weight are left out."""
    sticky: bool | None = False
    """Whether the proxy is told to choose by the user just as the experiment asks; False where
    it is not told anything, None where it is told something else."""
    unsticky: Problem | None = None
    """What keeps users from staying on their version whatever the route says."""
    mirrors: Mapping[str, float] = field(default_factory=dict)
    """Percent of the requests that is copied, by subset or backend; a target's mirrors summed."""
    copies_users: bool = False
    """Whether the proxy is told to copy the requests of the entries that say so."""
    pending: Problem | None = None
    """Why what it says is not in force, where whoever serves it says so."""
    retries: int | None = None
    """How often it sends a failed request again; None: not known."""
    marker: str | None = None
    """What a rollback left in it, in the same write."""


@dataclass(frozen=True)
class Counted:
    """What the counters grew by in (since, until]."""

    since: datetime
    until: datetime
    increments: Mapping[tuple[str, str], Increment]
    """By (metric, modelVersion)."""
    buckets: Mapping[tuple[str, str], Mapping[int, Increment]] = field(default_factory=dict)
    """The same again by hash bucket, where the counters carry the bucket's label."""
    segments: Mapping[SegmentValue, Arms] = field(default_factory=dict)
    """The same again by segment."""
    histograms: Mapping[Cell, Mapping[float, float]] = field(default_factory=dict)
    """Of quantile metrics: by how much the count up to each bucket's edge grew."""
    samples: bool = True
    """Whether there was any sample in the span."""
    resets: tuple[Reset, ...] = ()
    instances: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By version, how many scraped instances have fallen silent, and how many there were."""
    silent: tuple[str, ...] = ()
    """Selectors that match no series of the champion's, as the manifest names them."""
    history_lost: datetime | None = None
    """When Prometheus' new history begins, where it has lost what it had before."""
    next_sample: tuple[float, float] | None = None
    """In how many seconds the next sample is due, and every how many seconds one is."""

    @property
    def arms(self) -> Arms:
        """All segments together."""
        return Arms(self.increments, self.buckets)


@dataclass(frozen=True)
class Guarded:
    """What the counters of statistical guardrails grew by."""

    settled: Counted
    """What is counted for good."""
    unsettled: tuple[Counted, ...] = ()
    """What came after that up to now, step by step: a late sample may still change it."""


@dataclass(frozen=True)
class Reading:
    """One guardrail query for one version."""

    guardrail: str
    model_version: str
    value: float | None
    """None: no data."""
    missing: str = ""
    """Why there is no value."""
    error: Problem | None = None
    """The query itself is wrong, or Prometheus did not answer."""
    query: str = ""
    """The query, filled in."""


@dataclass(frozen=True)
class Proof:
    """What the proxy did with the users that it was asked for."""

    of: str
    """Of which route, see `proof.route_id`."""
    asked: int
    wrong: tuple[str, ...] = ()
    """Each user that got another version than predicted, in words."""


@dataclass(frozen=True)
class Snapshot:
    """Everything known about an experiment at one moment."""

    now: datetime
    generation: int
    route: RouteSeen | Problem
    unsupported: Problem | None = None
    """What the spec asks for and this version of the operator can't do."""
    alerts_refused: Problem | None = None
    """A receiver of alerts that the platform does not allow."""
    holder: str | None = None
    """Another experiment that holds the same route."""
    counted: Counted | Problem | None = None
    """None: no poll was due."""
    readings: tuple[Reading, ...] = field(default=())
    """Guardrail readings of this poll, of the champion too."""
    guarded: Guarded | Problem | None = None
    """The counts of statistical guardrails; None: no poll was due, or there are none."""
    shadowed: Counted | Problem | None = None
    """The counts of the shadow; None: no poll was due, or nothing is counted of one."""
    prometheus: str = ""
    """Where people find the Prometheus that was read."""

    @property
    def next_sample(self) -> tuple[float, float] | None:
        """In how many seconds a counter's next sample is due, and every how many one is."""
        settled = self.guarded.settled if isinstance(self.guarded, Guarded) else None
        seen = (settled, self.counted)
        known = (s.next_sample for s in seen if isinstance(s, Counted))
        return next((expected for expected in known if expected), None)

    proof: Proof | Problem | None = None
    """What the proxy did with some users, or why it could not be asked; None: it was not."""

    not_ready: Mapping[str, str] = field(default_factory=dict)
    """Why the versions without ready endpoints have none; of the others it is as good as known."""
    readiness_error: str = ""
    """Why the readiness could not be read, so that it is taken as it was before."""

    def reading(self, guardrail: str, model_version: str) -> Reading | None:
        """The reading of one guardrail for one version, if it was read in this poll."""
        wanted = (guardrail, model_version)
        return next((r for r in self.readings if (r.guardrail, r.model_version) == wanted), None)
