"""A status in which every field that the operator's metrics tell of says something."""

from __future__ import annotations

from typing import Any

from modelexperiment.core.status import ExperimentStatus

_JUDGED = {"message": "", "lastTransitionTime": "2026-03-01T12:00:00Z"}


def full_status(phase: str = "RolledBack", **fields: Any) -> ExperimentStatus:
    """One challenger, one metric, one guardrail; `fields` replaces fields of the status."""
    return ExperimentStatus.model_validate(
        {
            "phase": phase,
            "conditions": [
                {"type": "RoutesReady", "status": "True", "reason": "AsAsked", **_JUDGED},
                {"type": "GuardrailsHealthy", "status": "False", "reason": "Breach", **_JUDGED},
            ],
            "routed": [
                {"modelVersion": "v1", "percent": 90.5},
                {"modelVersion": "v2", "percent": 9.5},
            ],
            "startTime": "2026-03-01T12:00:00Z",
            "countedUntil": "2026-03-01T12:30:00Z",
            "analysis": [
                {
                    "metric": "accuracy",
                    "role": "Primary",
                    "modelVersion": "v2",
                    "champion": {"samples": 9000, "estimate": 0.6},
                    "challenger": {"samples": 1000, "estimate": 0.63},
                    "absolute": {"effect": 0.03, "lower": 0.006, "upper": 0.054},
                    "relative": {"effect": 5.0, "lower": 1.0, "upper": 9.0},
                    "pValue": 0.001,
                    "correctedPValue": 0.002,
                    "significant": True,
                    "method": "Sequential",
                }
            ],
            "verdict": "ChallengerBetter",
            "decision": {"action": "Rollback", "reason": "errors", "riskLevel": "critical"},
            "plan": {"samplesNeeded": 5800, "samplesSoFar": 1000, "eta": "2026-03-01T13:00:00Z"},
            "guardrails": [
                {
                    "name": "errors",
                    "modelVersion": "v2",
                    "state": "Breach",
                    "value": 0.3,
                    "limit": 0.02,
                    "breaches": 2,
                    "lastChange": "2026-03-01T12:30:00Z",
                }
            ],
            "sampleRatio": {
                "expected": {"v1": 0.9, "v2": 0.1},
                "observed": {"v1": 0.8, "v2": 0.2},
                "pValue": 1e-9,
                "mismatch": True,
            },
            "shadow": {
                "modelVersion": "v3",
                "since": "2026-03-01T12:00:00Z",
                "limit": 0.05,
                "comparisons": 1000,
                "disagreements": 10,
                "divergence": 0.01,
                "lower": 0.004,
                "upper": 0.021,
                "state": "Pass",
            },
            **fields,
        }
    )
