"""What a spec may ask for that this version of the operator can't do yet.

Such a spec is refused with a condition that names the field. It is never silently ignored.
"""

from __future__ import annotations

from modelexperiment.core.analysis import settings_for
from modelexperiment.core.measures import kind_of, parts_of
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec


def _unsupported_fields(spec: ExperimentSpec) -> list[str]:
    fields = {
        "spec.route.gatewayAPI": spec.route.gateway_api,
        "spec.assignment": spec.assignment,
        "spec.shadow": spec.shadow,
        "spec.tracking": spec.tracking,
        "spec.alerts": spec.alerts,
        "spec.segments": spec.segments,
    }
    found = [field for field, value in fields.items() if value]
    found += [
        f"spec.metrics[{metric.name}].{kind_of(metric)}"
        for metric in spec.metrics
        if kind_of(metric) not in ("proportion", "mean")
    ]
    found += [
        f"spec.guardrails[{guardrail.name}] of another kind than query"
        for guardrail in spec.guardrails
        if guardrail.query is None
    ]
    return found


def unsupported(spec: ExperimentSpec) -> Problem | None:
    """What of the spec is not supported, or can't be read, if anything is."""
    found = _unsupported_fields(spec)
    if found:
        return Problem(
            "NotSupported",
            f"{', '.join(found)}: not supported by this version of the operator; leave it out",
        )
    try:
        parts_of(spec)
    except ValueError as why:
        return Problem("BadSelector", str(why))
    try:
        for metric in spec.metrics:
            settings_for(spec, metric, spec.challengers[0])
    except ValueError as why:
        return Problem("BadAnalysis", f"spec.analysis: {why}")
    return None
