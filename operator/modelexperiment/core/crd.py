"""The CustomResourceDefinition, derived from the models of spec and status.

pydantic's JSON schema uses `$ref`, `anyOf null`, titles and `additionalProperties: false`; a
structural schema of Kubernetes allows none of them, and wants list types and CEL rules instead.
`python -m modelexperiment.core.crd` prints the YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic_core import PydanticUndefined

from modelexperiment.core.fields import Model
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus

GROUP = "experiments.mlops.dev"
VERSION = "v1alpha1"
KIND = "ModelExperiment"
PLURAL = "modelexperiments"

COLUMNS = (
    # Name, type, path in the object, and 1 where only the wide form shows it.
    ("Phase", "string", ".status.phase", 0),
    ("Split", "string", ".status.summary.split", 0),
    ("Lift", "string", ".status.summary.lift", 0),
    ("Interval", "string", ".status.summary.interval", 0),
    ("Verdict", "string", ".status.verdict", 0),
    ("ETA", "string", ".status.summary.eta", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("P-Value", "string", ".status.summary.pValue", 1),
    ("Samples", "string", ".status.summary.samples", 1),
    ("Guardrails", "string", ".status.summary.guardrails", 1),
    ("Reason", "string", ".status.summary.reason", 1),
)
_ROUTE_RULE = {
    "rule": "self.spec.route == oldSelf.spec.route || !has(oldSelf.status) || "
    "!has(oldSelf.status.phase) || oldSelf.status.phase == 'Pending'",
    "message": "spec.route is immutable once the experiment has started: "
    "delete the experiment and create it anew",
}
_DROPPED = ("title", "additionalProperties", "exclusiveMinimum", "exclusiveMaximum", "preserve")


def models_of(annotation: Any) -> Iterator[type[Model]]:
    """Yield the resource's models that stand in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from models_of(argument)


def _models(root: type[Model]) -> dict[str, type[Model]]:
    found = {root.__name__: root}
    for field in root.model_fields.values():
        for model in models_of(field.annotation):
            if model.__name__ not in found:
                found |= _models(model)
    return found


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    if len(choices) != 1:
        raise ValueError(f"a structural schema has no unions: {node}")
    return {**choices[0], **{k: v for k, v in node.items() if k != "anyOf"}}


class _Structural:
    """Turns one model's JSON schema into a structural schema."""

    def __init__(self, root: type[Model]) -> None:
        self.models = _models(root)
        schema = root.model_json_schema(by_alias=True)
        self.definitions = schema.pop("$defs", {})
        self.result = self.convert(schema, root)

    def convert(self, node: dict[str, Any], model: type[Model] | None = None) -> dict[str, Any]:
        """Give the structural form of one node; `model` is the class it describes."""
        if "anyOf" in node:
            node = _without_null(node)
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[1]
            model = self.models.get(name)
            node = {**self.definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}
        out = {key: value for key, value in node.items() if key not in _DROPPED}
        out.update(_bounds(node))
        if node.get("preserve"):
            out = {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "description": node["description"],
            }
        out.pop("default", None)
        if "properties" in node:
            out["properties"] = {k: self.convert(v) for k, v in node["properties"].items()}
        elif isinstance(node.get("additionalProperties"), dict):
            out["additionalProperties"] = self.convert(node["additionalProperties"])
        if "items" in node:
            out["items"] = self.convert(node["items"])
            if {"type": "null"} in node["items"].get("anyOf", ()):
                # A field that is null is left out; an item can't be.
                out["items"]["nullable"] = True
        if model is not None:
            _decorate(out, model)
        return out


def _bounds(node: dict[str, Any]) -> dict[str, Any]:
    """Write open bounds the way OpenAPI 3.0 does: a flag beside the bound."""
    out: dict[str, Any] = {}
    for side in ("Minimum", "Maximum"):
        if f"exclusive{side}" in node:
            out[side.lower()] = node[f"exclusive{side}"]
            out[f"exclusive{side}"] = True
    return out


def _decorate(out: dict[str, Any], model: type[Model]) -> None:
    for field_name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if default not in (None, PydanticUndefined):
            out["properties"][field.alias or field_name]["default"] = _default(model, field_name)
    for name, key in model.list_keys.items():
        out["properties"][name]["x-kubernetes-list-type"] = "map"
        out["properties"][name]["x-kubernetes-list-map-keys"] = [key]
    if model.rules:
        out["x-kubernetes-validations"] = [_validation(rule) for rule in model.rules]


def _validation(rule: Any) -> dict[str, str]:
    """A rule of a model, reported at the field that it is about, where there is one."""
    out = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        out["fieldPath"] = "." + rule.field
    return out


def _default(model: type[Model], name: str) -> Any:
    """A field's default as JSON, of a part in full: rules see a default as it is written here."""
    field = model.model_fields[name]
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Model):
        return value.dump()
    dumped = model.model_construct(**{name: value}).model_dump(mode="json", include={name})
    return dumped[name]


def schema_of(root: type[Model]) -> dict[str, Any]:
    """Give the structural OpenAPI schema of a model, with its rules and list types."""
    return _Structural(root).result


def build_crd() -> dict[str, Any]:
    """Give the whole CustomResourceDefinition as the API server takes it."""
    columns = [
        {"name": name, "type": type_, "jsonPath": path, **({"priority": p} if p else {})}
        for name, type_, path, p in COLUMNS
    ]
    schema = {
        "type": "object",
        "description": "An A/B test between versions of a machine-learning model in production.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(ExperimentSpec),
            "status": schema_of(ExperimentStatus),
        },
        "x-kubernetes-validations": [_ROUTE_RULE],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["mexp"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, which a reader of the CRD would have to follow."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """Give the CRD as YAML."""
    header = "# Generated from operator/modelexperiment/core/{spec,status}; `make generate`.\n"
    return header + yaml.dump(build_crd(), Dumper=_Dumper, sort_keys=False, width=100)


if __name__ == "__main__":
    print(render(), end="")
