"""What is remembered of an alert until everybody who is to know has heard of it.

The record stands in the status and is written with it, so that an operator that is killed between
writing and delivering leaves behind what the next one has to deliver.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum

from modelexperiment.core.entries import Part
from modelexperiment.core.fields import Time, format_time


class AlertName(StrEnum):
    """What alerts are about."""

    GUARDRAIL_BREACHED = "GuardrailBreached"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"
    METRICS_UNREADABLE = "MetricsUnreadable"
    ROUTE_NOT_WRITABLE = "RouteNotWritable"
    VERDICT_REACHED = "VerdictReached"

    @property
    def notification(self) -> bool:
        """Whether it is told once, since nothing is wrong that could be well again."""
        return self is AlertName.VERDICT_REACHED


class AlertState(StrEnum):
    """What is to be told of an alert."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertRecord(Part):
    """One alert, from when it began until its end is delivered everywhere."""

    name: AlertName
    """GuardrailBreached, SampleRatioMismatch, MetricsUnreadable, RouteNotWritable or
    VerdictReached."""
    labels: dict[str, str] = {}
    """What tells it from others of its name: guardrail, model_version, verdict."""
    summary: str
    """What was wrong when it began, in one line."""
    starts_at: Time
    """When it began."""
    ends_at: Time | None = None
    """When it was well again."""
    delivered: dict[str, AlertState] = {}
    """What each receiver has been told last, by the receiver's id."""

    @property
    def state(self) -> AlertState:
        """What is to be told of it."""
        over = self.ends_at is not None and not self.name.notification
        return AlertState.RESOLVED if over else AlertState.FIRING

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What it is about: at most one record of a key has not ended."""
        return str(self.name), tuple(sorted(self.labels.items()))

    @property
    def id(self) -> str:
        """A name for just this occurrence, the same after every restart of the operator."""
        return digest([self.name, self.labels, format_time(self.starts_at)])

    def outstanding(self, receiver: str) -> bool:
        """Whether a receiver has still to be told."""
        return self.delivered.get(receiver) is not self.state

    def told(self, receivers: Mapping[str, AlertState]) -> AlertRecord:
        """The record after some receivers have been told."""
        return self.model_copy(update={"delivered": {**self.delivered, **receivers}})


def digest(value: object) -> str:
    """A short stable name for anything that is JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
