"""The page tells of every metric and every limit that there is, and of no other."""

from __future__ import annotations

import re

from modelexperiment.comparer import predictions, versions
from modelexperiment.comparer.agreement import Rule
from modelexperiment.comparer.pairing import REASONS
from modelexperiment.comparer.series import REJECTIONS, Series
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "comparer.md").read_text()


def test_every_metric_is_on_the_page() -> None:
    families = [f for f in Series(Rule()).registry.collect() if f.name.startswith("model_shadow_")]
    names = {f.name + ("_total" if f.type == "counter" else "") for f in families}
    assert set(re.findall(r"^\| `(model_shadow_\w+)`", PAGE, re.MULTILINE)) == names


def test_reasons_and_limits_are_on_the_page() -> None:
    for words in (REASONS, REJECTIONS):
        assert ", ".join(f"`{word}`" for word in words) in PAGE
    for said in (
        f"| {predictions.MAX_ID} visible ASCII characters |",
        f"| {predictions.MAX_NAME} characters |",
        f"{predictions.MAX_TEXT:,} characters, {predictions.MAX_LIST:,} numbers |",
        f"up to {predictions.MAX_NUMBER:.0e}".replace("+", ""),
        f"| {versions.MAX_OF_MODEL} of a model, {versions.MAX_VERSIONS} in all;",
    ):
        assert said in PAGE
