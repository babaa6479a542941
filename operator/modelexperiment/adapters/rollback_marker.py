"""The annotation by which a route's object says that it was rolled back, and why.

It is written in the same patch as the weights. So whoever finds the route without a status that
tells of it, because the operator was killed between the two writes, can finish the rollback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelexperiment.core.crd import GROUP

# It goes with the next other write of the route.
MARKER = f"{GROUP}/rolled-back"


def marker_of(route: Mapping[str, Any]) -> str | None:
    """What a rollback left in the object."""
    annotations = route["metadata"].get("annotations") or {}
    marker: str | None = annotations.get(MARKER)
    return marker


def marker_patch(route: Mapping[str, Any], marker: str | None) -> list[dict[str, Any]]:
    """The JSON patch that leaves a rollback's marker, or takes an older one away."""
    annotations = route["metadata"].get("annotations")
    path = f"/metadata/annotations/{MARKER.replace('/', '~1')}"
    if marker_of(route) == marker:
        return []
    if marker is None:
        return [{"op": "remove", "path": path}]
    if annotations is None:
        # Only if it is still so: nobody's annotations may be written over.
        absent = {"op": "test", "path": "/metadata/annotations", "value": None}
        return [absent, {"op": "add", "path": "/metadata/annotations", "value": {MARKER: marker}}]
    return [{"op": "add", "path": path, "value": marker}]
