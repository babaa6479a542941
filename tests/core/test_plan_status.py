"""The status says what there is to say, and nothing else changes it."""

from __future__ import annotations

from datetime import timedelta

from modelexperiment.core.plan import decide, not_routed, routed
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.status import Phase
from tests.core.builders import ACCURACY, ERRORS, Life, traffic

SOME = {"v1": (100, 50), "v2": (100, 52)}
HOUR = timedelta(hours=1)


def running(**fields: object) -> Life:
    life = Life(**{"guardrails": [ERRORS], **fields})
    life.start(errors=0.01)
    life.poll(SOME, errors=0.01)
    life.events()
    return life


def test_a_heartbeat_changes_nothing() -> None:
    life = running()
    before = life.status.dump()
    for _ in range(20):
        life.poll(errors=0.01)

    assert life.status.dump() == before
    assert life.events() == []


def test_deciding_twice_on_the_same_snapshot_gives_the_same() -> None:
    life = running()
    life.now += HOUR
    snapshot = life.snapshot(counted=life.counted(SOME), readings=life.readings(0.01))
    once = routed(decide(life.experiment, life.status, snapshot), snapshot)

    twice = routed(decide(life.experiment, once.status, snapshot), snapshot)

    assert twice.status == once.status
    assert twice.events == ()


def test_time_moves_on_seldom_while_nothing_is_seen() -> None:
    life = running()
    until = life.status.counted_until
    life.poll(errors=0.01, after=timedelta(minutes=9))
    assert life.status.counted_until == until

    life.poll(errors=0.01, after=timedelta(minutes=1))
    assert life.status.counted_until == life.now


def test_the_columns_say_where_the_experiment_is() -> None:
    life = running(analysis={"sampleSize": 2_000})
    for _ in range(3):
        life.poll(SOME, errors=0.01, after=HOUR)

    columns = life.status.summary
    assert columns.split == "v1 50 / v2 50"
    assert columns.lift == "+4.0%"
    assert columns.interval.startswith("[-") and columns.interval.endswith("%]")
    assert columns.samples == "400 / 400"
    assert columns.guardrails == "1 Pass"
    assert columns.reason == "ExtendTest"
    assert columns.p_value
    # 1,600 more, where 400 took three hours and a quarter of a minute.
    assert columns.eta == "~12h1m"


def test_the_time_left_is_told_from_the_last_count_on() -> None:
    life = running(analysis={"sampleSize": 2_000})
    life.poll(SOME, errors=0.01, after=HOUR)
    eta = life.status.summary.eta

    life.poll(errors=0.01, after=timedelta(minutes=7))
    assert life.status.summary.eta == eta


def test_a_minute_or_less_is_about_a_minute() -> None:
    life = running(analysis={"sampleSize": 202})
    life.poll({"v1": (100, 50), "v2": (100, 52)}, errors=0.01)

    assert life.status.summary.eta == "~1m"


def test_an_ended_experiment_is_done() -> None:
    life = running()
    life.poll(errors=0.5)

    assert life.status.summary.eta == "done"


def test_where_there_is_no_lift_the_columns_use_the_metrics_own_units() -> None:
    life = running()
    life.poll({"v1": (100, 0), "v2": (100, 30)}, errors=0.01)
    entry = life.status.analysis[0]
    absolute = life.status.model_copy(
        update={"analysis": [entry.model_copy(update={"relative": None})]}
    )

    plan = decide(life.experiment, absolute, life.snapshot())

    assert plan.status.summary.lift == f"{entry.absolute.effect:+.3g}" if entry.absolute else ""
    assert "%" not in plan.status.summary.interval


def test_the_columns_show_the_challenger_that_does_best() -> None:
    for goal, best in (("Increase", "+19.8%"), ("Decrease", "-20.0%")):
        life = running(
            traffic=traffic(v1=50, v2=25, v3=25),
            metrics=[{**ACCURACY, "goal": goal}],
            analysis={"minDuration": "1d"},
        )
        for _ in range(20):
            life.poll({"v1": (500, 250), "v2": (250, 150), "v3": (250, 100)}, errors=0.01)

        assert life.status.summary.lift == best


def test_guardrails_are_unknown_until_they_are_read() -> None:
    life = Life(guardrails=[ERRORS])
    life.poll(holder="other")

    found = life.status.condition("GuardrailsHealthy")
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", "NotReadYet")


def test_without_guardrails_there_is_nothing_to_worry_about() -> None:
    life = Life()
    life.start()

    found = life.status.condition("GuardrailsHealthy")
    assert found is not None
    assert (found.status, found.reason) == ("True", "NoneDefined")


def test_every_false_and_unknown_condition_says_what_to_do_or_what_is_wrong() -> None:
    life = running()
    life.poll(errors="returns nothing")

    for condition in life.status.conditions:
        assert condition.status == "True" or len(condition.message) > 20, condition


def test_a_route_that_can_not_be_written_is_said_and_the_split_is_not_claimed() -> None:
    life = Life()
    life.start()
    life.edit(traffic=traffic(v1=90, v2=10))
    snapshot = life.snapshot()
    plan = decide(life.experiment, life.status, snapshot)
    problem = Problem("WriteFailed", "API server: 500; it is tried again", bad_input=False)

    failed = not_routed(plan, problem, snapshot)

    found = failed.status.condition("RoutesReady")
    assert found is not None
    assert (found.status, found.reason) == ("False", "WriteFailed")
    assert failed.status.routed_split == {"v1": 50, "v2": 50}
    assert failed.status.summary.split == "v1 50 / v2 50"

    written = routed(decide(life.experiment, failed.status, snapshot), snapshot)
    assert written.status.routed_split == {"v1": 90, "v2": 10}
    assert written.status.condition("RoutesReady").status == "True"  # type: ignore[union-attr]


def test_a_plan_for_an_experiment_that_waits_claims_no_split() -> None:
    life = Life()
    life.poll(holder="other")

    assert life.plan is not None
    assert (life.plan.split, life.status.routed, life.status.phase) == (None, [], Phase.PENDING)
