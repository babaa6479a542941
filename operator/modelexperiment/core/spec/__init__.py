"""What a team asks for: the spec of a ModelExperiment.

These models are the source of the CRD's schema and of `kubectl explain` (see `fields.py`). Numbers
called percent are percent (10 is 10 %), durations are strings such as "5m".
"""

from modelexperiment.core.spec.analysis import (
    Analysis,
    Correction,
    Method,
    OnWin,
    Rollout,
    Segment,
    TimeoutAction,
    Unit,
)
from modelexperiment.core.spec.experiment import (
    Alert,
    Endpoint,
    ExperimentSpec,
    SecretKey,
    Shadow,
    Tracking,
)
from modelexperiment.core.spec.metrics import (
    Effect,
    Goal,
    Guardrail,
    Mean,
    Metric,
    NoData,
    Prometheus,
    Proportion,
    Quantile,
    Rate,
    Role,
)
from modelexperiment.core.spec.routing import Arm, Assignment, GatewayApiRoute, IstioRoute, Route

__all__ = [
    "Alert",
    "Analysis",
    "Arm",
    "Assignment",
    "Correction",
    "Effect",
    "Endpoint",
    "ExperimentSpec",
    "GatewayApiRoute",
    "Goal",
    "Guardrail",
    "IstioRoute",
    "Mean",
    "Method",
    "Metric",
    "NoData",
    "OnWin",
    "Prometheus",
    "Proportion",
    "Quantile",
    "Rate",
    "Role",
    "Rollout",
    "Route",
    "SecretKey",
    "Segment",
    "Shadow",
    "TimeoutAction",
    "Tracking",
    "Unit",
]
