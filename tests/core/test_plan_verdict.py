"""From the first count to the verdict, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.plan import decide
from modelexperiment.core.snapshot import Counted, Problem
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import Action, Phase, Verdict
from tests.core.builders import ACCURACY, ERRORS, POLL, START, Life, fell, traffic

HOUR = timedelta(hours=1)
EQUAL = {"v1": (1_000, 500), "v2": (1_000, 500)}
BETTER = {"v1": (1_000, 500), "v2": (1_000, 600)}
WORSE = {"v1": (1_000, 600), "v2": (1_000, 500)}
GRADUAL = {"rollout": {"onWin": "Gradual"}}


def until_verdict(life: Life, grown: Mapping[str, tuple[float, float]], **seen: Any) -> None:
    """Poll until the experiment is not Running any more."""
    if life.status.phase is Phase.PENDING:
        life.start(**seen)
    for _ in range(200):
        life.poll(grown, **seen)
        if life.status.phase is not Phase.RUNNING:
            return
    raise AssertionError(f"no verdict after 200 polls: {life.status.decision}")


def test_samples_add_up_from_poll_to_poll() -> None:
    life = Life()
    life.start()
    for _ in range(3):
        life.poll({"v1": (10, 4), "v2": (11, 5)})

    (entry,) = life.status.analysis
    assert (entry.champion.samples, entry.challenger.samples) == (30, 33)
    assert life.status.counted_until == life.now
    assert life.status.summary.samples == "30 / 33"


def test_a_poll_that_does_not_go_on_where_the_last_one_ended_is_not_counted() -> None:
    life = Life()
    life.start()
    life.now += HOUR
    counted = life.counted({"v1": (10, 4), "v2": (11, 5)})
    life.poll(counted=counted)
    once = life.status.analysis

    life.poll(counted=counted)

    assert once[0].champion.samples == 10
    assert life.status.analysis == once


def test_before_the_verdict_it_says_what_is_missing() -> None:
    life = Life()
    life.start()
    life.poll({"v1": (100, 50), "v2": (100, 52)})

    assert life.status.verdict is Verdict.INCONCLUSIVE
    assert life.status.decision is not None
    assert life.status.decision.action is Action.EXTEND_TEST
    found = life.status.condition("VerdictReached")
    assert found is not None
    assert (found.status, found.reason) == ("False", "Inconclusive")
    assert life.status.decision.next_steps[0] in found.message


def test_a_winner_is_rolled_out_in_steps_and_gets_everything() -> None:
    life = Life(traffic=traffic(v1=70, v2=30), **GRADUAL)
    until_verdict(life, {"v1": (700, 350), "v2": (300, 210)})
    assert life.status.verdict is Verdict.CHALLENGER_BETTER
    assert life.status.phase is Phase.ROLLING_OUT
    assert life.events() == ["Started", "VerdictReached", "RolloutStep"]

    splits = [life.status.routed_split]
    while life.status.phase is Phase.ROLLING_OUT:
        life.poll(after=HOUR)
        splits.append(life.status.routed_split)

    assert splits == [{"v1": 50, "v2": 50}, {"v1": 0, "v2": 100}, {"v1": 0, "v2": 100}]
    assert life.status.phase is Phase.SUCCEEDED
    assert life.events() == ["RolloutStep", "Promoted", "Completed"]
    assert life.status.end_time == life.now


def test_a_rollout_ends_well_even_where_nobody_knows_any_more_why_it_began() -> None:
    life = Life(traffic=traffic(v1=90, v2=10), **GRADUAL)
    until_verdict(life, {"v1": (900, 450), "v2": (100, 70)})
    forgetful = life.status.model_copy(update={"decision": None})
    life.now += HOUR
    for _ in range(3):
        forgetful = decide(life.experiment, forgetful, life.snapshot()).status
        life.now += HOUR

    assert (forgetful.phase, forgetful.decision) == (Phase.SUCCEEDED, None)


def test_a_step_is_held_for_its_duration() -> None:
    life = Life(traffic=traffic(v1=90, v2=10), **GRADUAL)
    until_verdict(life, {"v1": (900, 450), "v2": (100, 70)})
    life.events()

    life.poll(after=HOUR - timedelta(seconds=1))

    assert life.status.routed_split == {"v1": 75, "v2": 25}
    assert life.events() == []


def test_a_large_winner_gets_everything_at_once() -> None:
    life = Life()
    until_verdict(life, {"v1": (1_000, 400), "v2": (1_000, 700)})

    assert life.status.decision is not None
    assert life.status.decision.action is Action.FULL_ROLLOUT
    assert life.status.phase is Phase.SUCCEEDED
    assert life.status.routed_split == {"v1": 0, "v2": 100}
    assert life.events() == ["Started", "VerdictReached", "Promoted", "Completed"]


def test_a_better_champion_keeps_everything() -> None:
    life = Life()
    until_verdict(life, WORSE)

    assert (life.status.phase, life.status.verdict) == (Phase.CHAMPION_KEPT, "ChampionBetter")
    assert life.status.routed_split == {"v1": 100, "v2": 0}
    assert life.events() == ["Started", "VerdictReached", "Completed"]


def test_no_difference_keeps_the_champion() -> None:
    life = Life()
    until_verdict(life, EQUAL)

    assert (life.status.phase, life.status.verdict) == (Phase.CHAMPION_KEPT, "NoDifference")


def test_a_win_too_small_to_be_worth_it_keeps_the_champion() -> None:
    life = Life(metrics=[{**ACCURACY, "minimumEffect": None}])
    until_verdict(life, {"v1": (10_000, 5_000), "v2": (10_000, 5_150)})

    assert life.status.verdict is Verdict.CHALLENGER_BETTER
    assert life.status.phase is Phase.CHAMPION_KEPT
    assert life.status.routed_split == {"v1": 100, "v2": 0}
    assert "too small to be worth a rollout" in life.status.summary.reason


def test_a_manual_winner_waits_for_a_word_and_is_told_once() -> None:
    life = Life(rollout={"onWin": "Manual"})
    life.start()
    for _ in range(40):
        life.poll(BETTER)

    assert (life.status.phase, life.status.verdict) == (Phase.RUNNING, "ChallengerBetter")
    assert life.events() == ["Started", "VerdictReached"]
    assert life.status.routed_split == {"v1": 50, "v2": 50}

    life.edit(**GRADUAL)
    life.poll(BETTER)
    assert life.status.phase is Phase.ROLLING_OUT


@pytest.mark.parametrize("field", ["minDuration", "delay"])
def test_there_is_no_verdict_before_its_time(field: str) -> None:
    if field == "minDuration":
        life = Life(analysis={"minDuration": "1h"})
    else:
        life = Life(metrics=[{**ACCURACY, "delay": "1h"}])
    life.start()
    for _ in range(60):
        life.poll(BETTER)

    assert life.status.phase is Phase.RUNNING
    assert life.status.verdict is Verdict.INCONCLUSIVE
    assert life.status.decision is not None
    assert life.status.decision.reason == "no verdict before 1h"

    life.poll(BETTER, after=HOUR)
    assert life.status.verdict is Verdict.CHALLENGER_BETTER


AMOUNT = {
    "name": "amount",
    "role": "Primary",
    "goal": "Increase",
    "mean": {"sum": "amount_sum", "count": "amount_count", "sumSquares": "amount_squares"},
    "versionLabel": "version",
}


def amounts(life: Life, champion: float, challenger: float) -> None:
    """A poll of 1,000 samples each, with these means and a variance of 1."""
    means = {"v1": champion, "v2": challenger}
    grown = {
        ("amount", v): Increment(1000, 1000 * mean, 1000 * (mean**2 + 1))
        for v, mean in means.items()
    }
    life.now += POLL
    since = life.status.counted_until or life.now - POLL
    counted = Counted(since, life.now, grown, samples=True)
    life.decide(life.snapshot(counted=counted))


def test_a_verdict_that_waited_is_not_given_on_an_interval_that_has_come_to_include_0() -> None:
    life = Life(metrics=[AMOUNT], analysis={"minDuration": "10m"}, rollout={"onWin": "Manual"})
    life.start()
    while life.status.decision is None or life.status.decision.reason != "no verdict before 10m":
        amounts(life, 10.0, 10.2)
    (entry,) = life.status.analysis
    least = entry.p_value
    while life.now - START < timedelta(minutes=11):
        amounts(life, 10.0, 9.99)

    (entry,) = life.status.analysis
    assert entry.significant and entry.p_value == least
    assert entry.absolute is not None and entry.absolute.lower < 0 < entry.absolute.upper
    assert life.status.verdict is Verdict.INCONCLUSIVE
    assert life.status.decision is not None
    assert life.status.decision.reason.endswith(
        "was reached earlier, and the interval includes 0 again"
    )

    while life.status.verdict is Verdict.INCONCLUSIVE:
        amounts(life, 10.0, 10.2)
    amounts(life, 10.0, 9.0)
    assert life.status.verdict is Verdict.CHALLENGER_BETTER  # what was said stays said


def test_after_its_longest_time_the_champion_is_kept() -> None:
    life = Life(analysis={"maxDuration": "1h"})
    life.start()
    life.poll({"v1": (100, 50), "v2": (100, 52)})
    life.poll({"v1": (100, 50), "v2": (100, 52)}, after=HOUR - POLL)

    assert (life.status.phase, life.status.verdict) == (Phase.CHAMPION_KEPT, "Inconclusive")
    assert life.status.decision is not None
    assert life.status.decision.reason.startswith("no verdict within analysis.maxDuration")
    assert life.events() == ["Started", "Completed"]
    verdict = life.status.condition("VerdictReached")
    assert verdict is not None
    assert verdict.message == life.status.decision.reason


def test_a_frozen_experiment_ends_with_its_time_and_says_why() -> None:
    life = Life(analysis={"maxDuration": "1h"})
    life.start()
    lopsided = {"v1": (3000, 1500), "v2": (600, 300)}
    life.poll({"v1": (100, 50), "v2": (100, 52)})
    life.poll(lopsided)
    assert life.status.sample_ratio is not None
    assert life.status.sample_ratio.mismatch
    life.poll(lopsided, after=HOUR)

    assert life.status.phase is Phase.CHAMPION_KEPT
    assert life.status.decision is not None
    assert "the arms did not get their shares" in life.status.decision.reason


def test_without_an_answer_of_prometheus_nothing_is_concluded() -> None:
    life = Life(analysis={"maxDuration": "1h"})
    life.start()
    down = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)
    life.poll(counted=down, after=2 * HOUR)

    assert life.status.phase is Phase.RUNNING
    found = life.status.condition("MetricsReady")
    assert found is not None
    assert (found.status, found.reason) == ("False", "PrometheusUnreachable")


def test_a_restarted_counter_is_told_once_even_where_nothing_else_was_seen() -> None:
    life = Life()
    life.start()
    counted = life.counted()
    life.now += POLL
    restarted = replace(counted, until=life.now, resets=(fell(100, 0),))
    life.poll(counted=restarted)
    assert life.events() == ["Started", "CounterReset"]

    life.poll(counted=restarted)
    assert life.events() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"history_lost": START}, "HistoryLost"), ({"silent": ("trials_total",)}, "NoSeries")],
)
def test_what_can_no_longer_be_counted_exactly_is_said(change: dict[str, Any], reason: str) -> None:
    life = Life()
    life.start()
    life.now += HOUR
    counted = life.counted({"v1": (10, 4), "v2": (11, 5)})
    life.poll(counted=replace(counted, **change))

    found = life.status.condition("MetricsReady")
    assert found is not None
    assert (found.status, found.reason) == ("False", reason)
    assert life.status.analysis[0].champion.samples == 10


def test_half_a_success_is_no_count_and_stops_neither_guardrails_nor_later_polls() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    until = life.status.counted_until
    life.poll({"v1": (10, 4.5), "v2": (11, 5)}, errors=0.01)

    found = life.status.condition("MetricsReady")
    assert found is not None
    assert (found.status, found.reason) == ("False", "ImpossibleCount")
    assert "4.5" in found.message
    assert life.status.counted_until == until

    life.poll({"v1": (10, 4.5), "v2": (11, 5)}, errors=0.5)
    assert life.status.phase is Phase.ROLLED_BACK


def test_a_status_never_forgets_a_verdict_that_has_been_reached() -> None:
    life = Life()
    until_verdict(life, WORSE)
    before = life.status
    life.poll(after=HOUR)

    assert life.status == before


@pytest.mark.parametrize("method", ["Sequential", "GroupSequential", "FixedHorizon"])
def test_every_method_ends_with_a_verdict(method: str) -> None:
    life = Life(analysis={"method": method, "sampleSize": 20_000})
    until_verdict(life, WORSE)

    assert life.status.verdict is Verdict.CHAMPION_BETTER
    seen = life.status.analysis[0].champion.samples
    assert seen >= 20_000 if method == "FixedHorizon" else seen < 20_000
