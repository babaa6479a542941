"""What a tracking server is to hold of an experiment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from modelexperiment.core.tracking import Record, record
from tests.core.builders import ERRORS, START, Life, traffic

SOME = {"v1": (100, 50), "v2": (100, 52)}
MLFLOW = {"tracking": {"mlflow": {"uri": "http://mlflow:5000"}}}


def lived(polls: int = 2, *, tracking: dict[str, Any] | None = None, **fields: Any) -> Life:
    life = Life(guardrails=[ERRORS], **(tracking or MLFLOW), **fields)
    life.start(errors=0.01)
    for _ in range(polls):
        life.poll(SOME, errors=0.01)
    return life


def recorded(life: Life) -> Record:
    found = record(life.experiment, "uid-1", life.status)
    assert found is not None
    return found


def test_nothing_is_held_of_what_is_not_tracked_or_has_not_started() -> None:
    life = lived(tracking={"paused": False})
    assert record(life.experiment, "uid-1", life.status) is None
    waiting = Life(**MLFLOW)
    assert record(waiting.experiment, "uid-1", waiting.status) is None


def test_a_run_for_each_version_the_champions_first() -> None:
    split = traffic(v1=30, v2=40, v3=30)
    life = Life(**MLFLOW, traffic=split, champion="v2", assignment={"header": "x-user-id"})
    life.start()
    runs = recorded(life).runs

    groups = [(run.model_version, run.tags["test_group"]) for run in runs]
    assert groups == [("v2", "A"), ("v1", "B"), ("v3", "C")]
    assert dict(runs[0].params) == {
        "modelVersion": "v2",
        "percent": "40",
        "salt": "fraud/fraud-v2",
        "alpha": "0.05",
        "metric": "accuracy",
        "minimumEffect": "5 %",
        "method": "Sequential",
        "unit": "User",
    }


def test_points_are_the_courses_own() -> None:
    champion, challenger = recorded(lived()).runs
    first, last = challenger.points
    assert (first.second, last.second) == (15, 30)
    assert last.milliseconds == round(1000 * (START + timedelta(seconds=30)).timestamp())
    assert last.values["samples"] == 200
    assert last.values["guardrail.errors"] == 0.01
    assert last.values["effect_lower"] < last.values["effect"] < last.values["effect_upper"]
    assert 0 < last.values["p_value"] <= 1
    assert champion.points[-1].values.keys() == {"percent", "samples", "estimate"}


def test_a_run_is_the_same_one_until_the_experiment_starts_again() -> None:
    life = lived()
    before = [run.identity for run in recorded(life).runs]
    life.poll(SOME, errors=0.01)
    assert [run.identity for run in recorded(life).runs] == before

    life.edit(stop=True)
    life.poll(errors=0.01)
    life.edit(stop=False)
    life.poll(errors=0.01)
    assert all(run.identity not in before for run in recorded(life).runs)
    assert before[0]["modelexperiment.uid"] == "uid-1"


def test_tags_say_verdict_and_decision_and_stay_while_it_goes_on() -> None:
    life = lived(3)
    tags = recorded(life).runs[0].tags
    assert (tags["phase"], tags["verdict"], tags["decision"]) == (
        "Running",
        "Inconclusive",
        "ExtendTest",
    )
    assert tags["reason"] == "none"
    life.poll({"v1": (150, 70), "v2": (150, 90)}, errors=0.01)
    assert recorded(life).runs[0].tags == tags

    life.poll(SOME, errors=0.5)
    ended = recorded(life)
    assert ended.runs[0].tags["decision"] == "Rollback"
    assert "errors broke for v2" in ended.runs[0].tags["reason"]
    assert ended.end == round(1000 * life.now.timestamp())
    assert ended.state == "RolledBack/Inconclusive/Rollback"


def test_names_and_promotion() -> None:
    life = lived()
    assert recorded(life).name == "fraud/fraud-v2"
    assert recorded(life).promoted is None
    asked = {"tracking": {"mlflow": {"experiment": "fraud", "registeredModel": "scorer"}}}
    life = lived(0, tracking=asked, rollout={"onWin": "Full"})
    life.poll({"v1": (4_000, 2_000), "v2": (4_000, 2_600)}, errors=0.01)
    life.poll({"v1": (4_000, 2_000), "v2": (4_000, 2_600)}, errors=0.01)
    assert life.status.phase == "Succeeded"
    assert recorded(life).name == "fraud"
    assert recorded(life).promoted == ("scorer", "v2")
