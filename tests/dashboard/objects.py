"""Experiments as the API server has them, for the dashboard to show."""

from __future__ import annotations

import json
from typing import Any

from modelexperiment.core.crd import GROUP, KIND, VERSION
from tests.core.builders import LEAST, Life

CREATED = "2026-03-01T12:00:00Z"


def of(life: Life, name: str = "fraud-v2", namespace: str = "fraud", **metadata: Any) -> Any:
    """The object of an experiment at the point that its life has reached."""
    status = json.loads(json.dumps(life.status.dump()))
    return made(name, namespace, life.experiment.spec.dump(), status, **metadata)


def made(
    name: str = "fraud-v2",
    namespace: str = "fraud",
    spec: Any = None,
    status: Any = None,
    **metadata: Any,
) -> Any:
    """An object with this spec and status, as the API server gives it."""
    found = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": CREATED,
        **metadata,
    }
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": found}
    body["spec"] = LEAST if spec is None else spec
    if status is not None:
        body["status"] = {"observedGeneration": 1, **status}
    return body


def condition(type_: str, status: str, reason: str, message: str) -> dict[str, str]:
    """A condition."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": CREATED,
    }
