"""What the status says of a shadow's answers."""

from __future__ import annotations

from enum import StrEnum

from modelexperiment.core.entries import Number, Part
from modelexperiment.core.fields import ModelVersion, Time


class ShadowState(StrEnum):
    """The gate's three answers about a shadow."""

    PASS = "Pass"
    DIVERGES = "Diverges"
    INSUFFICIENT_DATA = "InsufficientData"


class DistributionStatus(Part):
    """How far the shadow's predictions are from the champion's, as distributions."""

    jensen_shannon: float
    """The Jensen-Shannon divergence of the histograms in bits: 0 the same, 1 nothing in common."""
    psi: float
    """The population stability index of the histograms: 0 the same."""
    samples: Number
    """Predictions of the version that has fewer."""


class ShadowStatus(Part):
    """What is known of the shadow's answers."""

    model_version: ModelVersion
    """The shadow."""
    since: Time
    """When the count began."""
    limit: float | None = None
    """The divergence that is still accepted."""
    comparisons: Number | None = None
    """Predictions that were compared with the champion's."""
    disagreements: Number | None = None
    """Those among them that disagree."""
    divergence: float | None = None
    """Their share."""
    lower: float | None = None
    """The divergence's lower bound, which holds at every look."""
    upper: float | None = None
    """Its upper bound, which holds at every look."""
    state: ShadowState | None = None
    """Pass (the upper bound is at most the limit), Diverges (the lower bound is over it) or
    InsufficientData."""
    distribution: DistributionStatus | None = None
    """Reported beside it; nothing is decided from it."""
