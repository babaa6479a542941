"""Why the arms may not have got their shares: what is looked for, and what was found.

Each check sees one poll and answers in a sentence, or says that all is well with what it looked
at. One that can't look, because nothing tells it, stays out of both lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelexperiment.core.draft import Draft
from modelexperiment.core.fields import format_time
from modelexperiment.core.measures import bucket_label
from modelexperiment.core.snapshot import Counted, RouteSeen
from modelexperiment.core.spec import Unit

# Fewer requests without a bucket than this explain no mismatch that is worth a name.
UNLABELLED = 0.01


@dataclass(frozen=True)
class Causes:
    """What was looked for."""

    found: list[str]
    """Likely causes, as sentences without a full stop."""
    fine: list[str]
    """What was looked at and is well."""

    def after(self, before: list[str]) -> Causes:
        """With what was found earlier; of the same cause, as it is told now."""
        advice = {text.rpartition(": ")[2] for text in self.found}
        kept = [text for text in before if text.rpartition(": ")[2] not in advice]
        return Causes([*kept, *self.found], self.fine)

    def __str__(self) -> str:
        text = "likely: " + "; ".join(self.found) if self.found else "no cause was found"
        return text + (f" (checked and well: {', '.join(self.fine)})" if self.fine else "")


@dataclass(frozen=True)
class _Facts:
    draft: Draft
    counted: Counted
    metric: str
    versions: list[str]

    def samples(self, version: str) -> float:
        increment = self.counted.increments.get((self.metric, version))
        return increment.n if increment else 0.0


def look(draft: Draft, counted: Counted, metric: str, versions: list[str]) -> Causes:
    """Look for causes; `versions` are those that should have got traffic."""
    facts, found, fine = _Facts(draft, counted, metric, versions), list[str](), list[str]()
    for what, check in _CHECKS.items():
        text = check(facts)
        if text:
            found.append(text)
        elif text is not None:
            fine.append(what)
    return Causes(found, fine)


def _ready(facts: _Facts) -> str | None:
    silent = [v for v in facts.versions if not facts.samples(v)]
    if not silent:
        return ""
    if len(silent) == len(facts.versions):
        return None
    return f"{' and '.join(silent)} counted nothing in the last poll: is every arm ready?"


def _scraped(facts: _Facts) -> str | None:
    known = {v: facts.counted.instances.get(v) for v in facts.versions}
    gone = [f"{n[0]} of {n[1]} of {v}" for v, n in known.items() if n and n[0]]
    if gone:
        return (
            f"series that were there are missing for some instances ({', '.join(gone)}): are all "
            "pods scraped?"
        )
    return "" if any(known.values()) else None


def _edited(facts: _Facts) -> str | None:
    route, memory = facts.draft.snapshot.route, facts.draft.status.memory
    if not isinstance(route, RouteSeen):
        return None
    since = memory.split_since
    if memory.corrected and (since is None or memory.corrected >= since):
        return (
            f"the weights were edited by somebody else, at {format_time(memory.corrected)} last, "
            "and put back: see the event RouteCorrected"
        )
    return ""


def _retried(facts: _Facts) -> str | None:
    route = facts.draft.snapshot.route
    if not isinstance(route, RouteSeen) or route.retries is None:
        return None
    if route.retries == 0:
        return ""
    return (
        f"the route retries a failed request up to {route.retries} times, and each try counts: "
        "set its retries.attempts to 0 for the experiment"
    )


def _in_buckets(facts: _Facts) -> str | None:
    spec = facts.draft.spec
    if spec.unit is not Unit.USER or not spec.assignment or bucket_label(spec) is None:
        return None
    total = sum(facts.samples(v) for v in facts.versions)
    labelled = sum(
        i.n
        for v in facts.versions
        for i in facts.counted.buckets.get((facts.metric, v), {}).values()
    )
    if not total:
        return None
    share = 1 - labelled / total
    if share <= UNLABELLED:
        return ""
    name = spec.assignment.header or spec.assignment.cookie
    return (
        f"{100 * share:.1f} % of the requests are in no bucket: are they without {name}, or does a "
        "version not copy x-experiment-bucket?"
    )


_CHECKS: dict[str, Callable[[_Facts], str | None]] = {
    "every arm counts": _ready,
    "all instances are scraped": _scraped,
    "nobody edited the weights": _edited,
    "no retries": _retried,
    "requests carry the header": _in_buckets,
}
