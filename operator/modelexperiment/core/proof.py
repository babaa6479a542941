"""Proving that the proxy does with users what the route says: ask it as a few users, and compare.

The route and the EnvoyFilter can be right and the proxy still choose at random: an older istiod
drops what makes it choose by the user without a word. Every version is asked for by as many users,
each twice; under a random choice, all of them come out as predicted about once in a million tries
at worst.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from modelexperiment.core.allocation import Segment, without_copies
from modelexperiment.core.assignment import user_slots
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.snapshot import Proof
from modelexperiment.core.status import Memory
from modelexperiment.core.users import UserTable

USERS = 20
REPEATS = 2
HOLDS = timedelta(minutes=10)
"""After which a proof is asked for again."""
# Enough for ten users of a version that gets a hundredth of a percent, nearly always.
_CANDIDATES = 200_000


def route_id(drawn_by: str, segments: Sequence[Segment]) -> str:
    """A short name for who gets what on a route, whoever is copied."""
    text = f"{drawn_by} {[segment[:3] for segment in without_copies(segments)]}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def questions(experiment: Experiment, segments: Sequence[Segment]) -> dict[str, str]:
    """The users to ask as, with the version that each should get; about as many of each."""
    ends = np.cumsum([segment.slots for segment in segments])
    versions = np.array([segment.model_version for segment in segments])
    names = [f"modelexperiment-probe-{number}" for number in range(_CANDIDATES)]
    present = sorted(set(versions.tolist()))
    wanted = -(-USERS // len(present))
    found: dict[str, list[str]] = {version: [] for version in present}
    for start in range(0, _CANDIDATES, 2_000):
        block = names[start : start + 2_000]
        slots = user_slots([name.encode() for name in block], experiment.salt, int(ends[-1]))
        got = versions[np.searchsorted(ends, slots, side="right")].tolist()
        for name, version in zip(block, got, strict=True):
            if len(found[version]) < wanted:
                found[version].append(name)
        if all(len(users) == wanted for users in found.values()):
            break
    return {user: version for version, users in found.items() for user in users}


def judge(of: str, expected: dict[str, str], answers: dict[str, list[str | None]]) -> Proof:
    """Compare the answers with what was predicted."""
    wrong = tuple(
        f"{user} got {' and '.join(str(version) for version in answers[user])} instead of {version}"
        for user, version in expected.items()
        if any(answer != version for answer in answers[user])
    )
    return Proof(of, len(expected), wrong)


def unproven(users: UserTable, segments: Sequence[Segment], proven: str) -> bool:
    """Whether there is anything to prove yet: with a single version there never is."""
    several = len({segment.model_version for segment in segments}) > 1
    return several and route_id(users.drawn_by, segments) != proven


def due(users: UserTable, segments: Sequence[Segment], memory: Memory, now: datetime) -> bool:
    """Whether to ask the proxy: what is unproven, and what was proven a while ago.

    The proxies may follow another istiod by now, which an unchanged route tells nothing of.
    """
    if unproven(users, segments, memory.proven):
        return True
    several = unproven(users, segments, "")
    return several and (memory.proven_at is None or now - memory.proven_at >= HOLDS)
