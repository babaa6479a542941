"""`modelexperiment plan`: how many samples an experiment needs, and how long that takes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelexperiment.commands.files import InputError, baseline_of, read_experiment
from modelexperiment.core import planning
from modelexperiment.core.analysis import margin_of
from modelexperiment.core.measures import kind_of
from modelexperiment.core.spec import Effect, ExperimentSpec

# Multiples of minimumEffect that the table shows, so that one sees what a smaller one would cost.
_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan", help="samples and days that an experiment needs, for a range of effects"
    )
    parser.add_argument("-f", "--file", required=True, help="the manifest; - for standard input")
    parser.add_argument("--baseline", type=float, help="the champion's value; default: the spec's")
    parser.add_argument("--stddev", type=float, help="a mean's standard deviation per sample")
    parser.add_argument("--per-day", type=float, help="samples a day of all versions together")
    parser.add_argument(
        "--design-effect",
        type=float,
        default=1.0,
        help="by how much requests of the same user count less than independent ones; default 1",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    spec = read_experiment(arguments.file).spec
    baseline = baseline_of(spec, arguments.baseline, "for a plan")
    if spec.primary.minimum_effect is None:
        raise InputError(f"spec.metrics[{spec.primary.name}].minimumEffect: is needed for a plan")
    for name in ("per_day", "design_effect"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')}: must be above 0, got {value:g}")
    try:
        plan = build(spec, baseline, arguments)
    except InputError:
        raise
    except ValueError as why:
        raise InputError(f"spec.metrics[{spec.primary.name}]: {why}") from None
    print(json.dumps(plan) if arguments.output == "json" else table(spec, plan))
    return 0


def build(spec: ExperimentSpec, baseline: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """The plan as it is printed with `-o json`."""
    smallest = spec.primary.minimum_effect
    assert smallest is not None
    assumed = {
        "baseline": baseline,
        "alpha": spec.analysis.alpha,
        "power": spec.analysis.power,
        "method": str(spec.analysis.method),
        "designEffect": arguments.design_effect,
    }
    at_minimum = _sizes(spec, baseline, smallest, arguments)
    effects = [
        _line(spec, baseline, _scaled(smallest, scale), arguments)
        for scale in _SCALES
        if _possible(spec, baseline, _scaled(smallest, scale))
    ]
    return {**at_minimum, "assumed": assumed, "effects": effects}


def _scaled(effect: Effect, scale: float) -> Effect:
    if effect.relative is not None:
        return Effect(relative=effect.relative * scale)
    return Effect(absolute=(effect.absolute or 0.0) * scale)


def _possible(spec: ExperimentSpec, baseline: float, effect: Effect) -> bool:
    """Whether a proportion can get better by as much as that."""
    if kind_of(spec.primary) not in ("proportion", "quantile"):
        return True
    margin = margin_of(effect)
    assert margin is not None
    size = margin.of(baseline)
    return baseline + size < 1 if spec.primary.goal == "Increase" else baseline - size > 0


def _sizes(
    spec: ExperimentSpec, baseline: float, effect: Effect, arguments: argparse.Namespace
) -> dict[str, dict[str, int]]:
    """Samples by modelVersion: of a single look at the end, and of the spec's method."""
    single: dict[str, int] = {}
    planned: dict[str, int] = {}
    champion = spec.champion_version
    for challenger in spec.challengers:
        size = planning.needed_per_arm(
            spec,
            challenger,
            baseline,
            margin_of(effect),
            spread=arguments.stddev,
            design_effect=arguments.design_effect,
        )
        fixed = dict(zip((champion, challenger), size.fixed_horizon, strict=True))
        method = {champion: size.champion, challenger: size.challenger}
        for totals, found in ((single, fixed), (planned, method)):
            for version, number in found.items():
                totals[version] = max(totals.get(version, 0), number)
    return {"fixedHorizon": single, "planned": planned}


def _line(
    spec: ExperimentSpec, baseline: float, effect: Effect, arguments: argparse.Namespace
) -> dict[str, Any]:
    line = {**effect.dump(), **_sizes(spec, baseline, effect, arguments)}
    if arguments.per_day:
        line["days"] = round(_days(spec, line["planned"], arguments.per_day), 2)
    return line


def _days(spec: ExperimentSpec, planned: dict[str, int], per_day: float) -> float:
    """Until the arm that takes longest has its samples."""
    shares = {version: percent / 100 for version, percent in spec.split.items()}
    if not all(shares.values()):
        nothing = next(version for version, share in shares.items() if not share)
        raise InputError(f"spec.traffic[{nothing}].percent: an arm with 0 never has its samples")
    return max(number / (shares[version] * per_day) for version, number in planned.items())


def table(spec: ExperimentSpec, plan: dict[str, Any]) -> str:
    """The plan for people."""
    assumed, metric = plan["assumed"], spec.primary
    lines = [
        f"{metric.name}: baseline {assumed['baseline']:g}, alpha {assumed['alpha']:g}, "
        f"power {assumed['power']:g}, {assumed['method']}, "
        f"design effect {assumed['designEffect']:g}",
        "",
    ]
    versions = list(plan["planned"])
    days = any("days" in line for line in plan["effects"])
    header = ["effect", *(f"samples of {v}" for v in versions), *(["days"] if days else [])]
    rows = [header]
    for line in plan["effects"]:
        effect = f"{line['relative']:g} %" if "relative" in line else f"{line['absolute']:g}"
        row = [effect, *(f"{line['planned'][v]:,}" for v in versions)]
        rows.append([*row, *([f"{line['days']:.1f}"] if days else [])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines += ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    single = ", ".join(f"{v} {n:,}" for v, n in plan["fixedHorizon"].items())
    lines += ["", f"a single look at the end, for minimumEffect: {single}"]
    if assumed["designEffect"] == 1.0 and spec.unit == "User":
        lines.append(
            "assumed that a user's requests are independent; with a design effect seen, name it by "
            "--design-effect"
        )
    return "\n".join(lines)
