"""What a spec may ask for that can't be done.

Such a spec is refused with a condition that names the field. It is never silently ignored.
"""

from __future__ import annotations

from modelexperiment.core import statistical
from modelexperiment.core.analysis import segment_values, settings_for
from modelexperiment.core.measures import guardrail_parts, parts_of, shadow_parts
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec, Unit

# What the API server's store takes of one object is 1.5 MiB.
LARGEST_STATE = 1024 * 1024
# Bytes of one comparison's state and what the status says of it, at most, as measured.
STATE = 2_000
STATE_PER_BUCKET = 40


def unsupported(spec: ExperimentSpec) -> Problem | None:
    """What of the spec can't be read or computed, if anything."""
    try:
        parts_of(spec)
        guardrail_parts(spec)
        shadow_parts(spec)
    except ValueError as why:
        return Problem("BadSelector", str(why))
    try:
        for metric in spec.metrics:
            settings_for(spec, metric, spec.challengers[0])
    except ValueError as why:
        return Problem("BadAnalysis", f"spec.analysis: {why}")
    impossible = statistical.unreadable(spec)
    return Problem("BadGuardrail", impossible) if impossible else _too_large(spec)


def _too_large(spec: ExperimentSpec) -> Problem | None:
    """Whether the states of all comparisons together are more than a status can hold."""
    buckets = spec.assignment.buckets if spec.unit is Unit.USER and spec.assignment else 0
    whole = len(spec.metrics) * len(spec.challengers)
    number = whole * (1 + len(segment_values(spec)))
    # The primary metric's blocks have a state of their own, of the same size.
    size = (number + len(spec.challengers)) * (STATE + STATE_PER_BUCKET * buckets)
    if size <= LARGEST_STATE:
        return None
    return Problem(
        "TooManyComparisons",
        f"spec.segments: {number} comparisons (of metrics, challengers and segments' values) may "
        f"need {size // 1024:,} KiB of status, over {LARGEST_STATE // 1024:,}: leave some out",
    )
