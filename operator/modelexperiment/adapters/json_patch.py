"""JSON patches that write a few fields of one part of an object, and only over what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Operation = dict[str, Any]


def same_name(where: str, name: str | None) -> list[Operation]:
    """The test that the part at a path still has its name; none where it goes without."""
    return [] if name is None else [{"op": "test", "path": f"{where}/name", "value": name}]


def fields_patch(where: str, seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Operation]:
    """The patch that gives the part at a path these fields; empty where it has them already.

    None stands for a field that is not there, in `wanted` as in the tests: the API server takes
    a test for null as one for absence. Every field of `wanted` is tested, the unchanged too.
    """
    tests: list[Operation] = []
    edits: list[Operation] = []
    for field, value in wanted.items():
        path, old = f"{where}/{field}", seen.get(field)
        tests.append({"op": "test", "path": path, "value": old})
        if value == old:
            continue
        if value is None:
            edits.append({"op": "remove", "path": path})
        else:
            edits.append({"op": "add" if old is None else "replace", "path": path, "value": value})
    return [*tests, *edits] if edits else []
