"""The page of `modelexperiment status`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.commands.page import Page, listing
from modelexperiment.core.snapshot import Problem
from tests.commands.test_steer import running, seen
from tests.core.builders import ERRORS, START, Life, traffic
from tests.core.shadowed import CHALLENGER, Shadowed


def page(life: Life, *, colours: bool = False, after: timedelta = timedelta(0)) -> list[str]:
    return Page(seen(life), life.now + after, colours=colours).text().splitlines()


def busy(**fields: Any) -> Life:
    life = running(guardrails=[ERRORS], **fields)
    for _ in range(4):
        life.poll({"v1": (1_000, 500), "v2": (1_000, 520)}, errors=0.015)
    return life


def test_the_first_line_says_where_it_is() -> None:
    (first, *_) = page(busy(), after=timedelta(seconds=5))

    assert first.startswith("fraud/fraud-v2  Running  v1 50 / v2 50  for 1m20s  ETA ~")
    assert first.endswith("  counted up to 5s ago")


def test_metrics_and_guardrails_are_tables() -> None:
    lines = page(busy())
    at = lines.index("Metrics")
    assert lines[at + 1].split() == [
        "METRIC", "VERSION", "CHAMPION", "CHALLENGER", "EFFECT", "INTERVAL", "P", "SAMPLES"
    ]  # fmt: skip
    assert lines[at + 2].startswith(
        "  accuracy (Primary)  v2       0.5       0.52        +4.0 %  ["
    )
    assert lines[at + 2].endswith("4,100 / 4,100")
    at = lines.index("Guardrails")
    assert lines[at + 1].split() == ["GUARDRAIL", "VERSION", "STATE", "VALUE", "LIMIT", "SINCE"]
    assert lines[at + 2].split() == ["errors", "v2", "Pass", "0.015", "0.02", "45s"]


def test_the_decision_comes_with_what_to_do() -> None:
    lines = page(busy())

    assert lines[1] == "Decision  ExtendTest (low risk)"
    assert lines[2].startswith("  Inconclusive: accuracy of v2 +4.0 %")
    assert lines[3].startswith("  - ")


def test_conditions_that_are_not_true_come_with_their_message() -> None:
    life = busy()
    life.poll(counted=Problem("PrometheusUnreachable", "no answer", bad_input=False), errors=0.015)
    lines = page(life)
    at = lines.index("Not True")

    assert "  MetricsReady False  PrometheusUnreachable, 0s: no answer" in lines[at:]
    # The decision has said it.
    assert not any("VerdictReached" in found for found in lines)


def test_before_the_start_it_says_what_it_waits_for() -> None:
    life = Life()
    life.poll(route=Problem("RouteNotFound", "no such route"))
    lines = page(life)

    assert lines[0] == "fraud/fraud-v2  Pending"
    assert any("Complete False  Pending, 0s: not started: no such route" in x for x in lines)


def test_what_the_operator_has_never_seen_is_pending() -> None:
    new = {"metadata": {"name": "a", "namespace": "b", "generation": 1}, "spec": {}}

    assert Page(new, START).text().splitlines() == [
        "b/a  Pending",
        "the operator has seen generation 0 of the spec, not yet 1",
    ]


def test_a_mismatch_is_named_with_the_shares() -> None:
    life = running()
    life.poll({"v1": (3_000, 1_500), "v2": (600, 300)})
    (found,) = (x for x in page(life) if x.startswith("Sample ratio"))

    assert found.startswith("Sample ratio  mismatch: v1 83.33 % of 50.00 %, v2 16.67 % of 50.00 %")


def test_the_end_is_told_with_its_age() -> None:
    life = busy()
    life.poll(errors=0.5)
    lines = page(life, after=timedelta(minutes=3))

    assert lines[0] == "fraud/fraud-v2  RolledBack  v1 100 / v2 0  ended 3m ago"
    assert lines[1] == "Decision  Rollback (critical risk)"


@pytest.mark.parametrize(
    ("errors", "painted"),
    [(0.015, "\033[32mPass\033[0m"), (0.5, "\033[31mBreach\033[0m")],
)
def test_colours_stand_only_where_they_are_asked_for(errors: float, painted: str) -> None:
    life = busy()
    life.poll(errors=errors)

    assert any(painted in found for found in page(life, colours=True))
    assert not any("\033" in found for found in page(life))
    assert [len(x) for x in page(life)] == [
        len(x.replace("\033[0m", "").replace("\033[1m", "").replace("\033[31m", "")
            .replace("\033[32m", "").replace("\033[33m", ""))
        for x in page(life, colours=True)
    ]  # fmt: skip


def test_without_a_relative_effect_the_metrics_own_units_are_shown() -> None:
    life = busy()
    entry = life.status.analysis[0].model_copy(update={"relative": None})
    life.status = life.status.model_copy(update={"analysis": [entry]})
    found = next(x for x in page(life) if "accuracy (Primary)" in x)

    assert found.split()[2:6] == ["v2", "0.5", "0.52", "+0.02"]


def test_many_are_listed_as_kubectl_lists_them() -> None:
    life = busy(traffic=traffic(v1=50, v2=50))
    item = seen(life)
    item["metadata"]["creationTimestamp"] = "2026-03-01T12:00:00Z"
    lines = listing([item], life.now, namespaces=True).splitlines()

    assert lines[0].split() == [
        "NAMESPACE", "NAME", "PHASE", "SPLIT", "LIFT", "INTERVAL", "VERDICT", "ETA", "AGE"
    ]  # fmt: skip
    assert lines[1].startswith("fraud      fraud-v2  Running  v1 50 / v2 50  +4.0%  [")
    assert lines[1].endswith("  1m15s")
    assert listing([item], life.now).startswith("NAME")


def test_a_shadow_is_shown_before_anything_is_live() -> None:
    life = Shadowed(shadow=CHALLENGER)
    life.poll(after=timedelta(0))
    life.compare(40, 1)
    lines = page(life)

    assert lines[0].startswith("fraud/fraud-v2  Shadowing  v1 100 / v2 0")
    assert lines[1].startswith("Shadow  v2 is still being compared: 1 of 40 comparisons disagree,")
    assert lines[1].endswith("; limit 5 %")
    assert any(line.startswith("  ShadowAgrees Unknown  InsufficientData, ") for line in lines)
