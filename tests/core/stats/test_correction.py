"""Holm and Bonferroni against statsmodels."""

import random

import pytest
from statsmodels.stats.multitest import multipletests

from modelexperiment.core.stats import bonferroni, holm


def test_holm_of_three() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert list(adjusted) == ["a", "b", "c"]
    assert list(adjusted.values()) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("seed", range(5))
def test_statsmodels_agrees(seed: int) -> None:
    rng = random.Random(seed)
    p = {k: rng.random() ** 3 for k in range(9)}
    for ours, name in ((holm, "holm"), (bonferroni, "bonferroni")):
        theirs = multipletests(list(p.values()), method=name)[1]
        assert list(ours(p).values()) == pytest.approx(list(theirs))


def test_nothing_to_correct() -> None:
    assert holm({}) == bonferroni({}) == {}
