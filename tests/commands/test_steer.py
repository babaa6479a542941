"""What pause, resume, stop and promote write, what they wait for, and what they refuse.

That an API server and an operator take it is shown in tests/e2e/test_commands.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelexperiment.commands.cluster import Refusal
from modelexperiment.commands.files import InputError
from modelexperiment.commands.steer import line, pause, promote, resume, settled, stop
from modelexperiment.core.reporting import route_failed
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.status import Phase
from tests.core.builders import ERRORS, Life, traffic
from tests.core.shadowed import AGREES, CHALLENGER, Shadowed

MANUAL = {"onWin": "Manual", "steps": [75, 100]}
THREE = {"traffic": traffic(v1=40, v2=40, v3=20)}


def seen(life: Life) -> dict[str, Any]:
    """The object as the API server has it."""
    return {
        "apiVersion": "experiments.mlops.dev/v1alpha1",
        "kind": "ModelExperiment",
        "metadata": {"name": "fraud-v2", "namespace": "fraud", "generation": life.generation},
        "spec": life.experiment.spec.dump(),
        "status": life.status.dump(),
    }


def running(**fields: Any) -> Life:
    life = Life(**{"rollout": MANUAL, **fields})
    life.start()
    life.poll({"v1": (100, 50), "v2": (100, 52)})
    return life


def ended() -> Life:
    life = running(guardrails=[ERRORS])
    life.poll(errors=0.5)
    assert life.status.phase is Phase.ROLLED_BACK
    return life


def test_pause_writes_one_field_and_waits_for_the_phase() -> None:
    life = running()
    order = pause(seen(life))
    assert order.patch == [{"op": "add", "path": "/spec/paused", "value": True}]
    assert not order.done(life.status)

    life.edit(paused=True)
    life.poll()
    assert order.done(life.status)
    assert line(seen(life)) == "fraud/fraud-v2: Paused; v1 50 / v2 50"
    assert pause(seen(life)).patch == ()


def test_resume_goes_on_where_the_pause_began() -> None:
    life = running()
    with pytest.raises(Refusal, match=r"^fraud/fraud-v2: is not paused \(Running\)$"):
        resume(seen(life))
    life.edit(paused=True)
    life.poll()
    order = resume(seen(life))
    assert order.patch == [{"op": "add", "path": "/spec/paused", "value": False}]
    assert not order.done(life.status)

    life.edit(paused=False)
    life.poll()
    assert order.done(life.status)


def test_a_pause_of_the_operators_own_is_not_resumed_by_command() -> None:
    analysis = {"guardrailTimeout": "1m", "onGuardrailTimeout": "Pause"}
    life = running(guardrails=[ERRORS], analysis=analysis)
    life.poll(errors="returns nothing")
    life.poll(errors="returns nothing", after=timedelta(minutes=2))
    assert life.status.phase is Phase.PAUSED

    with pytest.raises(Refusal, match=r"paused by analysis\.onGuardrailTimeout.*returns nothing"):
        resume(seen(life))


def test_stop_is_the_end() -> None:
    life = running()
    order = stop(seen(life))
    life.edit(stop=True)
    life.poll()

    assert order.done(life.status)
    assert line(seen(life)) == "fraud/fraud-v2: Stopped; v1 100 / v2 0"
    assert stop(seen(life)).patch == ()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (pause, "has ended (RolledBack), so that there is nothing to pause"),
        (resume, "has ended (RolledBack), so that it can't be resumed"),
        (stop, "has ended already (RolledBack; v1 100 / v2 0)"),
        (promote, "has ended (RolledBack), so that nothing can be rolled out"),
    ],
)
def test_what_has_ended_has_ended(command: Any, says: str) -> None:
    with pytest.raises(Refusal) as refusal:
        command(seen(ended()))

    assert says in str(refusal.value)


def test_promote_takes_the_only_challenger() -> None:
    life = running()
    order = promote(seen(life))
    assert order.patch == [{"op": "add", "path": "/spec/rollout/promote", "value": "v2"}]

    life.edit(rollout={**MANUAL, "promote": "v2"})
    life.poll()
    assert order.done(life.status)
    assert line(seen(life)) == (
        "fraud/fraud-v2: RollingOut; v1 25 / v2 75; v2 is rolled out to 75, 100 %; "
        "guardrails stay on"
    )
    again = promote(seen(life))
    assert (again.patch, again.first) == ((), [])


def test_a_spec_without_a_rollout_gets_one() -> None:
    plain = seen(running())
    del plain["spec"]["rollout"]

    assert promote(plain).patch == [
        {"op": "add", "path": "/spec/rollout", "value": {"promote": "v2"}}
    ]


def test_of_several_challengers_it_takes_the_winner_or_the_one_that_is_named() -> None:
    life = running(**THREE)
    with pytest.raises(Refusal, match=r"no verdict: name one by --to \(v2, v3\)"):
        promote(seen(life))
    assert promote(seen(life), "v3").says == "spec.rollout.promote v3"
    with pytest.raises(InputError, match=r"^--to: .* challengers \(v2, v3\), got v1$"):
        promote(seen(life), "v1")

    for _ in range(40):
        life.poll({"v1": (400, 200), "v2": (400, 200), "v3": (200, 160)})
    assert life.status.verdict == "ChallengerBetter"
    assert promote(seen(life)).says == "spec.rollout.promote v3"


def test_paused_it_is_enough_that_the_operator_knows() -> None:
    life = running(paused=True)
    order = promote(seen(life))
    life.edit(rollout={**MANUAL, "promote": "v2"})
    life.poll()

    assert order.done(life.status)
    assert line(seen(life)).endswith("rollout.promote v2 waits until the experiment is resumed")


def test_a_promote_that_was_followed_before_is_taken_out_first() -> None:
    life = running(rollout={**MANUAL, "promote": "v2"}, guardrails=[ERRORS])
    life.poll(errors=0.01)
    life.poll(errors=0.5)
    life.edit(guardrails=[{**ERRORS, "max": 0.6}])
    life.poll(errors=0.01)
    assert life.status.phase is Phase.RUNNING

    assert promote(seen(life)).first == [{"op": "remove", "path": "/spec/rollout/promote"}]


def test_it_is_settled_once_the_newest_spec_is_seen_and_routed() -> None:
    life = running()
    assert settled(seen(life), 1)
    assert not settled(seen(life), 2)

    unwritten = Problem("WriteFailed", "no answer", bad_input=False)
    life.status = route_failed(life.status, unwritten, life.snapshot())
    assert not settled(seen(life), 1)


def test_before_the_start_a_promote_waits_for_it() -> None:
    life = Life(rollout={**MANUAL, "promote": "v2"})
    life.poll(route=Problem("RouteNotFound", "no such route"))

    assert promote(seen(life)).done(life.status)
    assert line(seen(life)).endswith("no such route; rollout.promote v2 waits for the start")


def test_what_waits_for_its_start_says_why() -> None:
    life = Life()
    life.poll(route=Problem("RouteNotFound", "no such route"))

    assert line(seen(life)) == "fraud/fraud-v2: Pending; not started: no such route"
    assert settled(seen(life), 1)
    assert pause(seen(life)).done(life.status)
    assert stop(seen(life)).done(life.status)


def test_all_orders_are_understood_while_it_shadows() -> None:
    life = Shadowed(shadow=CHALLENGER)
    life.poll(after=timedelta(0))
    order = promote(seen(life))
    life.edit(rollout={"promote": "v2", "onWin": "Manual"})
    life.compare(10, 0)
    assert order.done(life.status)
    assert line(seen(life)) == (
        "fraud/fraud-v2: Shadowing; v1 100 / v2 0; "
        "rollout.promote v2 waits until the shadow agrees, or spec.shadow is taken out"
    )

    life.edit(paused=True)
    life.compare(*AGREES)
    assert pause(seen(life)).done(life.status)
    order = resume(seen(life))
    life.edit(paused=False, shadow={**CHALLENGER, "maxDivergence": 0.001})
    life.compare(0, 0)
    assert life.status.phase == "Shadowing"
    assert order.done(life.status)

    order = stop(seen(life))
    life.edit(stop=True)
    life.compare(0, 0)
    assert order.done(life.status)
