"""What the list says of an experiment is what its object says, and what it asks for comes first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.status import Interval
from modelexperiment.dashboard.attention import Level
from modelexperiment.dashboard.drawing import Effect, draw
from modelexperiment.dashboard.summary import summarize
from tests.dashboard.objects import condition, made, of
from tests.report import examples


def level(**status: Any) -> tuple[Level, str]:
    found = summarize(made(status=status)).attention
    return found.level, found.why


def test_a_winner_is_told_with_the_numbers_of_its_status() -> None:
    life = examples.won()
    found = summarize(of(life))
    entry = life.status.analysis[0]

    assert entry.relative is not None
    assert (found.phase, found.verdict) == ("Succeeded", "ChallengerBetter")
    assert (found.metric, found.version, found.split) == ("accuracy", "v2", "v1 0 / v2 100")
    assert found.lift == f"{entry.relative.effect:+.1f} %"
    assert found.effect == Effect(entry.relative, wanted=5.0, better=True)
    assert found.guardrails == "2 Pass"
    # Nothing is waited for any more.
    assert found.eta == ""
    assert found.attention.level is Level.ENDED


def test_less_is_better_where_the_goal_says_so() -> None:
    life = examples.won()
    seen = of(life)
    seen["spec"]["metrics"][0]["goal"] = "Decrease"

    found = summarize(seen).effect
    assert found is not None
    assert (found.wanted, found.better) == (-5.0, False)


def test_a_rollback_is_urgent_for_a_week() -> None:
    life = examples.broken()
    found = summarize(of(life))
    ended = life.status.end_time

    assert ended is not None and life.status.decision is not None
    assert found.attention.why == life.status.decision.reason
    assert found.attention.at(ended + timedelta(days=6)) is Level.URGENT
    assert found.attention.at(ended + timedelta(days=7)) is Level.ENDED


def test_a_mismatch_is_a_warning_with_its_message() -> None:
    found = summarize(of(examples.mismatch())).attention

    assert found.level is Level.WARNING
    assert found.why.startswith("Mismatch: v1 got ")


def test_what_goes_on_by_itself_asks_for_nobody() -> None:
    found = summarize(of(examples.undecided()))

    assert (found.attention.level, found.attention.why) == (Level.RUNNING, "")
    assert found.action == "ExtendTest"


@pytest.mark.parametrize(
    ("type_", "phase", "expected"),
    [
        ("RoutesReady", "Running", Level.URGENT),
        ("RoutesReady", "RolledBack", Level.URGENT),
        ("RoutesReady", "Pending", Level.WARNING),
        ("MetricsReady", "Running", Level.WARNING),
        ("ShadowAgrees", "Shadowing", Level.WARNING),
        ("MetricsReady", "Stopped", Level.ENDED),
        ("AlertsDelivered", "Stopped", Level.WARNING),
        ("VerdictReached", "Running", Level.RUNNING),
    ],
)
def test_a_condition_that_is_false(type_: str, phase: str, expected: Level) -> None:
    for status, asked in (("False", expected), ("Unknown", None)):
        found = condition(type_, status, "Why", "what to do")
        seen, why = level(phase=phase, conditions=[found])
        if asked is None:
            assert why == ""
        else:
            assert seen is asked
            assert why == ("Why: what to do" if asked.asks else "")


def test_a_breach_is_urgent_before_it_is_rolled_back() -> None:
    breach = {
        "name": "errors",
        "modelVersion": "v2",
        "state": "Breach",
        "lastChange": "2026-03-01T12:00:00Z",
        "message": "0.3 is over 0.02",
    }
    said = "guardrail errors is in breach for v2: 0.3 is over 0.02"
    assert level(phase="Paused", guardrails=[breach]) == (Level.URGENT, said)


def test_what_waits_for_somebody() -> None:
    assert level(phase="Paused")[0] is Level.WAITING
    manual = made(
        spec={**made()["spec"], "rollout": {"onWin": "Manual"}},
        status={"phase": "Running", "verdict": "ChallengerBetter"},
    )
    found = summarize(manual).attention
    assert (found.level, found.why) == (Level.WAITING, "waits for rollout.promote")


def test_what_the_operator_has_not_seen() -> None:
    assert summarize(made()).attention.why == "the operator has not seen it yet"
    edited = made(status={"phase": "Running"}, generation=2)
    said = "the operator has seen generation 1 of the spec, not yet 2"
    assert summarize(edited).attention.why == said


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (made(spec={"metrics": "<b>none</b>"}), "spec."),
        (made(status={"phase": "Dreaming"}), "status.phase: "),
    ],
)
def test_of_another_version_only_that_it_cannot_be_read(seen: Any, says: str) -> None:
    found = summarize(seen)

    assert found.attention.level is Level.WARNING
    assert found.attention.why.startswith(f"can't be read by this version: {says}")


def test_two_challengers_are_told_of_the_better_one() -> None:
    life = examples.three()
    best = max(
        (e for e in life.status.analysis if e.metric == "accuracy" and e.absolute),
        key=lambda e: e.absolute.effect if e.absolute else 0.0,
    )
    assert summarize(of(life)).version == best.model_version


def test_a_drawing_has_zero_in_its_middle_and_holds_the_interval() -> None:
    drawn = draw(Effect(Interval(effect=2.0, lower=-4.0, upper=8.0), wanted=5.0))

    assert 'class="zero" x1="60" x2="60"' in drawn
    assert 'class="reach" x1="32.0" x2="116.0"' in drawn
    assert 'class="wanted" x1="95.0"' in drawn
    # Without a reach there is nothing to divide by.
    nothing = draw(Effect(Interval(effect=0.0, lower=0.0, upper=0.0)))
    assert 'cx="60.0"' in nothing
