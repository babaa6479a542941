"""`modelexperiment replay`: the status that the operator would have written for recorded polls.

It is the operator's own decision, fed from a file: the same snapshots, the same `decide`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from typing import Any

import yaml

from modelexperiment.commands.files import InputError, read_experiment
from modelexperiment.commands.polls import Poll, parse_time, read_polls
from modelexperiment.commands.progress import Progress
from modelexperiment.core import plan as planning
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.rollout import all_to
from modelexperiment.core.snapshot import Counted, RouteSeen, Snapshot
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.support import unsupported

# Another process takes a second to start.
_WORTH_A_POOL = 20


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "replay", help="the status that the operator would have written for recorded polls"
    )
    parser.add_argument("-f", "--file", required=True, help="the manifest; - for standard input")
    parser.add_argument("--data", required=True, help="the polls, as CSV")
    parser.add_argument(
        "--start",
        help="when the experiment began, as in the data; default: one interval before its polls",
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status; of a file with many experiments, the status of each."""
    experiment = read_experiment(arguments.file)
    _check(experiment)
    if experiment.spec.guardrails:
        print("guardrails are not in the data and are not replayed", file=sys.stderr)
    if experiment.spec.shadow:
        print("a shadow is not in the data and is not replayed", file=sys.stderr)
    start = _start(arguments.start) if arguments.start else None
    experiments = read_polls(arguments.data, experiment.spec)
    many = list(experiments) != [""]
    with Progress(len(experiments), "experiments") as progress:
        for name, status in _replay_all(experiment, experiments, start):
            _show({"experiment": name, "status": status} if many else status, arguments.output)
            progress.step()
    return 0


def _replay_all(
    experiment: Experiment, experiments: Mapping[str, Sequence[Poll]], start: datetime | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The status of each, in the order of the file; where they are many, on all cores."""
    one = partial(_dumped, experiment, start)
    if len(experiments) < _WORTH_A_POOL:
        yield from zip(experiments, map(one, experiments.values()), strict=True)
        return
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = pool.map(one, experiments.values(), chunksize=4)
        yield from zip(experiments, found, strict=True)


def _dumped(
    experiment: Experiment, start: datetime | None, polls: Sequence[Poll]
) -> dict[str, Any]:
    return replay(experiment, polls, start).dump()


def _check(experiment: Experiment) -> None:
    """Raise InputError where the analysis can't be made."""
    problem = unsupported(experiment.spec)
    if problem:
        raise InputError(problem.message)


def _start(text: str) -> datetime:
    found = parse_time(text)
    if found is None:
        raise InputError(f"--start: must be RFC 3339 or seconds since 1970, got {text}")
    return found


def _show(document: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(document))
    else:
        print("---")
        print(yaml.safe_dump(document, sort_keys=False, width=100), end="")


def replay(
    experiment: Experiment, polls: Sequence[Poll], start: datetime | None = None
) -> ExperimentStatus:
    """The status after these polls, which are in the order of time.

    Guardrails and a shadow are left out: what is read of them is not among the polls. `start` is
    when traffic was first split, by default one interval before the first poll.
    """
    spec = experiment.spec.model_copy(update={"guardrails": [], "shadow": None})
    judged = Experiment(experiment.namespace, experiment.name, spec)
    began = start or polls[0].time - spec.analysis.interval
    if polls[0].time < began:
        raise InputError(f"--start: must not be after the first poll, got {began.isoformat()}")
    route = RouteSeen(all_to(spec, spec.champion_version), {"route": []})
    status, since = ExperimentStatus(), began
    for poll in (Poll(began), *polls):
        counted = poll.counted(since)
        if poll.time <= began + spec.analysis.washout:
            # As the operator does, the time moves on and nothing is counted.
            counted = Counted(since, poll.time, {})
        snapshot = Snapshot(now=counted.until, generation=1, route=route, counted=counted)
        plan = planning.decide(judged, status, snapshot)
        # Nothing keeps a replay from starting.
        assert plan.split is not None
        plan = planning.routed(plan, snapshot)
        route = RouteSeen(plan.split, route.destinations)
        status, since = plan.status, counted.until
        if status.phase.ended:
            break
    return status
