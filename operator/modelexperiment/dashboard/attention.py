"""Which experiments somebody should look at, and why, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from modelexperiment.core.conditions import ConditionType
from modelexperiment.core.status import (
    Condition,
    ConditionStatus,
    ExperimentStatus,
    GuardrailState,
    Phase,
)


class Level(IntEnum):
    """How much an experiment asks for somebody; the least number stands first."""

    URGENT = 0
    """Users are or were served something bad, or a rollback would not reach them."""
    WARNING = 1
    """It cannot go on, or its numbers cannot be trusted."""
    WAITING = 2
    """It waits for somebody's word."""
    RUNNING = 3
    """It goes on by itself."""
    ENDED = 4
    """Nothing more is decided."""

    @property
    def asks(self) -> bool:
        """Whether somebody should look."""
        return self <= Level.WAITING


@dataclass(frozen=True)
class Attention:
    """What an experiment asks for."""

    level: Level
    why: str = ""
    """For people; empty where there is nothing to say."""
    until: datetime | None = None
    """From then on it is as any that has ended."""

    def at(self, now: datetime) -> Level:
        """What it asks for at a time."""
        return Level.ENDED if self.until and now >= self.until else self.level


# A rollback is news for so long; after that it would hide what goes on.
_FRESH = timedelta(days=7)
# Of an experiment that goes on. What is Unknown only waits.
_WARNINGS = (
    ConditionType.SAMPLE_RATIO_HEALTHY,
    ConditionType.METRICS_READY,
    ConditionType.GUARDRAILS_HEALTHY,
    ConditionType.SHADOW_AGREES,
)


def judge(
    metadata: Mapping[str, Any], status: ExperimentStatus, note: str | None = None
) -> Attention:
    """What an experiment asks for.

    Args:
        metadata: of the object.
        status: what the operator says of it.
        note: of a promote that is waited for, as `modelexperiment status` says it.
    """
    ended = status.phase.ended
    routes = _failed(status, ConditionType.ROUTES_READY)
    if routes and status.phase.started:
        return Attention(Level.URGENT, _said(routes))
    if status.phase is Phase.ROLLED_BACK:
        until = status.end_time and status.end_time + _FRESH
        return Attention(Level.URGENT, _decided(status), until)
    if not ended:
        for guardrail in status.guardrails:
            if guardrail.state is GuardrailState.BREACH:
                what = f"guardrail {guardrail.name} is in breach for {guardrail.model_version}"
                return Attention(Level.URGENT, _with(what, guardrail.message))
    warning = routes or _warning(status)
    if warning:
        return Attention(Level.WARNING, _said(warning))
    if metadata.get("deletionTimestamp"):
        return Attention(Level.RUNNING, "is being deleted")
    newest, known = metadata.get("generation") or 0, status.observed_generation or 0
    if known < newest:
        seen = f"the operator has seen generation {known} of the spec, not yet {newest}"
        return Attention(Level.WARNING, seen if known else "the operator has not seen it yet")
    if note and not ended:
        return Attention(Level.WAITING, note)
    if status.phase is Phase.PAUSED:
        return Attention(Level.WAITING, "is paused: nothing is decided until it is resumed")
    return Attention(Level.ENDED if ended else Level.RUNNING, _decided(status) if ended else "")


def _failed(status: ExperimentStatus, type_: str) -> Condition | None:
    found = status.condition(type_)
    return found if found and found.status is ConditionStatus.FALSE else None


def _warning(status: ExperimentStatus) -> Condition | None:
    of_running = () if status.phase.ended else _WARNINGS
    found = (_failed(status, type_) for type_ in (*of_running, ConditionType.ALERTS_DELIVERED))
    return next((c for c in found if c), None)


def _said(found: Condition) -> str:
    return f"{found.reason}: {found.message}"


def _decided(status: ExperimentStatus) -> str:
    return status.decision.reason if status.decision else ""


def _with(what: str, more: str | None) -> str:
    return f"{what}: {more}" if more else what
