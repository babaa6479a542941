"""`modelexperiment replay`: the status that the operator would have written for recorded polls.

It is the operator's own decision, fed from a file: the same snapshots, the same `decide`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from modelexperiment.commands.files import read_experiment
from modelexperiment.commands.polls import Poll, first_start, read_polls
from modelexperiment.commands.progress import Progress
from modelexperiment.core import plan as planning
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.rollout import all_to
from modelexperiment.core.snapshot import Counted, RouteSeen, Snapshot
from modelexperiment.core.status import ExperimentStatus


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "replay", help="the status that the operator would have written for recorded polls"
    )
    parser.add_argument("-f", "--file", required=True, help="the manifest; - for standard input")
    parser.add_argument("--data", required=True, help="the polls, as CSV")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status; of a file with many experiments, the status of each."""
    experiment = read_experiment(arguments.file)
    if experiment.spec.guardrails:
        print("guardrails are not in the data and are not replayed", file=sys.stderr)
    experiments = read_polls(arguments.data, experiment.spec)
    many = list(experiments) != [""]
    with Progress(len(experiments), "experiments") as progress:
        for name, polls in experiments.items():
            status = replay(experiment, polls).dump()
            _show({"experiment": name, "status": status} if many else status, arguments.output)
            progress.step()
    return 0


def _show(document: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(document))
    else:
        print("---")
        print(yaml.safe_dump(document, sort_keys=False, width=100), end="")


def replay(experiment: Experiment, polls: Sequence[Poll]) -> ExperimentStatus:
    """The status after these polls, which are in the order of time.

    Guardrails are left out: their readings are not among the polls.
    """
    spec = experiment.spec.model_copy(update={"guardrails": []})
    judged = Experiment(experiment.namespace, experiment.name, spec)
    start = first_start(list(polls), spec.analysis.interval)
    route = RouteSeen(all_to(spec, spec.champion_version), {"route": []})
    status, since = ExperimentStatus(), start
    seen = [Counted(start, start, {}), *(None for _ in polls)]
    for index, poll in enumerate([None, *polls]):
        counted = seen[index] or (poll.counted(since) if poll else None)
        assert counted is not None
        snapshot = Snapshot(now=counted.until, generation=1, route=route, counted=counted)
        plan = planning.decide(judged, status, snapshot)
        if plan.split is not None:
            plan = planning.routed(plan, snapshot)
            route = RouteSeen(plan.split, route.destinations)
        status, since = plan.status, counted.until
        if status.phase.ended:
            break
    return status
