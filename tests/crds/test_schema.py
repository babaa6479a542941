"""The CustomResourceDefinition as a text: everything in it is described, and nothing is stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelexperiment.core.crd import build_crd

ROOT = Path(__file__).parents[2]


def fields(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(f"{path}.{name}", field)
    if "items" in schema:
        yield from fields(f"{path}[]", schema["items"])


def resource() -> Mapping[str, Any]:
    versions = build_crd()["spec"]["versions"]
    found: Mapping[str, Any] = versions[0]["schema"]["openAPIV3Schema"]
    return found


def test_every_field_has_a_description() -> None:
    parts = resource()["properties"]
    found = [*fields("spec", parts["spec"]), *fields("status", parts["status"])]

    assert [path for path, field in found if not field.get("description")] == []
    assert len(found) > 150


def test_no_field_is_open_but_the_operators_memory() -> None:
    status = fields("status", resource()["properties"]["status"])
    kept = "x-kubernetes-preserve-unknown-fields"
    spec = fields("spec", resource()["properties"]["spec"])

    assert [path for path, field in spec if kept in field] == []
    assert all(path.startswith("status.memory.") for path, field in status if kept in field)


def test_the_file_is_what_the_models_say() -> None:
    on_disk = yaml.safe_load((ROOT / "crds" / "modelexperiments.yaml").read_text())

    assert on_disk == build_crd()
