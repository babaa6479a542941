"""What the documentation shows must work, and where it points to must be there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from modelexperiment.core.crd import KIND
from modelexperiment.core.manifest import parse_experiment
from modelexperiment.core.support import unsupported
from tests.docs.pages import PAGES, ROOT, manifests

EXPERIMENTS = {where: found for where, found in manifests() if found["kind"] == KIND}
# A pattern in a table of fields looks like a link as well: a target is a path or an address.
_LINK = re.compile(r"\]\(([\w./:@-]+)(#[^)\s]*)?\)")


@pytest.mark.parametrize("given", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_an_experiment_is_one_that_the_operator_takes(given: dict[str, Any]) -> None:
    assert unsupported(parse_experiment(given).spec) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target, _ in _LINK.findall(page.read_text())]
    local = [target for target in targets if "://" not in target and "@" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
