"""Which users get which version: the table goes from split to split, and is remembered.

A table is decided from the one in the status, and written to the status after the route. A kill
between the two writes decides from the same table again, and comes to the same route.
"""

from __future__ import annotations

from dataclasses import replace

from modelexperiment.core.allocation import SegmentTable, moved
from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.rollout import Split
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Proof
from modelexperiment.core.users import UserTable

MOST_REFS = 16
"""The backendRefs that an HTTPRoute's rule takes."""


def place(draft: Draft, split: Split | None) -> Routing | None:
    """What the route is to say for a split; the table behind it is put into the status."""
    if split is None:
        return None
    if draft.spec.assignment is None:
        draft.update(assignment=None)
        draft.remember(layout=[])
        return Routing(split)
    _leave_or_return(draft)
    table = _table(draft)
    if draft.status.phase.ended or draft.status.shadowing:
        # No move: the table stays as it was, for a restart, or for when it goes live.
        whole = max(split, key=lambda version: split[version])
        routing = Routing(split, _written(draft, table.everything_to(whole)))
    else:
        table = _moved(draft, table, split)
        routing = Routing(split, _written(draft, table))
    draft.update(assignment=UserTable.of(draft.experiment, table))
    return routing


def _moved(draft: Draft, table: SegmentTable, split: Split) -> SegmentTable:
    """The table of another split; where an HTTPRoute has no room for it, one that is laid anew."""
    least = table.moved_to(split)
    if draft.spec.route.gateway_api is None:
        return least
    # Versions without any slots are listed as well.
    room = MOST_REFS - sum(percent == 0 for percent in split.values())
    after = table.moved_to(split, at_most=room)
    if after != least:
        moves, needed = (sum(moved(table, other).values()) for other in (after, least))
        draft.tell(
            Reason.SPLIT_CHANGED,
            f"the users' table was laid anew, since an HTTPRoute takes {MOST_REFS} backendRefs "
            f"and it would need {len(least.layout)}: {moves:g} % of the users move, "
            f"instead of {needed:g} %",
        )
    return after


def _written(draft: Draft, table: SegmentTable) -> SegmentTable:
    """The table as the route can say it: an HTTPRoute has no room for hash buckets."""
    return replace(table, buckets=0) if draft.spec.route.gateway_api else table


def _leave_or_return(draft: Draft) -> None:
    """Set the experiment's own table aside while a rollout moves users, and take it back after.

    With three versions or more, a rollout's last table does not tell who had which before it.
    """
    status = draft.status
    if status.assignment is None:
        return
    if status.rollout and not status.phase.ended:
        if not status.memory.layout:
            draft.remember(layout=status.assignment.layout)
    elif status.memory.layout:
        own = {"layout": status.memory.layout}
        draft.update(assignment=status.assignment.model_copy(update=own))
        draft.remember(layout=[])


def take_redraw(draft: Draft) -> None:
    """Say that an edit has drawn the users anew, where it has; the metrics restart by themselves.

    What restarts them is that the draw is part of `analysis.fingerprint`.
    """
    before, after = draft.status.assignment, asked(draft.experiment)
    if before is None and after is None:
        return
    if before and after and before.drawn_by == after.drawn_by:
        if before.buckets == after.buckets:
            return
        text = (
            f"{before.buckets} hash buckets became {after.buckets}: nobody moves, and "
            "everybody's bucket is another one"
        )
    else:
        were = f"kept by {before.drawn_by}" if before else "routed at random"
        are = f"kept by {after.drawn_by}" if after else "routed at random"
        text = f"users were {were} and are now {are}: everybody is drawn anew"
    draft.tell(Reason.SPLIT_CHANGED, f"{text}; a new phase of the count")
    draft.remember(split_since=draft.snapshot.now)


def take_proof(draft: Draft) -> None:
    """Remember a route that the proxy was seen to follow, and forget it if it is not any more.

    A proof that could not be renewed is none either: the proxy may have changed since.
    """
    found = draft.snapshot.proof
    if found is None:
        return
    if isinstance(found, Proof) and not found.wrong:
        draft.remember(proven=found.of, proven_at=draft.snapshot.now)
    else:
        draft.remember(proven="", proven_at=None)


def asked(experiment: Experiment) -> UserTable | None:
    """The table that the manifest's split starts with; None where users are not kept."""
    spec = experiment.spec
    if spec.assignment is None:
        return None
    buckets = spec.assignment.buckets
    first = SegmentTable.initial(spec.split, spec.champion_version, buckets)
    return UserTable.of(experiment, first)


def _table(draft: Draft) -> SegmentTable:
    """The table in the status, if it is of the draw that the spec asks for; else a first one."""
    known, first = draft.status.assignment, asked(draft.experiment)
    assert first is not None
    if known is None or known.drawn_by != first.drawn_by:
        return first.table
    return replace(known.table, champion=first.champion, buckets=first.buckets)
