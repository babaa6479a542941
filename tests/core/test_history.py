"""The history stays small, covers the whole run, and is the same in a replay."""

from __future__ import annotations

import json
import random
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from modelexperiment.core import history
from modelexperiment.core.entries import History
from modelexperiment.core.status import ExperimentStatus
from tests.core.builders import ACCURACY, ERRORS, START, Life, experiment, traffic

SOME = {"v1": (100, 50), "v2": (100, 51)}
EVEN_LONGER = {"analysis": {"maxDuration": "365d"}}
# Never a verdict: what is worth acting on is far under what can be seen.
BLIND = {**ACCURACY, "minimumEffect": {"relative": 0.01}}


def course(status: ExperimentStatus) -> History:
    assert status.history is not None
    return status.history


def test_a_poll_adds_what_it_has_seen() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    assert life.status.history is None
    life.poll(SOME, errors=0.01)
    life.poll(SOME, errors=0.012)

    found = course(life.status)
    assert found.seconds == [15, 30]
    assert found.values["v2/guardrail/errors"] == [0.01, 0.012]
    assert found.values["v1/samples"] == [100, 200]
    assert found.values["v1/percent"] == found.values["v2/percent"] == [50, 50]
    entry = life.status.analysis[0]
    assert entry.relative
    assert found.values["v2/effect"][-1] == round(entry.relative.effect, 3)
    assert found.values["v2/estimate"] == [0.51, 0.51]


def test_a_heartbeat_adds_nothing() -> None:
    life = Life(guardrails=[ERRORS])
    life.start(errors=0.01)
    life.poll(SOME, errors=0.01)
    before = life.status.dump()
    life.poll(errors=0.015)

    assert life.status.dump()["history"] == before["history"]


def test_it_stays_under_8_kib_and_covers_the_whole_run() -> None:
    draw = random.Random(1)
    rails = [ERRORS, {**ERRORS, "name": "latency-p95"}]
    life = Life(guardrails=rails, metrics=[BLIND], **EVEN_LONGER)
    life.start(errors=0.01)
    sizes = []
    for _ in range(400):
        grown = {v: (1_000.0, float(draw.randint(480, 520))) for v in ("v1", "v2")}
        life.poll(grown, errors=0.01 + draw.random() / 1000, after=timedelta(hours=1.01))
        sizes.append(len(json.dumps(course(life.status).dump(), separators=(",", ":"))))

    found = course(life.status)
    assert max(sizes) < 8 * 1024
    assert history.MOST / 2 <= len(found.seconds) <= history.MOST
    assert found.seconds[0] == 3636
    last = (life.now - START).total_seconds()
    assert last - found.seconds[-1] < found.spacing
    assert all(len(values) == len(found.seconds) for values in found.values.values())
    assert history.up_to_now(life.status).seconds[-1] == last


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=300))
def test_points_are_apart_bounded_and_begin_at_the_first(gaps: list[float]) -> None:
    spec, second, found = experiment(**EVEN_LONGER).spec, 0.0, None
    for gap in gaps:
        second += gap
        status = ExperimentStatus(
            start_time=START, counted_until=START + timedelta(seconds=second), history=found
        )
        found = history.record(spec, status)
    assert found is not None
    assert found.seconds[0] == round(gaps[0], 1)
    assert len(found.seconds) <= history.MOST
    pairs = zip(found.seconds, found.seconds[1:], strict=False)
    assert all(later - one >= found.spacing for one, later in pairs)
    # Nothing that was seen is farther from a point than the spacing.
    assert second - found.seconds[-1] <= max(found.spacing, 0.2)


def test_another_question_begins_another_history() -> None:
    life = Life()
    life.start()
    life.poll(SOME)
    life.edit(metrics=[{**ACCURACY, "goal": "Decrease"}])
    life.poll(SOME)
    assert course(life.status).seconds == [30]

    life.edit(metrics=[{**ACCURACY, "goal": "Decrease", "minimumEffect": {"absolute": 0.1}}])
    life.poll(SOME)
    assert course(life.status).seconds == [45]
    assert course(life.status).scale == "absolute"


def test_a_guardrail_that_comes_later_has_no_values_before() -> None:
    life = Life()
    life.start()
    life.poll(SOME)
    life.edit(guardrails=[ERRORS])
    life.poll(SOME, errors=0.01)

    found = course(life.status)
    assert found.values["v2/guardrail/errors"][-2:] == [None, 0.01]


def test_every_challenger_has_its_own_course() -> None:
    life = Life(traffic=traffic(v1=40, v2=30, v3=30))
    life.start()
    life.poll({**SOME, "v3": (80, 44)})

    found = course(life.status)
    assert found.values["v3/samples"] == [80]
    assert found.values["v3/estimate"] == [0.55]
    assert found.values["v1/estimate"] == [0.5]
    assert "v1/effect" not in found.values
