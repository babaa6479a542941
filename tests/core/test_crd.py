"""The schema is one that an API server takes: structural, described, with defaults and rules."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from modelexperiment.core import crd
from modelexperiment.core.crd import build_crd, models_of, render, schema_of
from modelexperiment.core.fields import Duration, Model, Rule, parse_duration
from modelexperiment.core.manifest import parse_spec
from modelexperiment.core.spec import Analysis, Arm, ExperimentSpec, Rollout
from modelexperiment.core.status import ExperimentStatus

ROOTS = (ExperimentSpec, ExperimentStatus)
# https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "definitions"}


def nodes(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from nodes(schema[key], f"{path}[]")


def all_nodes() -> list[tuple[str, Mapping[str, Any]]]:
    return [node for root in ROOTS for node in nodes(schema_of(root), root.__name__)]


def test_it_uses_nothing_that_a_structural_schema_may_not() -> None:
    wrong = [(path, key) for path, node in all_nodes() for key in node if key in FORBIDDEN]

    assert wrong == []


def test_every_node_has_exactly_one_type() -> None:
    assert [path for path, node in all_nodes() if not isinstance(node.get("type"), str)] == []


def test_no_object_both_names_fields_and_allows_others() -> None:
    assert not [
        path
        for path, node in all_nodes()
        if "properties" in node and "additionalProperties" in node
    ]


def test_every_property_is_described() -> None:
    properties = [(p, n) for p, n in all_nodes() if "." in p and not p.endswith("[]")]

    assert len(properties) > 100
    assert [path for path, node in properties if not node.get("description")] == []


def test_the_defaults_are_the_parsers() -> None:
    analysis = schema_of(Analysis)["properties"]
    shown = {name: field["default"] for name, field in analysis.items() if "default" in field}

    assert shown == Analysis().dump()
    assert schema_of(ExperimentSpec)["properties"]["rollout"]["default"] == Rollout().dump()


def test_a_spec_with_every_default_written_out_is_the_same_spec() -> None:
    given = {
        "traffic": [{"modelVersion": "v1", "percent": 50}, {"modelVersion": "v2", "percent": 50}],
        "route": {"istio": {"virtualService": "fraud", "host": "fraud"}},
        "metrics": [
            {"name": "accuracy", "role": "Primary", "rate": {"events": "clicks_total"}},
        ],
    }
    properties = schema_of(ExperimentSpec)["properties"]
    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}

    assert parse_spec({**defaults, **given}) == parse_spec(given)


def test_lists_with_a_key_are_maps() -> None:
    found = schema_of(ExperimentSpec)["properties"]["metrics"]

    assert found["x-kubernetes-list-type"] == "map"
    assert found["x-kubernetes-list-map-keys"] == ["name"]


def test_a_rule_is_reported_at_its_field() -> None:
    rules = schema_of(Arm)["x-kubernetes-validations"]

    assert rules[0]["fieldPath"] == ".percent"
    assert rules[0]["message"] == "percent takes at most two decimals"


class Sample(Model):
    """A model with one field of each kind that needs care."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(cel="self.share < 1.0", message="too much", holds=lambda sample: sample.share < 1),
    )
    share: Annotated[float, Field(gt=0, lt=2)]
    """Between two open bounds."""
    parts: dict[str, Arm] = {}
    """By name."""
    wait: Duration = parse_duration("5m")
    """A duration."""


def test_open_bounds_are_flags_beside_the_bound() -> None:
    share = schema_of(Sample)["properties"]["share"]

    assert (share["minimum"], share["exclusiveMinimum"]) == (0, True)
    assert (share["maximum"], share["exclusiveMaximum"]) == (2, True)


def test_a_rule_over_the_whole_model_names_no_field() -> None:
    assert schema_of(Sample)["x-kubernetes-validations"] == [
        {"rule": "self.share < 1.0", "message": "too much"}
    ]


def test_a_mapping_keeps_the_schema_of_its_values() -> None:
    values = schema_of(Sample)["properties"]["parts"]["additionalProperties"]

    assert values["required"] == ["modelVersion", "percent"]


def test_a_default_is_written_as_in_a_manifest() -> None:
    assert schema_of(Sample)["properties"]["wait"]["default"] == "5m"


def test_a_union_is_refused_when_the_schema_is_made() -> None:
    class Union(Model):
        """Either of two."""

        value: int | str
        """A number or a text."""

    with pytest.raises(ValueError, match="a structural schema has no unions"):
        schema_of(Union)


def test_the_models_of_an_annotation_are_found_however_deep_they_stand() -> None:
    assert list(models_of(dict[str, list[Arm] | None])) == [Arm]


def test_what_the_operator_alone_reads_may_hold_anything() -> None:
    memory = schema_of(ExperimentStatus)["properties"]["memory"]["properties"]

    assert memory["comparisons"]["x-kubernetes-preserve-unknown-fields"] is True
    assert set(memory["comparisons"]) == {
        "type",
        "description",
        "x-kubernetes-preserve-unknown-fields",
    }


def test_the_yaml_reads_as_the_definition_and_says_where_it_comes_from() -> None:
    text = render()

    assert text.startswith("# Generated from operator/modelexperiment/core/")
    assert yaml.safe_load(text) == build_crd()


def test_the_module_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(crd.__file__, run_name="__main__")

    assert capsys.readouterr().out == render()


def test_the_route_may_only_change_before_the_start() -> None:
    version = build_crd()["spec"]["versions"][0]
    rules = version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]

    assert any("self.spec.route == oldSelf.spec.route" in rule["rule"] for rule in rules)
    assert version["subresources"] == {"status": {}}
