"""Which versions of which models are known: a bounded number, since each pair is some series."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from modelexperiment.comparer.predictions import PredictionError

MAX_OF_MODEL = 8
"""Versions of one model."""
MAX_VERSIONS = 64
"""Versions of all models together."""
RETIRE_AFTER = 3600.0
"""Seconds without a prediction after which a version makes room for a new one."""


class Version(NamedTuple):
    """A version of a model."""

    model: str
    version: str


class TooManyVersionsError(PredictionError):
    """There is no room for one more version."""

    reason = "versions"


class Versions:
    """The versions that are known. None is forgotten before its room is needed."""

    def __init__(self) -> None:
        self._seen: dict[Version, float] = {}

    def of(self, model: str) -> list[str]:
        """The known versions of a model."""
        return [known.version for known in self._seen if known.model == model]

    def admit(self, wanted: Iterable[Version], now: float) -> tuple[list[Version], list[Version]]:
        """Take versions in; gives those that are new, and those that made room for them.

        Raises:
            TooManyVersionsError: where one has no room; then none was taken in.
        """
        seen, added, retired = dict(self._seen), list[Version](), list[Version]()
        asked = dict.fromkeys(wanted)
        for new in asked:
            if new not in seen:
                added.append(new)
                if gone := _room(seen, new, asked, now):
                    retired.append(gone)
                    del seen[gone]
            seen[new] = now
        self._seen = seen
        return added, retired


def _room(
    seen: dict[Version, float], new: Version, asked: dict[Version, None], now: float
) -> Version | None:
    """The version that must go so that a new one can come; None where there is room."""
    of_model = [known for known in seen if known.model == new.model]
    if len(of_model) >= MAX_OF_MODEL:
        candidates, what = of_model, f"{MAX_OF_MODEL} versions of {new.model}"
    elif len(seen) >= MAX_VERSIONS:
        candidates, what = list(seen), f"{MAX_VERSIONS} versions of all models"
    else:
        return None
    idle = [k for k in candidates if k not in asked and now - seen[k] >= RETIRE_AFTER]
    if not idle:
        raise TooManyVersionsError(
            f"modelVersion: {what} are known already, got {new.version} of {new.model}"
        )
    return min(idle, key=lambda known: seen[known])
