"""A guardrail passes, breaks, or says that it does not know."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.core.guardrails import bounds, broken, judge, judge_all, overdue
from modelexperiment.core.snapshot import Problem, Reading, RouteSeen, Snapshot
from modelexperiment.core.spec import Analysis, Guardrail
from modelexperiment.core.status import GuardrailState, GuardrailStatus
from tests.core.builders import ERRORS, ORIGINAL, START, reading, spec, traffic

PASS, BREACH, UNSURE = GuardrailState.PASS, GuardrailState.BREACH, GuardrailState.INSUFFICIENT_DATA
DOWN = Problem("PrometheusUnreachable", "Prometheus can't be reached", bad_input=False)
RELATIVE, ABSOLUTE = {"maxIncrease": {"relative": 50}}, {"maxIncrease": {"absolute": 0.3}}


def guardrail(**fields: Any) -> Guardrail:
    return Guardrail.model_validate({"name": "errors", "query": "vector(0)", **fields})


def judged(
    rail: Guardrail,
    answer: float | str | Problem,
    champion: float | str | Problem | None = None,
    before: GuardrailStatus | None = None,
    later: timedelta = timedelta(0),
) -> GuardrailStatus:
    other = None if champion is None else reading("v1", champion)
    return judge(rail, reading("v2", answer), other, before, START + later)


@pytest.mark.parametrize(
    ("fields", "value", "state", "limit"),
    [
        ({"max": 0.02}, 0.02, PASS, 0.02),
        ({"max": 0.02}, 0.0201, BREACH, 0.02),
        ({"min": 0.9}, 0.9, PASS, 0.9),
        ({"min": 0.9}, 0.89, BREACH, 0.9),
        ({"min": 1, "max": 2}, 1.5, PASS, 2),
        ({"min": 1, "max": 2}, 0.5, BREACH, 1),
        ({"min": 1, "max": 2}, 2.5, BREACH, 2),
        ({"max": -5}, -5.1, PASS, -5),
    ],
)
def test_a_number_is_compared_with_its_bounds(
    fields: dict[str, float], value: float, state: GuardrailState, limit: float
) -> None:
    found = judged(guardrail(**fields), value)

    assert (found.state, found.value, found.limit) == (state, value, limit)


@pytest.mark.parametrize(
    ("fields", "champion", "expected"),
    [
        (RELATIVE, 0.4, 0.6),
        (ABSOLUTE, 0.4, 0.7),
        ({"max": 0.5, **RELATIVE}, 0.4, 0.5),
        ({"max": 0.9, **RELATIVE}, 0.4, 0.6),
        ({"max": 0.9, **RELATIVE}, None, 0.9),
        (RELATIVE, 0.0, 0.0),
        pytest.param(RELATIVE, -0.4, -0.2, id="half of a negative value is above it, too"),
    ],
)
def test_an_increase_is_allowed_from_the_champions_value_on(
    fields: dict[str, Any], champion: float | None, expected: float
) -> None:
    assert bounds(guardrail(**fields), champion) == (None, pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "state"), [(0.6, PASS), (0.61, BREACH)], ids=["at the limit", "over the limit"]
)
def test_a_challenger_is_held_to_the_champions_value(value: float, state: GuardrailState) -> None:
    assert judged(guardrail(**RELATIVE), value, champion=0.4).state is state


@pytest.mark.parametrize("champion", [None, "returns nothing", DOWN])
def test_without_a_champion_to_compare_with_nothing_is_known(
    champion: str | Problem | None,
) -> None:
    found = judged(guardrail(**RELATIVE), 0.5, champion)

    assert (found.state, found.message) == (UNSURE, "the champion has no value to compare with")


def test_a_fixed_bound_breaks_even_without_the_champion() -> None:
    assert judged(guardrail(max=0.9, **RELATIVE), 0.95, None).state is BREACH


def test_no_data_is_neither_a_pass_nor_a_breach() -> None:
    found = judged(guardrail(max=1), "returns NaN")

    assert (found.state, found.value, found.message) == (UNSURE, None, "returns NaN")


def test_no_data_is_a_breach_where_the_manifest_says_so() -> None:
    found = judged(guardrail(max=1, noData="Fail"), "returns nothing")

    assert (found.state, found.message) == (BREACH, "returns nothing (noData: Fail)")


@pytest.mark.parametrize("no_data", ["Wait", "Fail"])
def test_an_error_of_prometheus_is_nobodys_breach(no_data: str) -> None:
    found = judged(guardrail(max=1, noData=no_data), DOWN)

    assert (found.state, found.message) == (UNSURE, "Prometheus can't be reached")


def test_breaches_in_a_row_are_counted_and_a_pass_forgives_them() -> None:
    rail, counts, before = guardrail(max=1), [], None
    for value in (2, 2, 0, 2):
        before = judged(rail, value, before=before)
        counts.append(before.breaches)

    assert counts == [1, 2, 0, 1]


def test_missing_data_neither_continues_a_row_nor_forgives_it() -> None:
    rail, counts, before = guardrail(max=1), [], None
    answers: tuple[float | str | Problem, ...] = ("returns nothing", 2, DOWN, "returns NaN", 2)
    for answer in answers:
        before = judged(rail, answer, before=before)
        counts.append(before.breaches)

    assert counts == [0, 1, 1, 1, 2]


def test_the_time_of_the_last_change_moves_only_with_the_state() -> None:
    rail, hour = guardrail(max=1), timedelta(hours=1)
    first = judged(rail, 0)
    same = judged(rail, 0.5, before=first, later=hour)
    other = judged(rail, 2, before=same, later=2 * hour)

    assert (same.last_change, other.last_change) == (START, START + 2 * hour)


@pytest.mark.parametrize(("in_a_row", "breaks"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_breach_breaks_once_it_has_lasted(in_a_row: int, breaks: bool) -> None:
    status = judged(guardrail(max=1), 2).model_copy(update={"breaches": in_a_row})
    limited = spec(guardrails=[{**ERRORS, "failureLimit": 3}])

    assert broken(limited, [status]) == ([status] if breaks else [])


def test_what_does_not_breach_does_not_break_however_it_was_before() -> None:
    status = judged(guardrail(max=1), DOWN).model_copy(update={"breaches": 5})

    assert broken(spec(guardrails=[ERRORS]), [status]) == []


def test_every_challenger_is_judged_and_the_champion_is_not() -> None:
    asked = spec(traffic=traffic(v1=50, v2=25, v3=25), guardrails=[ERRORS])
    readings = (
        Reading("errors", "v1", 0.5),
        Reading("errors", "v2", 0.01),
        Reading("errors", "v3", 0.03),
    )
    seen = Snapshot(START, 1, RouteSeen({}, ORIGINAL), readings=readings)

    found = judge_all(asked, seen, [], asked.split)

    assert [(g.model_version, g.state) for g in found] == [("v2", PASS), ("v3", BREACH)]


def test_what_was_not_read_keeps_its_status_and_what_never_was_has_none() -> None:
    asked = spec(traffic=traffic(v1=50, v2=25, v3=25), guardrails=[ERRORS])
    before = judged(guardrail(max=1), 2)

    nothing = Snapshot(START, 1, RouteSeen({}, ORIGINAL))

    assert judge_all(asked, nothing, [before], asked.split) == [before]


def test_a_challenger_without_traffic_is_not_judged() -> None:
    asked = spec(traffic=traffic(v1=50, v2=25, v3=25), guardrails=[ERRORS])
    readings = tuple(reading(version, 0.5) for version in ("v1", "v2", "v3"))
    seen = Snapshot(START, 1, RouteSeen({}, ORIGINAL), readings=readings)

    found = judge_all(asked, seen, [], {"v1": 50, "v2": 50, "v3": 0})

    assert [g.model_version for g in found] == ["v2"]


@pytest.mark.parametrize(
    ("silent_for", "started_ago", "late"),
    [
        pytest.param(300, 900, True, id="silent for the timeout"),
        pytest.param(299, 900, False, id="silent for less"),
        pytest.param(900, 299, False, id="silent since before the start, which was just now"),
        pytest.param(900, 300, True, id="never any data since the start"),
    ],
)
def test_a_silence_is_timed_from_its_beginning_or_from_the_start(
    silent_for: int, started_ago: int, late: bool
) -> None:
    status = judged(guardrail(max=1), "returns nothing")
    now = START + timedelta(seconds=silent_for)

    found = overdue(Analysis(), [status], now - timedelta(seconds=started_ago), now)

    assert found == ([status] if late else [])


@pytest.mark.parametrize("value", [0, 2], ids=["a pass", "a breach"])
def test_what_has_an_answer_is_never_overdue(value: float) -> None:
    status = judged(guardrail(max=1), value)

    assert overdue(Analysis(), [status], START, START + timedelta(days=1)) == []


def test_breaches_are_counted_within_a_window_of_readings() -> None:
    rail, before, rows = guardrail(max=1, failureLimit=3, failureWindow=5), None, []
    for value in (2, 0, 2, "returns NaN", 0, 0, 2, 2):
        before = judged(rail, value, before=before)
        rows.append((before.readings, before.breaches))

    assert rows == [
        ("x", 1),
        ("x.", 1),
        ("x.x", 2),
        ("x.x", 2),
        ("x.x.", 2),
        ("x.x..", 2),
        (".x..x", 2),
        ("x..xx", 3),
    ]
    assert before is not None
    assert broken(spec(guardrails=[rail.dump()]), [before]) == [before]


def test_a_passed_reading_does_not_roll_back_for_what_was_before() -> None:
    rail, before = guardrail(max=1, failureLimit=2, failureWindow=4), None
    for value in (2, 0):
        before = judged(rail, value, before=before)
    passed = judged(guardrail(max=1, failureLimit=1, failureWindow=4), 0, before=before)

    assert passed.breaches == 1
    assert broken(spec(guardrails=[rail.dump()]), [passed]) == []


def test_the_last_breach_is_kept_with_its_time_its_query_and_a_link() -> None:
    rail = guardrail(max=1, failureLimit=2)
    asked = Reading("errors", "v2", 2.0, query='errors{version="v2"}')
    first = judge(rail, asked, None, None, START, "http://prometheus:9090")
    later = judge(rail, Reading("errors", "v2", 0.5), None, first, START + timedelta(hours=1))

    assert later.state is PASS
    assert later.breach == first.breach
    assert first.breach is not None
    assert (first.breach.time, first.breach.value, first.breach.limit) == (START, 2, 1)
    assert first.breach.link == (
        "http://prometheus:9090/graph?g0.expr=errors%7Bversion%3D%22v2%22%7D&g0.tab=0"
        "&g0.range_input=15m&g0.end_input=2026-03-01+12%3A01%3A00"
    )
