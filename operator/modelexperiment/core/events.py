"""What is told to people as Kubernetes Events, each also a line in the log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an event is told."""

    STARTED = "Started"
    SPLIT_CHANGED = "SplitChanged"
    GUARDRAIL_BREACHED = "GuardrailBreached"
    ROLLED_BACK = "RolledBack"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"
    VERDICT_REACHED = "VerdictReached"
    PROMOTE_REQUESTED = "PromoteRequested"
    ROLLOUT_STEP = "RolloutStep"
    PROMOTED = "Promoted"
    COMPLETED = "Completed"
    CONFIG_INVALID = "ConfigInvalid"
    METRIC_RESTARTED = "MetricRestarted"
    COUNTER_RESET = "CounterReset"
    HISTORY_LOST = "HistoryLost"
    ROUTE_RESTORED = "RouteRestored"
    ROUTE_CORRECTED = "RouteCorrected"
    ALERT_NOT_DELIVERED = "AlertNotDelivered"
    ARM_NOT_READY = "ArmNotReady"
    ARM_READY = "ArmReady"
    SHADOWING = "Shadowing"
    SHADOW_PASSED = "ShadowPassed"
    SHADOW_DIVERGED = "ShadowDiverged"


_WARNINGS = {
    Reason.GUARDRAIL_BREACHED,
    Reason.ROLLED_BACK,
    Reason.SAMPLE_RATIO_MISMATCH,
    Reason.CONFIG_INVALID,
    Reason.COUNTER_RESET,
    Reason.HISTORY_LOST,
    Reason.ROUTE_CORRECTED,
    Reason.ALERT_NOT_DELIVERED,
    Reason.ARM_NOT_READY,
    Reason.SHADOW_DIVERGED,
}


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    reason: Reason
    message: str

    @property
    def warning(self) -> bool:
        """Whether somebody should look at it."""
        return self.reason in _WARNINGS
