"""`modelexperiment simulate`: how often just this experiment errs, and how soon it knows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.commands.conftest import Desk
from tests.core.builders import ACCURACY, traffic

SMALL = ("--runs", "400", "--looks", "100", "--samples", "200", "--baseline", "0.2")


def simulated(desk: Desk, *options: str, **fields: Any) -> dict[str, Any]:
    answer = desk.run("simulate", "-f", desk.manifest(**fields), "-o", "json", *SMALL, *options)
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_without_an_effect_false_positives_stay_within_alpha(desk: Desk) -> None:
    found = simulated(desk, "--effect", "0")

    assert found["runs"] == 400
    assert found["rate"] == found["significant"] / 400
    assert found["lower"] < found["rate"] < found["upper"]
    assert found["lower"] <= 0.05
    assert found["medianLooks"] is None


def test_the_same_seed_gives_the_same_result_and_another_seed_another(desk: Desk) -> None:
    first, again = (simulated(desk, "--effect", "10", "--seed", "7") for _ in range(2))

    assert first == again
    assert simulated(desk, "--effect", "10", "--seed", "8") != first


def test_a_large_effect_is_found_soon_and_in_its_direction(desk: Desk) -> None:
    found = simulated(desk, "--effect", "30")

    assert found["rate"] > 0.95
    assert found["wrongDirection"] == 0
    assert found["medianLooks"] <= found["meanLooks"] * 1.2 < 100


@pytest.mark.parametrize(("effect", "word"), [("0", "false positives"), ("20", "power")])
def test_the_text_says_what_the_rate_is(desk: Desk, effect: str, word: str) -> None:
    answer = desk.run("simulate", "-f", desk.manifest(), *SMALL, "--effect", effect)

    assert answer.code == 0
    assert f"\n{word}: " in answer.out
    assert "95 % interval" in answer.out


@pytest.mark.parametrize(
    ("fields", "options", "says"),
    [
        ({}, (), "spec.analysis.baseline: is needed to simulate, or --baseline"),
        ({}, ("--baseline", "0.8", "--effect", "50"), "--effect: 50 % of 0.8 is 1.2, no propor"),
        ({}, ("--baseline", "0.2", "--runs", "0"), "simulate: runs is 0, not from 1 up"),
        (
            {"traffic": traffic(v1=100, v2=0)},
            ("--baseline", "0.2"),
            "spec.traffic: an arm with 0 percent can't be simulated",
        ),
        (
            {"assignment": {"header": "x-user-id"}},
            ("--baseline", "0.2"),
            "spec.assignment: users are the unit, whose spread is not known",
        ),
        (
            {"metrics": [ACCURACY], "analysis": {"baseline": 2}},
            ("--baseline", "0.2"),
            "simulate: baseline is 2.0, not between 0 and 1",
        ),
    ],
)
def test_what_can_not_be_simulated_is_said_in_one_line(
    desk: Desk, fields: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    line = desk.refused("simulate", "-f", desk.manifest(**fields), *options)

    assert line.startswith(f"modelexperiment: {says}")
