"""docs/reference.md: the resource field by field, from the schema in its CRD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelexperiment.core.fields import DURATION_PATTERN

Schema = Mapping[str, Any]

_HEADER = """\
# Reference: the resource field by field

<!-- Generated from core/crd.py by scripts/generate.py. -->

`apiVersion: {group}/{version}`, `kind: {kind}`, short name `{short}`. The same texts are in
`kubectl explain modelexperiment.spec --recursive`. A field in bold is required. An unknown field is
refused. Durations are Go style: `30s`, `5m`, `72h`, `14d`.
"""


def render_reference(crd: Mapping[str, Any]) -> str:
    """Give the page for a CustomResourceDefinition with a single version."""
    spec = crd["spec"]
    version = spec["versions"][0]
    names = spec["names"]
    header = _HEADER.format(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        short=names["shortNames"][0],
    )
    root = version["schema"]["openAPIV3Schema"]
    rules = "\n".join(f"- {rule['message']}" for rule in root["x-kubernetes-validations"])
    parts = [f"{header}\nA change is refused unless:\n\n{rules}\n"]
    for name in ("spec", "status"):
        parts += _sections(name, root["properties"][name])
    return "\n".join(parts)


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """Yield the section of an object, then those of the objects in it."""
    yield _section(path, schema)
    for name, field in schema["properties"].items():
        below = f"{path}.{name}"
        if "items" in field:
            below, field = f"{below}[]", field["items"]
        if "properties" in field:
            yield from _sections(below, field)


def _section(path: str, schema: Schema) -> str:
    lines = [f"## {path}", "", schema["description"].replace("\n", " "), ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        type_ = _cell(_type(field, f"{path}.{name}"))
        lines.append(f"| {shown} | {type_} | {_default(field)} | {_cell(field['description'])} |")
    rules = schema.get("x-kubernetes-validations", [])
    if rules:
        lines += ["", "Refused unless:", "", *(f"- {rule['message']}" for rule in rules)]
    return "\n".join(lines) + "\n"


def _type(field: Schema, path: str) -> str:
    """The type in words, objects with a link to their section."""
    if "items" in field:
        key = field.get("x-kubernetes-list-map-keys")
        size = _between(field, "minItems", "maxItems")
        unique = f", unique by {key[0]}" if key else ""
        return f"list{f' ({size})' if size else ''} of {_type(field['items'], path)}{unique}"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "properties" in field:
        anchor = "".join(letter for letter in path.lower() if letter.isalnum() or letter in "-_")
        return f"[object](#{anchor})"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'], path)}"
    if any(DURATION_PATTERN in r["rule"] for r in field.get("x-kubernetes-validations", ())):
        return "duration"
    return ", ".join([field["type"], *_limits(field)])


def _limits(field: Schema) -> Iterator[str]:
    """What a number or a string must keep to."""
    if "minimum" in field or "maximum" in field:
        yield _range(field)
    length = _between(field, "minLength", "maxLength")
    if length:
        yield f"{length} characters"
    if "pattern" in field:
        # Two backticks: a pattern may hold one.
        yield f"matching `` {field['pattern']} ``"
    if "format" in field:
        yield str(field["format"])


def _between(field: Schema, low: str, high: str) -> str:
    if low in field and high in field:
        return f"{field[low]} to {field[high]}"
    if high in field:
        return f"at most {field[high]}"
    return f"at least {field[low]}" if low in field else ""


def _range(field: Schema) -> str:
    bounds = []
    if "minimum" in field:
        above = "above" if field.get("exclusiveMinimum") else "from"
        bounds.append(f"{above} {field['minimum']:g}")
    if "maximum" in field:
        below = "below" if field.get("exclusiveMaximum") else "to"
        bounds.append(f"{below} {field['maximum']:g}")
    return " ".join(bounds)


def _default(field: Schema) -> str:
    default = field.get("default")
    if default in (None, "") or isinstance(default, dict):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(f'{value:g}' for value in default)}]`" if default else "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
