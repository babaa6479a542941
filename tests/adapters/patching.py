"""JSON patches applied as the API server does it, for objects in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from modelexperiment.ports import ConflictError


def patched(found: Mapping[str, Any], operations: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The object after a patch of fields; ConflictError where a test fails, KeyError without."""
    changed = copy.deepcopy(dict(found))
    for operation in operations:
        path = operation["path"].strip("/").split("/")
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in path)
        node: Any = changed
        for name in parents:
            node = node[int(name) if name.isdigit() else name]
        match operation["op"]:
            case "test":
                if node.get(last) != operation["value"]:
                    raise ConflictError(f"testing {operation['path']} failed")
            case "remove":
                del node[last]
            case "replace":
                assert last in node
                node[last] = copy.deepcopy(operation["value"])
            case "add":
                node[last] = copy.deepcopy(operation["value"])
    return changed
