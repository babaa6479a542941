"""`modelexperiment pause`, `resume`, `stop`, `promote`: one field of the spec, and what follows.

Each writes what anybody could write in the manifest, if nobody has changed the spec in between,
and waits until the operator's status shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from modelexperiment.commands.cluster import Experiments, Object, Patch, Refusal, add_options
from modelexperiment.commands.cluster import on_cluster as run_on_cluster
from modelexperiment.commands.files import InputError
from modelexperiment.commands.page import note_of, status_of
from modelexperiment.core import decision
from modelexperiment.core.fields import format_duration, parse_duration
from modelexperiment.core.manifest import ManifestError, parse_experiment
from modelexperiment.core.rollout import format_split
from modelexperiment.core.status import ConditionStatus, ExperimentStatus, Phase, Verdict

_ATTEMPTS = 5
_LOOK = 0.3


@dataclass(frozen=True)
class Order:
    """What a command does to an experiment as it is now."""

    patch: Patch
    """Nothing: the spec asks for it already."""
    says: str
    """The field as it is written, for people."""
    done: Callable[[ExperimentStatus], bool]
    """Whether the status shows it."""
    first: Patch = ()
    """What must be taken out, and seen to be taken out by the operator, before."""


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    for name, (order, text) in _COMMANDS.items():
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("name", metavar="NAME", help="the ModelExperiment")
        add_options(parser)
        parser.add_argument(
            "--timeout", default="30s", help="how long to wait for the operator; default 30s"
        )
        parser.add_argument(
            "--no-wait", action="store_true", help="write the spec, and wait for nothing"
        )
        if order is promote:
            parser.add_argument("--to", metavar="VERSION", help="the challenger; default: the one")
        parser.set_defaults(do=partial(run, order))


def run(order: Callable[[Object, str | None], Order], arguments: argparse.Namespace) -> int:
    """Give the order and print what is true then."""
    try:
        timeout = parse_duration(arguments.timeout)
    except ValueError as why:
        raise InputError(f"--timeout: {why}, got {arguments.timeout}") from None

    async def work(experiments: Experiments) -> int:
        print(await _give(experiments, order, arguments, timeout))
        return 0

    return run_on_cluster(arguments, work)


async def _give(
    experiments: Experiments,
    order: Callable[[Object, str | None], Order],
    arguments: argparse.Namespace,
    timeout: timedelta,
) -> str:
    to = getattr(arguments, "to", None)
    for _ in range(_ATTEMPTS):
        seen = await experiments.get(arguments.name)
        asked = order(seen, to)
        if asked.first:
            if arguments.no_wait:
                raise Refusal(
                    f"{name_of(seen)}: {asked.says} must be set anew: leave out --no-wait"
                )
            written = await experiments.patch(seen, asked.first)
            if written is None:
                continue
            await _wait(experiments, written, Order((), "rollout.promote is out", _any), timeout)
            continue
        written = await experiments.patch(seen, asked.patch) if asked.patch else seen
        if written is None:
            continue
        if arguments.no_wait:
            return f"{name_of(seen)}: {asked.says} is written"
        return line(await _wait(experiments, written, asked, timeout))
    raise Refusal(
        f"{experiments.namespace}/{arguments.name}: its spec is being changed all the time"
    )


async def _wait(
    experiments: Experiments, written: Object, asked: Order, timeout: timedelta
) -> Object:
    """The experiment once its status shows what was asked for."""
    end = time.monotonic() + timeout.total_seconds()
    while True:
        now = await experiments.get(written["metadata"]["name"])
        if settled(now, int(written["metadata"]["generation"])):
            if asked.done(status_of(now)):
                return now
            if status_of(now).phase.ended:
                raise Refusal(f"{line(now)}: ended before it saw {asked.says}")
        if time.monotonic() >= end:
            waited = format_duration(timeout)
            raise Refusal(f"{name_of(now)}: {asked.says}, but after {waited} {_lack(now)}")
        await asyncio.sleep(_LOOK)


def settled(seen: Object, generation: int) -> bool:
    """Whether the operator has taken that generation in, and the route is as it wants it."""
    status = status_of(seen)
    routes = status.condition("RoutesReady")
    routed = routes is not None and routes.status is ConditionStatus.TRUE
    return (status.observed_generation or 0) >= generation and (routed or not status.phase.started)


def _lack(seen: Object) -> str:
    """What the status says in place of what was waited for."""
    status, newest = status_of(seen), int(seen["metadata"]["generation"])
    if (status.observed_generation or 0) < newest:
        known = status.observed_generation or 0
        return f"the operator has seen generation {known} of {newest}: is it running?"
    bad = next((c for c in status.conditions if c.status is not ConditionStatus.TRUE), None)
    return f"its phase is {status.phase}" + (f": {bad.type}: {bad.message}" if bad else "")


def line(seen: Object) -> str:
    """What is true now: name, phase, split, and what else there is to say."""
    status = status_of(seen)
    parts = [str(status.phase)]
    if status.routed:
        parts.append(format_split(status.routed_split))
    complete = status.condition("Complete")
    if status.phase is Phase.PENDING and complete:
        parts.append(complete.message)
    note = note_of(seen)
    if note and note not in parts[-1]:
        parts.append(note)
    if status.rollout and status.decision:
        parts += status.decision.next_steps[:1]
    return f"{name_of(seen)}: {'; '.join(parts)}"


def name_of(seen: Object) -> str:
    """<namespace>/<name>."""
    return f"{seen['metadata']['namespace']}/{seen['metadata']['name']}"


def _any(status: ExperimentStatus) -> bool:
    return True


def _in(*phases: Phase) -> Callable[[ExperimentStatus], bool]:
    return lambda status: status.phase in phases


def _set(field: str, value: object) -> Patch:
    return [{"op": "add", "path": f"/spec/{field}", "value": value}]


def _refuse_ended(seen: Object, what: str) -> None:
    phase = status_of(seen).phase
    if phase.ended:
        raise Refusal(f"{name_of(seen)}: has ended ({phase}), so that {what}")


def pause(seen: Object, _: str | None = None) -> Order:
    """Keep the split, and decide nothing."""
    _refuse_ended(seen, "there is nothing to pause")
    patch = () if seen["spec"].get("paused") else _set("paused", True)
    return Order(patch, "spec.paused true", _in(Phase.PAUSED, Phase.PENDING))


def resume(seen: Object, _: str | None = None) -> Order:
    """Go on where a pause began."""
    _refuse_ended(seen, "it can't be resumed; set spec.stop to false to begin again, or delete it")
    status = status_of(seen)
    if not seen["spec"].get("paused"):
        if status.phase is Phase.PAUSED:
            late = status.condition("GuardrailsHealthy")
            why = f": {late.message}" if late else ""
            raise Refusal(
                f"{name_of(seen)}: is paused by analysis.onGuardrailTimeout, and goes on by itself "
                f"once its guardrails have data{why}"
            )
        raise Refusal(f"{name_of(seen)}: is not paused ({status.phase})")
    going = _in(Phase.SHADOWING, Phase.RUNNING, Phase.ROLLING_OUT, Phase.PENDING)
    return Order(
        _set("paused", False),
        "spec.paused false",
        # It may go on to its end at once.
        lambda status: going(status) or status.phase.ended,
    )


def stop(seen: Object, _: str | None = None) -> Order:
    """End it; the champion gets everything."""
    status = status_of(seen)
    if status.phase.ended and status.phase is not Phase.STOPPED:
        raise Refusal(
            f"{name_of(seen)}: has ended already ({status.phase}; "
            f"{format_split(status.routed_split)}); delete it to put the route back"
        )
    patch = () if seen["spec"].get("stop") else _set("stop", True)
    return Order(
        patch, "spec.stop true", lambda status: status.phase.ended or status.phase is Phase.PENDING
    )


def promote(seen: Object, to: str | None = None) -> Order:
    """Roll a challenger out, whatever the verdict says."""
    _refuse_ended(seen, "nothing can be rolled out; apply it anew for that")
    status = status_of(seen)
    version = _challenger(seen, status, to)
    rollout = seen["spec"].get("rollout", {})

    def done(status: ExperimentStatus) -> bool:
        under_way = status.rollout is not None and status.rollout.model_version == version
        waits = status.phase in (Phase.PAUSED, Phase.PENDING, Phase.SHADOWING)
        return under_way or waits or status.phase is Phase.SUCCEEDED

    says = f"spec.rollout.promote {version}"
    if rollout.get("promote") != version:
        new = _set("rollout/promote", version) if rollout else _set("rollout", {"promote": version})
        return Order(new, says, done)
    spent = status.memory.promoted == version and status.rollout is None
    out = [{"op": "remove", "path": "/spec/rollout/promote"}] if spent else []
    return Order((), says, done, first=out)


def _challenger(seen: Object, status: ExperimentStatus, to: str | None) -> str:
    try:
        spec = parse_experiment(seen).spec
    except ManifestError as error:
        raise InputError(f"{name_of(seen)}: {error}") from None
    challengers = ", ".join(spec.challengers)
    if to is not None:
        if to not in spec.challengers:
            raise InputError(f"--to: must be one of the challengers ({challengers}), got {to}")
        return to
    if len(spec.challengers) == 1:
        return spec.challengers[0]
    leader = decision.outcome(spec, status.analysis).leader
    if status.verdict is Verdict.CHALLENGER_BETTER and leader:
        return leader
    raise Refusal(
        f"{name_of(seen)}: has several challengers and no verdict: name one by --to ({challengers})"
    )


_COMMANDS: dict[str, tuple[Callable[[Object, str | None], Order], str]] = {
    "pause": (pause, "keep the split as it is and decide nothing; guardrails stay on"),
    "resume": (resume, "go on where the pause began"),
    "stop": (stop, "end an experiment: the champion gets everything"),
    "promote": (promote, "roll a challenger out now, whatever the verdict says"),
}
