"""The parser of the commands accepts and refuses what the API server does, by the same table."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from modelexperiment.core.manifest import ManifestError, parse_experiment
from tests.crds.cases import ACCEPTED, REFUSED, Manifest, Refused, manifest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(given: Manifest) -> None:
    parsed = parse_experiment(given)

    assert parsed.spec.versions == [arm["modelVersion"] for arm in given["spec"]["traffic"]]


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refuses_naming_field_and_reason(case: Refused) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_experiment(manifest(**case.spec))

    told = [(e.field, e.message) for e in caught.value.errors]
    assert any(field.startswith(case.field) and case.says in why for field, why in told), told


def test_the_example_is_accepted() -> None:
    example = yaml.safe_load((ROOT / "manifests" / "example.yaml").read_text())

    assert parse_experiment(example).spec.split == {"v1": 90, "v2": 10}
