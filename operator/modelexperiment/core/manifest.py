"""A manifest, read and checked without an API server, all errors at once.

The commands (`plan`, `replay`, `assign`, ...) read manifests with this, and the operator reads what
the API server hands it. The same models and rules stand in the CRD, so the API server refuses what
this refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from modelexperiment.core.fields import Model
from modelexperiment.core.spec import ExperimentSpec

_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
}


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong with a manifest: where, what, and the value that stands there."""

    field: str
    message: str
    value: object = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f", got {_shorten(self.value)}"
        return f"{self.field}: {self.message}{shown}"


class ManifestError(ValueError):
    """A manifest that can't be used; `errors` names every field that is wrong."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class Experiment:
    """A ModelExperiment's identity and spec."""

    namespace: str
    name: str
    spec: ExperimentSpec
    uid: str = ""
    """Of the object in the API server, which owns what is made for it; none in a file."""

    @property
    def salt(self) -> str:
        """The salt of the users' assignment."""
        assignment = self.spec.assignment
        explicit = assignment.salt if assignment else None
        return f"{self.namespace}/{self.name}" if explicit is None else explicit


def _shorten(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _path(prefix: str, loc: tuple[str | int, ...]) -> str:
    path = prefix
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] in _MESSAGES:
        return _MESSAGES[error["type"]]
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return text[0].lower() + text[1:]


def _field_errors(failure: ValidationError, prefix: str) -> list[FieldError]:
    return [
        FieldError(
            _path(prefix, error["loc"]),
            _message(error),
            None if error["type"] in _MESSAGES else error["input"],
        )
        for error in failure.errors()
    ]


def broken_rules(model: Model, path: str) -> Iterator[FieldError]:
    """Yield what the rules of a model and of all its parts have against it."""
    for rule in model.rules:
        if not rule.holds(model):
            field = f"{path}.{rule.field}" if rule.field else path
            message = rule.message.removeprefix(f"{rule.field}: ")
            yield FieldError(field, message, rule.shown(model) if rule.shown else None)
    for name, field_info in type(model).model_fields.items():
        value = getattr(model, name)
        alias = field_info.alias or name
        if isinstance(value, Model):
            yield from broken_rules(value, f"{path}.{alias}")
        elif isinstance(value, list):
            yield from _broken_items(model, name, value, f"{path}.{alias}")


def _broken_items(model: Model, name: str, items: list[Any], path: str) -> Iterator[FieldError]:
    key = model.list_keys.get(name)
    seen = set()
    for index, item in enumerate(items):
        if isinstance(item, Model):
            yield from broken_rules(item, f"{path}[{index}]")
        if key:
            value = item.dump()[key]
            if value in seen:
                yield FieldError(f"{path}[{index}].{key}", "must be unique", value)
            seen.add(value)


def parse_spec(spec: object) -> ExperimentSpec:
    """Read a spec; ManifestError with every wrong field."""
    if not isinstance(spec, Mapping):
        raise ManifestError([FieldError("spec", "is required and must be a mapping", spec)])
    try:
        parsed = ExperimentSpec.model_validate_json(json.dumps(spec, default=str), strict=True)
    except ValidationError as failure:
        raise ManifestError(_field_errors(failure, "spec")) from None
    errors = list(broken_rules(parsed, "spec"))
    if errors:
        raise ManifestError(errors)
    return parsed


def parse_experiment(manifest: object) -> Experiment:
    """Read a whole ModelExperiment; ManifestError with every wrong field."""
    if not isinstance(manifest, Mapping):
        raise ManifestError([FieldError("manifest", "must be a mapping", manifest)])
    if manifest.get("kind") != "ModelExperiment":
        raise ManifestError([FieldError("kind", "must be ModelExperiment", manifest.get("kind"))])
    if manifest.get("apiVersion") != "experiments.mlops.dev/v1alpha1":
        wanted = "must be experiments.mlops.dev/v1alpha1"
        raise ManifestError([FieldError("apiVersion", wanted, manifest.get("apiVersion"))])
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise ManifestError([FieldError("metadata.name", "is required")])
    namespace, uid = metadata.get("namespace") or "default", str(metadata.get("uid") or "")
    return Experiment(str(namespace), metadata["name"], parse_spec(manifest.get("spec")), uid)
