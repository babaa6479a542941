"""Conditions as metav1.Condition: the transition time moves only when the status does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from modelexperiment.core.status import Condition, ConditionStatus


class ConditionType(StrEnum):
    """The aspects that are reported."""

    ROUTES_READY = "RoutesReady"
    METRICS_READY = "MetricsReady"
    GUARDRAILS_HEALTHY = "GuardrailsHealthy"
    SAMPLE_RATIO_HEALTHY = "SampleRatioHealthy"
    VERDICT_REACHED = "VerdictReached"
    COMPLETE = "Complete"
    SHADOW_AGREES = "ShadowAgrees"
    ALERTS_DELIVERED = "AlertsDelivered"


def condition(
    type_: ConditionType, status: bool | None, reason: str, message: str, now: datetime
) -> Condition:
    """Make a condition; `status` None is Unknown."""
    word = {True: ConditionStatus.TRUE, False: ConditionStatus.FALSE, None: ConditionStatus.UNKNOWN}
    return Condition(
        type=type_,
        status=word[status],
        reason=reason,
        message=message,
        last_transition_time=now.replace(microsecond=0),
    )


def merge(
    old: Iterable[Condition], new: Iterable[Condition], generation: int | None
) -> list[Condition]:
    """Put new conditions over old ones, keeping the transition time of an unchanged status."""
    merged = {c.type: c for c in old}
    for c in new:
        before = merged.get(c.type)
        since = (
            before.last_transition_time
            if before and before.status is c.status
            else c.last_transition_time
        )
        merged[c.type] = c.model_copy(
            update={"last_transition_time": since, "observed_generation": generation}
        )
    order = [str(type_) for type_ in ConditionType]
    return sorted(merged.values(), key=lambda c: order.index(c.type))
