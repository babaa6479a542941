"""Lists of a route in which one entry is the operator's mirror, and the others are not its own.

Both kinds of route have such a list. Entries are told apart by the target that they copy to; one
that copies to none of the experiment's, or that is no mirror at all, has the target None.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelexperiment.core.routing import SAME_PERCENT, Routing

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """How one kind of route writes a mirror."""

    target: Callable[[Entry], str | None]
    percent: Callable[[Entry], float]
    entry: Callable[[str, float], dict[str, Any]]
    """By target and percent."""


def percents(kind: Kind, entries: Iterable[Entry]) -> dict[str, float]:
    """The percent that is copied to each target, summed where it stands several times."""
    found: dict[str, float] = {}
    for entry in entries:
        target = kind.target(entry)
        if target is not None:
            found[target] = found.get(target, 0.0) + kind.percent(entry)
    return found


def routed(kind: Kind, seen: Sequence[Entry] | None, routing: Routing) -> Sequence[Entry] | None:
    """The list with the wanted mirror in it, and without those that are retired."""
    entries = _without(kind, seen, routing.retired)
    mirror = routing.mirror
    if mirror:
        own = [entry for entry in entries if kind.target(entry) == mirror.target]
        if len(own) != 1 or abs(kind.percent(own[0]) - mirror.percent) >= SAME_PERCENT:
            entries = _without(kind, entries, [mirror.target])
            entries.append(kind.entry(mirror.target, mirror.percent))
    return _as_field(entries, seen)


def restored(
    kind: Kind,
    seen: Sequence[Entry] | None,
    mirrored: Collection[str],
    original: Sequence[Entry],
) -> Sequence[Entry] | None:
    """The list as it would be had the operator never mirrored to these targets."""
    before = [entry for entry in original if kind.target(entry) in mirrored]
    return _as_field([*_without(kind, seen, mirrored), *before], seen)


def _without(kind: Kind, entries: Sequence[Entry] | None, targets: Collection[str]) -> list[Entry]:
    return [entry for entry in entries or [] if kind.target(entry) not in targets]


def _as_field(entries: list[Entry], seen: Sequence[Entry] | None) -> Sequence[Entry] | None:
    """The field of the list: None where it is not to be there."""
    return entries or (None if seen else seen)
