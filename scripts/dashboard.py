"""The Grafana dashboard of the chart, as JSON.

Three rows: all experiments, the one that is chosen, and the operator itself. Written here and not
in Grafana, so that a changed metric's name is changed in one place, and a diff can be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from panels import SOURCE, Json, laid_out, lines, override, states, table

_OF_JOB = 'job=~"$job"'
_IN = f'{_OF_JOB}, namespace=~"$namespace"'
_ONE = f'{_OF_JOB}, namespace=~"$namespace", experiment=~"$experiment"'
_EFFECT = f'{_ONE}, metric=~"$metric", model_version=~"$challenger"'
_GUARDRAIL = "namespace, experiment, guardrail, model_version"
_ARM = "metric, model_version"
_EXPERIMENT = "namespace, experiment"
_CHALLENGER = f"{_EXPERIMENT}, model_version"
_ROLLED_BACK = f'{_ONE}, phase="RolledBack"'
_PASS = f'{_ONE}, state="Pass"'
_BREACH = f'{_ONE}, state="Breach"'


def render_dashboard() -> str:
    """Give the dashboard's JSON."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _dashboard() -> Json:
    rows = [
        ("Experiments", _experiments()),
        ("Experiment $namespace/$experiment", _experiment()),
        ("Operator", _operator()),
    ]
    return {
        "uid": "modelexperiment",
        "title": "ModelExperiment",
        "description": "A/B tests between model versions, and the operator that runs them.",
        "tags": ["modelexperiment"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_rollbacks_as_annotations()]},
        "panels": list(laid_out(rows)),
    }


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    yield _variable("job", "modelexperiment_leader", "job", several=True)
    yield _variable("namespace", f"modelexperiment_phase{{{_OF_JOB}}}", "namespace", several=True)
    yield _variable("experiment", f"modelexperiment_phase{{{_IN}}}", "experiment")
    yield _variable("metric", f"modelexperiment_p_value{{{_ONE}}}", "metric")
    of_metric = f'{_ONE}, metric=~"$metric"'
    yield _variable("challenger", f"modelexperiment_p_value{{{of_metric}}}", "model_version")


def _variable(name: str, series: str, label: str, *, several: bool = False) -> Json:
    query = f"label_values({series}, {label})"
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        **({"current": {"text": "All", "value": "$__all"}} if several else {}),
    }


def _rollbacks_as_annotations() -> Json:
    return {
        "name": "Rolled back",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": _best("phase", _EXPERIMENT, _ROLLED_BACK),
        "titleFormat": "{{namespace}}/{{experiment}} is rolled back",
    }


def _experiments() -> Iterator[Json]:
    breach = f'{_IN}, state="Breach"'
    primary = f'{_IN}, role="Primary"'
    columns = {
        "Phase": _best("phase", f"{_EXPERIMENT}, phase", _IN),
        "Verdict": _best("verdict", f"{_EXPERIMENT}, verdict", _IN),
        "Lift": _best("relative_effect_ratio", _CHALLENGER, primary),
        "Lower": _best("relative_effect_lower_ratio", _CHALLENGER, primary),
        "Upper": _best("relative_effect_upper_ratio", _CHALLENGER, primary),
        "P-value": _best("p_value", _CHALLENGER, primary),
        "Breaches": f"sum by ({_EXPERIMENT}) (modelexperiment_guardrail_state{{{breach}}})",
    }
    yield table("All experiments", columns)
    yield lines(
        "Experiments by phase",
        {"{{phase}}": f"sum by (phase) (modelexperiment_experiments{{{_OF_JOB}}})"},
        width=8,
        stacked=True,
    )


def _experiment() -> Iterator[Json]:
    effect = {
        name: f"max(modelexperiment_relative_effect{bound}_ratio{{{_EFFECT}}})"
        for name, bound in (("lift", ""), ("lower", "_lower"), ("upper", "_upper"))
    }
    lift = lines("Lift of $challenger on $metric, with its interval", effect, unit="percentunit")
    lift["description"] = (
        "The interval holds at every look: where it leaves 0 out, there is an effect."
    )
    lift["fieldConfig"]["overrides"] = [
        override("upper", fillBelowTo="lower", fillOpacity=15, lineWidth=1),
        override("lower", lineWidth=1),
        override("lift", lineWidth=3),
    ]
    yield lift
    yield lines(
        "Split, as it is routed",
        {"{{model_version}}": _best("split_ratio", "model_version", _ONE)},
        unit="percentunit",
        stacked=True,
    )
    yield lines(
        "Samples",
        {"{{metric}} {{model_version}}": _best("samples", _ARM, _ONE)},
    )
    yield lines(
        "p-value of $challenger on $metric",
        {
            "p-value": f"max(modelexperiment_p_value{{{_EFFECT}}})",
            "corrected": f"max(modelexperiment_corrected_p_value{{{_EFFECT}}})",
        },
        logarithmic=True,
    )
    name = "{{guardrail}} {{model_version}}"
    yield lines(
        "Guardrails: value against limit",
        {
            name: _best("guardrail_value", _GUARDRAIL, _ONE),
            f"{name} limit": _best("guardrail_limit", _GUARDRAIL, _ONE),
        },
        dashed=".* limit",
    )
    state = " + 2 * ".join(
        _best("guardrail_state", _GUARDRAIL, selector) for selector in (_PASS, _BREACH)
    )
    texts = {0: ("InsufficientData", "yellow"), 1: ("Pass", "green"), 2: ("Breach", "red")}
    yield states("Guardrails: state", state, name, texts)
    yield lines(
        "Sample ratio: shares that were to be expected, and observed",
        {
            "{{model_version}} expected": _best(
                "sample_share_expected_ratio", "model_version", _ONE
            ),
            "{{model_version}} observed": _best(
                "sample_share_observed_ratio", "model_version", _ONE
            ),
        },
        unit="percentunit",
        dashed=".* expected",
    )
    yield lines(
        "Sample ratio: p-value",
        {"p-value": f"max(modelexperiment_sample_ratio_p_value{{{_ONE}}})"},
        logarithmic=True,
    )


def _operator() -> Iterator[Json]:
    yield lines(
        "Pods that work, and that can be scraped",
        {
            "leading": f"sum(modelexperiment_leader{{{_OF_JOB}}})",
            "up": f"sum(up{{{_OF_JOB}}})",
        },
        width=8,
    )
    yield lines(
        "Rollbacks",
        {
            "rollbacks": "sum(increase("
            f"modelexperiment_rollbacks_total{{{_OF_JOB}}}[$__rate_interval]))"
        },
        width=8,
    )
    yield lines(
        "Rollback: seconds from the poll that saw the breach to the written route, all time",
        {
            "p99": _quantile(0.99, "rollback_seconds", rate=False),
            "median": _quantile(0.5, "rollback_seconds", rate=False),
        },
        unit="s",
        width=8,
    )
    yield lines(
        "Polls and reconciles, 99 %",
        {
            "poll": _quantile(0.99, "poll_seconds"),
            "after it was due": _quantile(0.99, "poll_lag_seconds"),
            "reconcile": _quantile(0.99, "reconcile_seconds"),
            "query to Prometheus": _quantile(0.99, "prometheus_query_seconds"),
        },
        unit="s",
        width=8,
    )
    yield lines(
        "Failures a second",
        {
            "reconcile {{reason}}": _rate("errors_total", "reason"),
            "API server {{kind}}": _rate("api_errors_total", "kind"),
            "Prometheus {{kind}}": _rate("prometheus_errors_total", "kind"),
        },
        unit="cps",
        width=8,
    )
    yield lines(
        "Writes a second",
        {
            "status": _rate("status_writes_total"),
            "route {{result}}": _rate("route_writes_total", "result"),
        },
        unit="wps",
        width=8,
    )
    yield lines(
        "How far the count is behind",
        {
            "{{namespace}}/{{experiment}}": "max by (namespace, experiment) "
            f"(time() - modelexperiment_counted_until_timestamp_seconds{{{_IN}}})"
        },
        unit="s",
        width=8,
    )
    yield lines(
        "CPU",
        {"{{instance}}": f"rate(process_cpu_seconds_total{{{_OF_JOB}}}[$__rate_interval])"},
        unit="short",
        width=8,
    )
    yield lines(
        "Memory",
        {"{{instance}}": f"process_resident_memory_bytes{{{_OF_JOB}}}"},
        unit="bytes",
        width=8,
    )


def _best(series: str, by: str, selector: str) -> str:
    """Of two pods that lead by turns, what either says."""
    return f"max by ({by}) (modelexperiment_{series}{{{selector}}})"


def _rate(counter: str, label: str = "") -> str:
    by = f" by ({label})" if label else ""
    return f"sum{by} (rate(modelexperiment_{counter}{{{_OF_JOB}}}[$__rate_interval]))"


def _quantile(quantile: float, histogram: str, *, rate: bool = True) -> str:
    buckets = f"modelexperiment_{histogram}_bucket{{{_OF_JOB}}}"
    buckets = f"rate({buckets}[$__rate_interval])" if rate else buckets
    return f"histogram_quantile({quantile}, sum by (le) ({buckets}))"
