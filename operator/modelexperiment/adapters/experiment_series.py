"""What an experiment's status says, as Prometheus series: the history that dashboards draw.

The series are read off the status that was last written, so they are there again as soon as a
restarted operator has read the object. They exist only while this process leads and the experiment
exists: nobody goes on saying what is no longer looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelexperiment.core.entries import ArmEstimate, Interval, MetricAnalysis
from modelexperiment.core.status import ExperimentStatus, GuardrailState

PERCENT = 100.0


class Family(NamedTuple):
    """A gauge: its name without prefix, its help, and its labels beside namespace, experiment."""

    short: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name as it is exposed."""
        return f"modelexperiment_{self.short}"

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All of its labels."""
        return ("namespace", "experiment", *self.labels)


class Point(NamedTuple):
    """A value of one experiment."""

    family: Family
    labels: tuple[str, ...]
    value: float


_EFFECT = ("metric", "role", "model_version")
_ARM = ("metric", "model_version")
_GUARDRAIL = ("guardrail", "model_version")

PHASE = Family("phase", "1 for the phase that the experiment is in.", ("phase",))
VERDICT = Family("verdict", "1 for the verdict, once there is one.", ("verdict",))
DECISION = Family("decision", "1 for what is decided to be done.", ("action", "risk_level"))
CONDITION = Family(
    "condition", "1 for the status that each condition has now.", ("condition", "status")
)
START = Family("start_timestamp_seconds", "When traffic was first split, Unix time.")
COUNTED = Family(
    "counted_until_timestamp_seconds",
    "Samples up to this Unix time are counted; of experiments that count.",
)
SPLIT = Family("split_ratio", "Share of the requests as it is routed, 0 to 1.", ("model_version",))
EXPECTED = Family(
    "sample_share_expected_ratio",
    "Share of all samples that the split should have given a version, 0 to 1.",
    ("model_version",),
)
OBSERVED = Family(
    "sample_share_observed_ratio",
    "Share of all samples that a version has got, 0 to 1.",
    ("model_version",),
)
RATIO_P = Family("sample_ratio_p_value", "Anytime-valid p-value of the sample ratio check.")
MISMATCH = Family("sample_ratio_mismatch", "1 where a sample ratio mismatch freezes the verdict.")
SAMPLES = Family("samples", "Samples counted of a version.", _ARM)
ESTIMATE = Family("estimate", "The metric's value of a version, in the metric's own units.", _ARM)
RELATIVE = Family(
    "relative_effect_ratio", "Challenger against champion; 0.05 is 5 % above it.", _EFFECT
)
RELATIVE_LOWER = Family("relative_effect_lower_ratio", "Its interval's lower end.", _EFFECT)
RELATIVE_UPPER = Family("relative_effect_upper_ratio", "Its interval's upper end.", _EFFECT)
ABSOLUTE = Family(
    "absolute_effect", "Challenger minus champion, in the metric's own units.", _EFFECT
)
ABSOLUTE_LOWER = Family("absolute_effect_lower", "Its interval's lower end.", _EFFECT)
ABSOLUTE_UPPER = Family("absolute_effect_upper", "Its interval's upper end.", _EFFECT)
P_VALUE = Family("p_value", "Anytime-valid p-value of the effect.", _EFFECT)
CORRECTED = Family("corrected_p_value", "The same, corrected for the number of questions.", _EFFECT)
SIGNIFICANT = Family(
    "significant", "1 where the corrected p-value is at most the experiment's alpha.", _EFFECT
)
NEEDED = Family("samples_needed", "Samples per version that the plan asks for.")
ETA = Family("eta_timestamp_seconds", "When the planned samples will be there, Unix time.")
GUARDRAIL = Family(
    "guardrail_state", "1 for the state that a guardrail is in, 0 else.", (*_GUARDRAIL, "state")
)
GUARDRAIL_VALUE = Family("guardrail_value", "What a guardrail read last.", _GUARDRAIL)
GUARDRAIL_LIMIT = Family("guardrail_limit", "The bound that it was compared with.", _GUARDRAIL)
BREACHES = Family("guardrail_breaches", "Breaches of a guardrail in a row.", _GUARDRAIL)
SHADOW_DIVERGENCE = Family(
    "shadow_divergence_ratio",
    "Share of the shadow's compared predictions that disagree with the champion's, 0 to 1.",
    ("model_version",),
)
SHADOW_LOWER = Family(
    "shadow_divergence_lower_ratio", "Its lower bound, at every look.", ("model_version",)
)
SHADOW_UPPER = Family(
    "shadow_divergence_upper_ratio", "Its upper bound, at every look.", ("model_version",)
)
SHADOW_LIMIT = Family(
    "shadow_divergence_limit_ratio", "The divergence that is still accepted.", ("model_version",)
)

FAMILIES = tuple(found for found in list(vars().values()) if isinstance(found, Family))


def most_series(versions: int, metrics: int, guardrails: int) -> int:
    """How many series an experiment has at most, by what its manifest holds."""
    challengers = versions - 1
    of_metrics = metrics * (2 * versions + 9 * challengers)
    return 20 + 3 * versions + of_metrics + 6 * guardrails * challengers


def points(status: ExperimentStatus, champion: str) -> Iterator[Point]:
    """Give all that a status says in numbers; `champion` is the champion's modelVersion."""
    yield Point(PHASE, (status.phase.value,), 1)
    if status.verdict:
        yield Point(VERDICT, (status.verdict.value,), 1)
    if status.decision:
        decided = (status.decision.action.value, status.decision.risk_level.value)
        yield Point(DECISION, decided, 1)
    for condition in status.conditions:
        yield Point(CONDITION, (condition.type, condition.status.value), 1)
    yield from _time(START, status.start_time)
    if not status.phase.ended:
        yield from _time(COUNTED, status.counted_until)
    for arm in status.routed:
        yield Point(SPLIT, (arm.model_version,), arm.percent / PERCENT)
    yield from _sample_ratio(status)
    yield from _arms(status.analysis, champion)
    for entry in status.analysis:
        yield from _effect(entry)
    if status.plan:
        yield from _number(NEEDED, (), status.plan.samples_needed)
        yield from _time(ETA, status.plan.eta)
    yield from _guardrails(status)
    yield from _shadow(status)


def _time(family: Family, when: datetime | None) -> Iterator[Point]:
    if when is not None:
        yield Point(family, (), when.timestamp())


def _shadow(status: ExperimentStatus) -> Iterator[Point]:
    found = status.shadow
    if found is not None:
        labels = (found.model_version,)
        yield from _number(SHADOW_DIVERGENCE, labels, found.divergence)
        yield from _number(SHADOW_LOWER, labels, found.lower)
        yield from _number(SHADOW_UPPER, labels, found.upper)
        yield from _number(SHADOW_LIMIT, labels, found.limit)


def _number(family: Family, labels: tuple[str, ...], value: float | None) -> Iterator[Point]:
    if value is not None:
        yield Point(family, labels, value)


def _sample_ratio(status: ExperimentStatus) -> Iterator[Point]:
    ratio = status.sample_ratio
    if ratio is None:
        return
    for family, shares in ((EXPECTED, ratio.expected), (OBSERVED, ratio.observed)):
        for version, share in shares.items():
            yield Point(family, (version,), share)
    yield Point(RATIO_P, (), ratio.p_value)
    yield Point(MISMATCH, (), float(ratio.mismatch))


def _arms(entries: Iterable[MetricAnalysis], champion: str) -> Iterator[Point]:
    """Every version once by metric: the champion stands in the entry of each challenger."""
    arms: dict[tuple[str, str], ArmEstimate] = {}
    for entry in entries:
        arms.setdefault((entry.metric, champion), entry.champion)
        arms[entry.metric, entry.model_version] = entry.challenger
    for labels, arm in arms.items():
        yield Point(SAMPLES, labels, arm.samples)
        yield from _number(ESTIMATE, labels, arm.estimate)


def _effect(entry: MetricAnalysis) -> Iterator[Point]:
    labels = (entry.metric, str(entry.role), entry.model_version)
    yield from _interval(
        (RELATIVE, RELATIVE_LOWER, RELATIVE_UPPER), labels, entry.relative, PERCENT
    )
    yield from _interval((ABSOLUTE, ABSOLUTE_LOWER, ABSOLUTE_UPPER), labels, entry.absolute, 1.0)
    yield from _number(P_VALUE, labels, entry.p_value)
    yield from _number(CORRECTED, labels, entry.corrected_p_value)
    yield Point(SIGNIFICANT, labels, float(entry.significant))


def _interval(
    families: tuple[Family, Family, Family],
    labels: tuple[str, ...],
    interval: Interval | None,
    unit: float,
) -> Iterator[Point]:
    if interval is None:
        return
    ends = (interval.effect, interval.lower, interval.upper)
    for family, value in zip(families, ends, strict=True):
        yield Point(family, labels, value / unit)


def _guardrails(status: ExperimentStatus) -> Iterator[Point]:
    for guardrail in status.guardrails:
        labels = (guardrail.name, guardrail.model_version)
        for state in GuardrailState:
            yield Point(GUARDRAIL, (*labels, state.value), float(state is guardrail.state))
        yield from _number(GUARDRAIL_VALUE, labels, guardrail.value)
        yield from _number(GUARDRAIL_LIMIT, labels, guardrail.limit)
        yield Point(BREACHES, labels, guardrail.breaches)


class ExperimentCollector(Collector):
    """Exposes what was put in, for as long as it is not dropped.

    Scrapes come from another thread: every experiment's points are replaced as a whole.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], tuple[Point, ...]] = {}

    def put(self, key: tuple[str, str], found: Iterable[Point]) -> None:
        """Take the points of an experiment, (namespace, name), in place of those before."""
        self._points[key] = tuple(found)

    def drop(self, key: tuple[str, str]) -> None:
        """Let all series of an experiment vanish."""
        self._points.pop(key, None)

    def clear(self) -> None:
        """Let all series vanish."""
        self._points = {}

    def __contains__(self, key: object) -> bool:
        return key in self._points

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the families that have a series."""
        families = {
            family: GaugeMetricFamily(family.name, family.help, labels=family.all_labels)
            for family in FAMILIES
        }
        for key, found in list(self._points.items()):
            for point in found:
                families[point.family].add_metric((*key, *point.labels), point.value)
        yield from (family for family in families.values() if family.samples)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Give the names, which a registry keeps unique."""
        yield from (GaugeMetricFamily(family.name, family.help) for family in FAMILIES)
