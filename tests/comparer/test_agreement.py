"""When two predictions agree."""

from __future__ import annotations

from typing import Any

import pytest

from modelexperiment.comparer.agreement import Rule, answer, difference


@pytest.mark.parametrize(
    ("rule", "one", "other", "disagree"),
    [
        (Rule(), 0.5, 0.5, False),
        (Rule(), 0.5, 0.5000001, True),
        (Rule(tolerance=0.25), 0.5, 0.25, False),
        (Rule(tolerance=0.25), 0.5, 0.125, True),
        (Rule(threshold=0.5), 0.5, 0.9, False),
        (Rule(threshold=0.5), 0.5, 0.499, True),
        (Rule(threshold=0.5), 0.1, 0.499, False),
        (Rule(tolerance=9), "a", "a", False),
        (Rule(tolerance=9), "a", "b", True),
        (Rule(), "a" * 5000, "a" * 5000, False),
        (Rule(), "a" * 5000, "a" * 4999 + "b", True),
        (Rule(), True, True, False),
        (Rule(threshold=-1), True, False, True),
        (Rule(), [0.1, 0.9], [0.4, 0.6], False),
        (Rule(), [0.1, 0.9], [0.6, 0.4], True),
        # Of different kinds.
        (Rule(tolerance=9), 1, True, True),
        (Rule(tolerance=9), "1", 1, True),
        (Rule(), [0.1, 0.9], [0.1, 0.9, 0.0], True),
    ],
)
def test_agreement(rule: Rule, one: Any, other: Any, disagree: bool) -> None:
    assert rule.disagree(answer(one), answer(other)) is disagree
    assert rule.disagree(answer(other), answer(one)) is disagree


def test_numbers_alone_differ_by_an_amount() -> None:
    assert difference(answer(1), answer(-0.5)) == 1.5
    assert difference(answer(True), answer(False)) is None
    assert difference(answer(1), answer("1")) is None
