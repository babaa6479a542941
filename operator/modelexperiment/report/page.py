"""Puts the page together: what each section shows, and the template that it is written with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from modelexperiment.core import history, novelty
from modelexperiment.core.conditions import ConditionType
from modelexperiment.core.crd import GROUP, KIND, VERSION
from modelexperiment.core.entries import MetricAnalysis
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.rollout import format_split
from modelexperiment.core.sample_ratio import ALPHA
from modelexperiment.core.status import Condition, ConditionStatus, ExperimentStatus, Verdict
from modelexperiment.report import figures, words

Pairs = list[tuple[str, str]]


def page(
    experiment: Experiment, status: ExperimentStatus, versions: Mapping[str, str] | None = None
) -> str:
    """The whole page as HTML.

    Args:
        experiment: whose report it is.
        status: all that is known of it.
        versions: of the programs that made the page, by name.
    """
    spec = experiment.spec
    line = figures.Timeline(spec, history.up_to_now(status))
    entries = words.primaries(status)
    shown = {
        "experiment": experiment,
        "spec": spec,
        "status": status,
        "headline": words.headline(spec, status),
        "sentences": [words.in_a_sentence(spec, entry) for entry in entries],
        "tiles": _tiles(experiment, status),
        "metrics": [_metric_row(entry) for entry in status.analysis],
        "troubles": [c for c in status.conditions if _is_trouble(c)],
        "guardrails": [_guardrail_row(g) for g in status.guardrails],
        "ratio_alpha": ALPHA,
        "moved": words.users_moved(spec, line.shares) if line.history.seconds else "",
        "table": _table(line),
        "settings": _settings(experiment, status),
        "manifest": _manifest(experiment),
        "versions": dict(versions or {}),
        "words": words,
        **_drawings(line, entries, status),
    }
    return _template().render(shown)


def _is_trouble(found: Condition) -> bool:
    """Whether a condition says anything beside that the experiment goes on."""
    goes_on = found.type == ConditionType.COMPLETE or found.reason in (
        Verdict.INCONCLUSIVE,
        "NoVerdictYet",
    )
    return found.status is not ConditionStatus.TRUE and not goes_on


@cache
def _template() -> Template:
    loader = PackageLoader("modelexperiment", "report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _drawings(
    line: figures.Timeline, entries: Sequence[MetricAnalysis], status: ExperimentStatus
) -> dict[str, Any]:
    """The drawings that there is something to draw for."""
    many = len(line.history.seconds) > 1
    known = [e for e in entries if any(v is not None for v in _lower(line, e))]
    forests: list[Markup] = []
    for entry in (e for e in entries if e.segments):
        relative = line.relative and entry.relative is not None
        forests.append(figures.forest(line, entry, relative))
    return {
        "effect": figures.effect_over_time(line, known) if many and known else None,
        "split": figures.split_over_time(line) if many else None,
        "guardrail_drawing": figures.guardrails_over_time(line, status) if many else None,
        "forests": forests,
        "heterogeneity": list(_heterogeneity(entries)),
        "novelty": [words.novelty(e.model_version, e.novelty) for e in entries if e.novelty],
        "block": novelty.block_name(line.spec),
    }


def _lower(line: figures.Timeline, entry: MetricAnalysis) -> figures.Series:
    return line.series(f"{entry.model_version}/lower")


def _heterogeneity(entries: Iterable[MetricAnalysis]) -> Iterable[str]:
    for entry in entries:
        for segment in entry.segments:
            found = segment.heterogeneity
            if found:
                yield (
                    f"{entry.model_version} by {segment.name}: Cochran's Q {found.statistic:.3g} "
                    f"with {found.degrees} degrees of freedom, {words.p_is(found.p_value)}"
                )


def _tiles(experiment: Experiment, status: ExperimentStatus) -> Pairs:
    """The figures that stand beside the decision."""
    spec = experiment.spec
    best = words.leader(spec, status)
    tiles = [("Split now", format_split(status.routed_split) or "not split yet")]
    if best:
        found, relative = words.effect_of(best)
        assert found is not None
        tiles = [
            (f"Effect of {best.model_version}", words.size(found.effect, relative)),
            (f"{words.level(spec)} interval", words.reach(found, relative)),
            ("p-value, corrected", words.p_value(best.corrected_p_value)),
            ("Samples", f"{best.champion.samples:,.0f} / {best.challenger.samples:,.0f}"),
            *tiles,
        ]
    tiles.append(("Counted for", words.lasted(status)))
    if status.summary.eta and not status.phase.ended:
        tiles.append(("Planned size in", status.summary.eta.lstrip("~")))
    return tiles


def _metric_row(entry: MetricAnalysis) -> dict[str, Any]:
    found, relative = words.effect_of(entry)
    return {
        "metric": entry.metric,
        "role": str(entry.role),
        "version": entry.model_version,
        "champion": words.number(entry.champion.estimate),
        "challenger": words.number(entry.challenger.estimate),
        "samples": f"{entry.champion.samples:,.0f} / {entry.challenger.samples:,.0f}",
        "effect": words.size(found.effect if found else None, relative),
        "interval": words.reach(found, relative),
        "p": words.p_value(entry.p_value),
        "corrected": words.p_value(entry.corrected_p_value),
        "significant": "yes" if entry.significant else "no",
        "withheld": entry.withheld,
    }


def _guardrail_row(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.model_version,
        "state": str(found.state),
        "tone": {"Pass": "good", "Breach": "bad"}.get(found.state, "warn"),
        "value": words.number(found.value),
        "limit": words.number(found.limit),
        "since": words.moment(found.last_change),
        "message": found.message or "",
    }


def _table(line: figures.Timeline) -> dict[str, Any]:
    """The history as numbers, for who can't see drawings or wants to compute."""
    names = list(line.history.values)
    rows = [
        [f"{second:g}", *(words.number(line.history.values[name][i]) for name in names)]
        for i, second in enumerate(line.history.seconds)
    ]
    return {"names": ["seconds", *names], "rows": rows}


def _settings(experiment: Experiment, status: ExperimentStatus) -> Pairs:
    spec, analysis = experiment.spec, experiment.spec.analysis
    methods = dict.fromkeys(f"{e.metric}: {e.method}" for e in status.analysis)
    return [
        ("Started", words.moment(status.start_time)),
        ("Counted until", words.moment(status.counted_until)),
        ("Ended", words.moment(status.end_time)),
        ("Unit", f"{spec.unit}"),
        ("Method", "; ".join(methods) or f"{analysis.method}"),
        (
            "Error rate",
            f"alpha = {analysis.alpha:g}, two-sided, over all challengers and looks; "
            f"correction {analysis.correction}; power {analysis.power:g}",
        ),
        ("Salt of the assignment", experiment.salt if spec.assignment else "none: at random"),
        ("Generation of the spec", f"{status.observed_generation or '–'}"),
        ("Definition of the primary metric", status.history.of if status.history else "–"),
    ]


def _manifest(experiment: Experiment) -> str:
    document = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": experiment.name, "namespace": experiment.namespace},
        "spec": experiment.spec.dump(),
    }
    return yaml.safe_dump(document, sort_keys=False, width=90)
