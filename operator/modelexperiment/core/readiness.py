"""Only versions with ready endpoints get traffic; what another would have is the champion's.

The champion gets its share whether it is ready or not: there is nobody to move it to who has been
trusted with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from modelexperiment.core.draft import Draft
from modelexperiment.core.events import Reason
from modelexperiment.core.rollout import Split
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec

NOT_READY = "ArmNotReady"
"""The condition's reason."""


def routable(spec: ExperimentSpec, split: Split, not_ready: Collection[str]) -> Split:
    """The split with the shares of challengers that are not ready moved to the champion."""
    champion = spec.champion_version
    if champion in not_ready:
        return split
    kept = {v: 0.0 if v in not_ready else percent for v, percent in split.items()}
    kept[champion] = round(100 - sum(p for v, p in kept.items() if v != champion), 2)
    return kept


def only_ready(
    spec: ExperimentSpec, routing: Routing | None, not_ready: Collection[str]
) -> Routing | None:
    """What the route is to say while these versions are not ready.

    Their users go to the champion, and everybody else stays. The table behind it is remembered as
    it was, so that they all return to the version they had.
    """
    if routing is None or not not_ready or spec.champion_version in not_ready:
        return routing
    table = routing.table
    for version in not_ready:
        table = table and table.without(version)
    return replace(routing, split=routable(spec, routing.split, not_ready), table=table)


def problem(spec: ExperimentSpec, split: Split, not_ready: Mapping[str, str]) -> Problem | None:
    """What is wrong with the versions that the split gives something to, if anything."""
    found = [
        _told(spec, version, percent, not_ready)
        for version, percent in split.items()
        if percent > 0 and version in not_ready
    ]
    return Problem(NOT_READY, "; ".join(found), bad_input=False) if found else None


def _told(spec: ExperimentSpec, version: str, percent: float, not_ready: Mapping[str, str]) -> str:
    champion, why = spec.champion_version, f"{version} is not ready: {not_ready[version]}"
    if version == champion:
        return f"{why}; its {percent:g} % stay with it, for it is the champion: look at its Pods"
    if champion in not_ready:
        return f"{why}; its {percent:g} % stay with it, for the champion is not ready either"
    return f"{why}; its {percent:g} % stay with {champion} until it has ready endpoints"


def blocker(spec: ExperimentSpec, not_ready: Mapping[str, str]) -> Problem | None:
    """What keeps an experiment from starting: nothing is split before all versions are ready."""
    for version, percent in spec.split.items():
        if percent > 0 and version in not_ready:
            text = f"{version} is not ready: {not_ready[version]}; the experiment starts once it is"
            return Problem(NOT_READY, text, bad_input=False)
    return None


def take_changes(draft: Draft, split: Split | None) -> Problem | None:
    """Tell which versions have become ready, or no longer are; gives what is wrong now."""
    if split is None:
        return None
    not_ready = draft.snapshot.not_ready
    now = [v for v, percent in split.items() if percent > 0 and v in not_ready]
    before = draft.status.memory.not_ready
    for version in now:
        if version not in before:
            told = _told(draft.spec, version, split[version], not_ready)
            draft.tell(Reason.ARM_NOT_READY, told)
    for version in before:
        if version not in not_ready and split.get(version, 0.0) > 0:
            draft.tell(Reason.ARM_READY, f"{version} is ready: it gets its {split[version]:g} %")
    if now != before:
        draft.remember(not_ready=now)
    return problem(draft.spec, split, not_ready)
