"""docs/metrics.md: the operator's own metrics, from its registry."""

from __future__ import annotations

from collections.abc import Iterator

from modelexperiment.adapters.experiment_series import FAMILIES, most_series
from modelexperiment.adapters.telemetry import Telemetry

_HEADER = """\
# The operator's own metrics

<!-- Generated from adapters/{telemetry,experiment_series}.py by scripts/generate.py. -->

At `/metrics` of each pod, port 8080 (`metrics.port` of the chart). The chart makes the Service, and
where asked to a ServiceMonitor (`metrics.serviceMonitor`), alerts (`metrics.prometheusRule`) and a
Grafana dashboard (`metrics.dashboard`). Units are base units: seconds, and ratios in place of
percents.

Without the ServiceMonitor, scrape **with `honor_labels: true`**: `namespace` is the experiment's,
and Prometheus would rename it to `exported_namespace` where it puts a label `namespace` on its
targets.
"""

_EXPERIMENTS = """\
## What experiments say

Read off the status, so the lines on a dashboard go on after a restart of the operator as soon as it
leads, before its first poll. Only the leader has them; the series of a deleted experiment vanish
with it. A verdict, a phase, a condition is 1 for what it is, and the others are absent. How far
counting is behind is `time() - modelexperiment_counted_until_timestamp_seconds`.

All have the labels `namespace` and `experiment`. An experiment has at most
`20 + 3 V + M (2 V + 9 C) + 6 G C` series, with V versions, C = V - 1 challengers, M metrics and G
guardrails: {least} for two versions, one metric and one guardrail, {usual} for two versions, three
metrics and three guardrails. Segments are not exported: they are in the status.
"""

_PROCESS = """\
## What the process does

Of every pod, followers as well: theirs stand still. Beside these there are Python's usual
`process_*` and `python_*`. Their number does not depend on the experiments.
"""


def render_metrics() -> str:
    """Give the page."""
    texts = {"least": most_series(2, 1, 1), "usual": most_series(2, 3, 3)}
    parts = [_HEADER, _EXPERIMENTS.format(**texts)]
    parts.append(_table(["metric", "labels", "meaning"], _experiment_rows()))
    parts += [_PROCESS, _table(["metric", "type", "labels", "meaning"], _process_rows())]
    return "\n".join(parts)


def _experiment_rows() -> Iterator[list[str]]:
    for family in FAMILIES:
        yield [f"`{family.name}`", _labels(family.labels), family.help]


def _process_rows() -> Iterator[list[str]]:
    telemetry = Telemetry()
    telemetry.lead()
    for family in telemetry.registry.collect():
        if not family.name.startswith("modelexperiment_"):
            continue
        suffix = "_total" if family.type == "counter" else ""
        values: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
        values.pop("le", None)
        shown = ", ".join(
            f"`{label}`" + ("" if label == "version" else f": {', '.join(sorted(found))}")
            for label, found in values.items()
        )
        yield [f"`{family.name}{suffix}`", family.type, shown, family.documentation]


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: list[str], rows: Iterator[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
