"""`modelexperiment simulate`: how often just this experiment is wrong, right, and how soon."""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelexperiment.commands.files import InputError, baseline_of, read_experiment
from modelexperiment.commands.progress import Progress
from modelexperiment.core import stats
from modelexperiment.core.analysis import settings_for
from modelexperiment.core.measures import kind_of
from modelexperiment.core.spec import ExperimentSpec, Goal
from modelexperiment.core.stats.simulation import Simulation, Traffic, Truth, simulate


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "simulate", help="false positives, power and duration of just this experiment"
    )
    parser.add_argument("-f", "--file", required=True, help="the manifest; - for standard input")
    parser.add_argument(
        "--effect",
        type=float,
        default=0.0,
        help="what is really there, in percent of the champion's value; 0: nothing (default)",
    )
    parser.add_argument("--runs", type=int, default=10_000, help="experiments; default 10,000")
    parser.add_argument("--looks", type=int, default=1_000, help="polls of each; default 1,000")
    parser.add_argument(
        "--samples", type=int, default=100, help="samples of both arms per poll; default 100"
    )
    parser.add_argument("--baseline", type=float, help="the champion's value; default: the spec's")
    parser.add_argument("--stddev", type=float, default=1.0, help="of a mean's single sample")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other draws; default 0")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what came out."""
    spec = read_experiment(arguments.file).spec
    baseline = baseline_of(spec, arguments.baseline, "to simulate")
    challenger = baseline * (1 + arguments.effect / 100)
    if kind_of(spec.primary) in ("proportion", "quantile") and not 0 < challenger < 1:
        raise InputError(
            f"--effect: {arguments.effect:g} % of {baseline:g} is {challenger:g}, no proportion"
        )
    try:
        found = _simulate(spec, Truth(baseline, challenger, arguments.stddev), arguments)
    except InputError:
        raise
    except ValueError as why:
        raise InputError(f"simulate: {why}") from None
    print(_json(found) if arguments.output == "json" else _text(spec, found, arguments))
    return 0


def _simulate(spec: ExperimentSpec, truth: Truth, arguments: argparse.Namespace) -> Simulation:
    first = spec.challengers[0]
    champion, share = spec.split[spec.champion_version], spec.split[first]
    if not champion or not share:
        raise InputError("spec.traffic: an arm with 0 percent can't be simulated")
    settings = settings_for(spec, spec.primary, first)
    if settings.unit is stats.Unit.USER:
        raise InputError(
            "spec.assignment: users are the unit, whose spread is not known; set "
            "spec.analysis.unit to Request to simulate independent requests"
        )
    traffic = Traffic(arguments.samples, arguments.looks, share / (champion + share))
    with Progress(arguments.runs, "experiments") as progress:
        return simulate(
            settings,
            truth,
            traffic,
            runs=arguments.runs,
            seed=arguments.seed,
            progress=progress.reach,
        )


def _json(found: Simulation) -> str:
    return json.dumps(
        {
            "runs": found.runs,
            "significant": found.rejections,
            "wrongDirection": found.wrong_direction,
            "rate": found.rate,
            "lower": found.lower,
            "upper": found.upper,
            "meanLooks": found.mean_looks,
            "medianLooks": found.median_looks,
        }
    )


def _text(spec: ExperimentSpec, found: Simulation, arguments: argparse.Namespace) -> str:
    name = "false positives" if arguments.effect == 0 else "power"
    median = (
        f"half are decided by look {found.median_looks:,.0f}"
        if found.median_looks is not None
        else "fewer than half are decided"
    )
    direction = "increase" if spec.primary.goal is Goal.INCREASE else "decrease"
    return (
        f"{found.runs:,} experiments of {arguments.looks:,} looks at {arguments.samples:,} "
        f"samples, real effect {arguments.effect:g} %, goal {direction}\n"
        f"{name}: {100 * found.rate:.2f} % "
        f"(95 % interval {100 * found.lower:.2f} % to {100 * found.upper:.2f} %), "
        f"{found.wrong_direction:,} of {found.rejections:,} in the wrong direction\n"
        f"looks: {found.mean_looks:,.0f} on average; {median}"
    )
