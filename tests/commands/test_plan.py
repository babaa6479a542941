"""`modelexperiment plan`: samples and days before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.commands.conftest import Desk
from tests.core.builders import ACCURACY, traffic

ONE_POINT = {**ACCURACY, "minimumEffect": {"absolute": 0.01}}
FIVE_PERCENT = {"metrics": [ONE_POINT], "analysis": {"baseline": 0.05}}


def planned(desk: Desk, *options: str, **fields: Any) -> dict[str, Any]:
    answer = desk.run("plan", "-f", desk.manifest(**fields), "-o", "json", *options)
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_five_to_six_percent_needs_8155_samples_an_arm_at_a_single_look(desk: Desk) -> None:
    plan = planned(desk, **FIVE_PERCENT)

    assert plan["fixedHorizon"] == {"v1": 8_155, "v2": 8_155}


@pytest.mark.parametrize(
    ("method", "factor"),
    [("FixedHorizon", 1.0), ("GroupSequential", 1.057), ("Sequential", 1.61)],
)
def test_looking_along_the_way_costs_what_the_method_costs(
    desk: Desk, method: str, factor: float
) -> None:
    analysis = {"baseline": 0.05, "method": method, "sampleSize": 9_000}

    plan = planned(desk, metrics=[ONE_POINT], analysis=analysis)

    assert plan["planned"]["v1"] == pytest.approx(8_155 * factor, rel=0.01)
    assert plan["assumed"]["method"] == method


def test_uneven_arms_need_samples_by_their_shares(desk: Desk) -> None:
    plan = planned(desk, **FIVE_PERCENT, traffic=traffic(v1=90, v2=10))

    assert plan["fixedHorizon"]["v1"] == pytest.approx(9 * plan["fixedHorizon"]["v2"], rel=1e-3)


def test_the_effects_range_around_the_minimum_and_smaller_ones_cost_more(desk: Desk) -> None:
    plan = planned(desk, **FIVE_PERCENT)

    effects = [line["absolute"] for line in plan["effects"]]
    samples = [line["fixedHorizon"]["v1"] for line in plan["effects"]]
    assert effects == pytest.approx([0.005, 0.0075, 0.01, 0.015, 0.02, 0.03])
    assert samples == sorted(samples, reverse=True)
    assert samples[2] == 8_155


def test_days_follow_from_the_samples_a_day(desk: Desk) -> None:
    plan = planned(desk, "--per-day", "10000", **FIVE_PERCENT)

    at_minimum = next(line for line in plan["effects"] if line["absolute"] == 0.01)
    assert at_minimum["days"] == pytest.approx(at_minimum["planned"]["v1"] / 5_000, abs=0.01)


def test_a_design_effect_multiplies_every_number_and_is_said(desk: Desk) -> None:
    plan = planned(desk, "--design-effect", "2.26", **FIVE_PERCENT)

    assert plan["fixedHorizon"]["v1"] == pytest.approx(8_155 * 2.26, abs=2)
    assert plan["assumed"]["designEffect"] == 2.26


def test_challengers_share_alpha(desk: Desk) -> None:
    two = planned(desk, **FIVE_PERCENT, traffic=traffic(v1=34, v2=33, v3=33))

    assert two["fixedHorizon"]["v1"] > 1.1 * 8_155


def test_the_table_is_for_people(desk: Desk) -> None:
    manifest = desk.manifest(**FIVE_PERCENT, assignment={"header": "x-user-id"})

    answer = desk.run("plan", "-f", manifest, "--per-day", "10000")

    assert answer.code == 0
    assert answer.out.startswith(
        "accuracy: baseline 0.05, alpha 0.05, power 0.8, Sequential, design effect 1\n"
    )
    assert "days" in answer.out
    assert "a single look at the end, for minimumEffect: v1 8,155, v2 8,155" in answer.out
    assert "--design-effect" in answer.out.splitlines()[-1]

    answer = desk.run("plan", "-f", manifest, "--design-effect", "2")
    assert "design effect 2\n" in answer.out
    assert "--design-effect" not in answer.out
    assert "days" not in answer.out


AMOUNT = {
    "name": "amount",
    "role": "Primary",
    "mean": {"sum": "a", "count": "b"},
    "minimumEffect": {"relative": 2},
}


@pytest.mark.parametrize(
    ("fields", "options", "says"),
    [
        ({}, (), "spec.analysis.baseline: is needed for a plan, or --baseline"),
        (
            {"metrics": [{**ACCURACY, "minimumEffect": None}], "analysis": {"baseline": 0.2}},
            (),
            "spec.metrics[accuracy].minimumEffect: is needed for a plan",
        ),
        (FIVE_PERCENT, ("--per-day", "0"), "--per-day: must be above 0, got 0"),
        (FIVE_PERCENT, ("--design-effect", "-1"), "--design-effect: must be above 0, got -1"),
        (FIVE_PERCENT, ("--baseline", "15"), "spec.metrics[accuracy]: value is 15.0, not between"),
        (
            {"metrics": [AMOUNT], "analysis": {"baseline": 20}},
            (),
            "spec.metrics[amount]: spread is None, but a mean needs its standard deviation",
        ),
        (
            {**FIVE_PERCENT, "traffic": traffic(v1=100, v2=0)},
            ("--per-day", "10"),
            "spec.traffic[v2].percent: an arm with 0 never has its samples",
        ),
    ],
)
def test_what_can_not_be_planned_is_said_in_one_line(
    desk: Desk, fields: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    line = desk.refused("plan", "-f", desk.manifest(**fields), *options)

    assert line.startswith(f"modelexperiment: {says}")


def test_a_mean_is_planned_by_its_standard_deviation(desk: Desk) -> None:
    plan = planned(desk, "--stddev", "10", metrics=[AMOUNT], analysis={"baseline": 20})

    # (1.95996 + 0.84162)^2 * 2 * 10^2 / 0.4^2
    assert plan["fixedHorizon"]["v1"] == 9_812


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metadata: {name: x", ", line 1: not YAML"),
        ("", "must hold one ModelExperiment, not 0"),
        ("kind: A\n---\nkind: B\n", "must hold one ModelExperiment, not 0"),
    ],
)
def test_a_file_that_holds_no_experiment_is_refused_by_its_name(
    desk: Desk, text: str, says: str
) -> None:
    path = desk.folder / "broken.yaml"
    path.write_text(text, encoding="utf-8")

    line = desk.refused("plan", "-f", str(path))

    assert str(path) in line
    assert says in line


def test_a_file_that_is_not_there_is_refused_by_its_name(desk: Desk) -> None:
    assert desk.refused("plan", "-f", "none.yaml") == (
        "modelexperiment: none.yaml: No such file or directory"
    )


def test_a_field_that_is_not_known_is_refused_with_its_name_and_value(desk: Desk) -> None:
    line = desk.refused("plan", "-f", desk.manifest(speed="high"))

    assert "spec.speed" in line
