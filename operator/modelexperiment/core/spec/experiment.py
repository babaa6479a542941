"""The whole spec of a ModelExperiment, and the questions that its readers ask it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from modelexperiment.core.fields import (
    LabelName,
    Model,
    ModelVersion,
    ObjectName,
    Query,
    Rule,
    Url,
    exactly_one,
)
from modelexperiment.core.spec.analysis import Analysis, Rollout, Segment, Unit
from modelexperiment.core.spec.metrics import Guardrail, Metric, Prometheus, Role
from modelexperiment.core.spec.routing import TWO_DECIMALS, Arm, Assignment, Route

DEFAULT_DIVERGENCE = 0.05


class Shadow(Model):
    """A version that gets copies of the traffic, and whose answers nobody sees."""

    model_version: ModelVersion
    """The version that gets the copies: none of traffic's, which stays a shadow, or a challenger,
    which then serves nobody before it agrees with the champion."""
    subset: ModelVersion | None = None
    """The DestinationRule subset that serves it (Istio). Default: modelVersion. Of a challenger,
    traffic's is taken."""
    service: ObjectName | None = None
    """The backend that serves it (Gateway API). Default: modelVersion. Of a challenger, traffic's
    is taken."""
    percent: Annotated[float, Field(gt=0, le=100)] = 100
    """The share that is copied, in percent, with up to two decimals: of the route's requests, drawn
    for each; with assignment on a VirtualService, of the champion's users, always the same ones."""
    max_divergence: Annotated[float, Field(gt=0, le=1)] = DEFAULT_DIVERGENCE
    """The share of disagreeing predictions, of all that are compared, that is still accepted."""
    comparisons: Query | None = None
    """Selector of the counters of predictions that were compared with the champion's."""
    disagreements: Query | None = None
    """Selector of the counters of those among them that disagree."""
    predictions: Query | None = None
    """Selector of the _bucket counters of a classic histogram of the predictions, which both
    versions have: how far the distributions are apart is reported, and nothing decided from it."""
    version_label: LabelName = "model_version"
    """The counters' label whose value is the modelVersion."""

    rules: ClassVar[tuple[Rule, ...]] = (
        TWO_DECIMALS,
        Rule(
            cel="has(self.comparisons) == has(self.disagreements)",
            message="comparisons and disagreements go together",
            holds=lambda s: (s.comparisons is None) == (s.disagreements is None),
            shown=lambda s: "no disagreements" if s.comparisons else "no comparisons",
        ),
        # The API server fills the default in, so that it can't be told from an explicit one.
        Rule(
            cel=f"has(self.comparisons) || self.maxDivergence == {DEFAULT_DIVERGENCE}",
            message="maxDivergence needs comparisons and disagreements",
            holds=lambda s: s.comparisons is not None or s.max_divergence == DEFAULT_DIVERGENCE,
            field="maxDivergence",
            shown=lambda s: s.max_divergence,
        ),
    )


class Mlflow(Model):
    """An MLflow tracking server."""

    uri: Url | None = None
    """Its tracking URI. Default: the operator's; others only where its settings allow them."""
    experiment: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The MLflow experiment's name. Default: <namespace>/<name>."""
    registered_model: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """On promotion, this registered model's alias "champion" is set to the version whose number the
    modelVersion is ("2" or "v2"), or that has the modelVersion as an alias."""


class Tracking(Model):
    """Where the history of the experiment is kept."""

    mlflow: Mlflow
    """An MLflow tracking server."""


class SecretKey(Model):
    """A key of a Secret in the experiment's namespace."""

    name: ObjectName
    """The Secret's name."""
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = "url"
    """The key in it."""


class Endpoint(Model):
    """An address, given openly or by a Secret."""

    url: Url | None = None
    """The address."""
    secret_ref: SecretKey | None = None
    """The Secret's key that holds the address."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("url", "secret_ref"),)


class Alert(Model):
    """Where breaches and verdicts are announced."""

    alertmanager: Endpoint | None = None
    """An Alertmanager's base address; /api/v2/alerts is added to it."""
    slack: Endpoint | None = None
    """A Slack-compatible webhook."""
    webhook: Endpoint | None = None
    """A webhook that gets the documented JSON body."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("alertmanager", "slack", "webhook"),)


def _hundredths(traffic: list[Arm]) -> int:
    return sum(round(arm.percent * 100) for arm in traffic)


_A_CHALLENGER = "self.traffic.exists(t, t.modelVersion == self.shadow.modelVersion)"
_CHAMPION = "(has(self.champion) ? self.champion : self.traffic[0].modelVersion)"


def _of_no_challenger(spec: ExperimentSpec) -> bool:
    return spec.shadow is None or spec.shadow.model_version not in spec.challengers


SHADOW_RULES = (
    Rule(
        cel=f"!has(self.shadow) || self.shadow.modelVersion != {_CHAMPION}",
        message="shadow.modelVersion must not be the champion",
        holds=lambda spec: not spec.shadow or spec.shadow.model_version != spec.champion_version,
        field="shadow.modelVersion",
        shown=lambda spec: spec.shadow.model_version,
    ),
    Rule(
        cel=f"!has(self.shadow) || has(self.shadow.comparisons) || !{_A_CHALLENGER}",
        message="shadow.modelVersion is a challenger's: it needs shadow.comparisons and "
        "shadow.disagreements, for nothing else could let it go live",
        holds=lambda spec: _of_no_challenger(spec) or spec.shadow.comparisons is not None,
        field="shadow.modelVersion",
        shown=lambda spec: spec.shadow.model_version,
    ),
    Rule(
        cel="!has(self.shadow) || !has(self.shadow.subset) && !has(self.shadow.service) || "
        f"!{_A_CHALLENGER}",
        message="shadow.subset and shadow.service: a challenger's are those of traffic",
        holds=lambda spec: (
            _of_no_challenger(spec) or not (spec.shadow.subset or spec.shadow.service)
        ),
        field="shadow",
        shown=lambda spec: spec.shadow.subset or spec.shadow.service,
    ),
)
"""What a shadow may be beside traffic's versions."""


class ExperimentSpec(Model):
    """What a team asks for: versions, split, metrics, guardrails and what follows a verdict."""

    champion: ModelVersion | None = None
    """The version in production. Default: the first entry of traffic."""
    traffic: Annotated[list[Arm], Field(min_length=2, max_length=8)]
    """The versions and their percents, which sum to exactly 100."""
    route: Route
    """The route that is split; immutable once the experiment has started."""
    assignment: Assignment | None = None
    """Keeps each user on one version. Left out: every request is routed at random."""
    prometheus: Prometheus | None = None
    """Where the metrics are read. Default: the operator's Prometheus."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=16)]
    """What the versions are compared by; exactly one is Primary."""
    guardrails: Annotated[list[Guardrail], Field(max_length=16)] = []
    """Bounds that no challenger may break."""
    analysis: Analysis = Analysis()
    """How the numbers are judged."""
    segments: Annotated[list[Segment], Field(max_length=8)] = []
    """Breakdowns to report."""
    rollout: Rollout = Rollout()
    """What happens when a challenger wins."""
    shadow: Shadow | None = None
    """A version that gets copies of the traffic: beside the experiment, or before it goes live."""
    tracking: Tracking | None = None
    """Where the history is kept."""
    alerts: Annotated[list[Alert], Field(max_length=8)] = []
    """Where breaches and verdicts are announced."""
    paused: bool = False
    """True: keep the split as it is, judge guardrails only, decide nothing."""
    stop: bool = False
    """True: end now, the champion gets everything."""

    list_keys: ClassVar[dict[str, str]] = {
        "traffic": "modelVersion",
        "metrics": "name",
        "guardrails": "name",
        "segments": "name",
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.traffic.map(t, int(t.percent * 100.0 + 100000.5) - 100000).sum() == 10000",
            message="traffic: the percents must sum to exactly 100",
            holds=lambda spec: _hundredths(spec.traffic) == 10_000,
            field="traffic",
            shown=lambda spec: f"{_hundredths(spec.traffic) / 100:g}",
        ),
        Rule(
            cel="!has(self.champion) || self.traffic.exists(t, t.modelVersion == self.champion)",
            message="champion must be one of traffic's modelVersions",
            holds=lambda spec: spec.champion_version in spec.versions,
            field="champion",
            shown=lambda spec: spec.champion,
        ),
        Rule(
            cel="self.metrics.filter(m, m.role == 'Primary').size() == 1",
            message="metrics: exactly one metric must have role Primary",
            holds=lambda spec: sum(m.role is Role.PRIMARY for m in spec.metrics) == 1,
            field="metrics",
            shown=lambda spec: sum(m.role is Role.PRIMARY for m in spec.metrics),
        ),
        Rule(
            cel="!has(self.analysis.unit) || self.analysis.unit != 'User' || has(self.assignment)",
            message="analysis.unit User needs assignment",
            holds=lambda spec: spec.analysis.unit is not Unit.USER or spec.assignment is not None,
            field="analysis.unit",
            shown=lambda spec: spec.analysis.unit,
        ),
        Rule(
            cel="!has(self.rollout.promote) || self.traffic.exists(t, "
            "t.modelVersion == self.rollout.promote) && self.rollout.promote != "
            "(has(self.champion) ? self.champion : self.traffic[0].modelVersion)",
            message="rollout.promote must be one of the challengers",
            holds=lambda spec: spec.rollout.promote in (None, *spec.challengers),
            field="rollout.promote",
            shown=lambda spec: spec.rollout.promote,
        ),
        *SHADOW_RULES,
    )

    @property
    def versions(self) -> list[str]:
        """All modelVersions, in the order of `traffic`."""
        return [arm.model_version for arm in self.traffic]

    @property
    def champion_version(self) -> str:
        """The champion's modelVersion."""
        return self.champion or self.traffic[0].model_version

    @property
    def challengers(self) -> list[str]:
        """All modelVersions but the champion, in the order of `traffic`."""
        return [version for version in self.versions if version != self.champion_version]

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return next(metric for metric in self.metrics if metric.role is Role.PRIMARY)

    @property
    def unit(self) -> Unit:
        """What is independent: users where they are kept on one version, else requests."""
        return self.analysis.unit or (Unit.USER if self.assignment else Unit.REQUEST)

    @property
    def split(self) -> dict[str, float]:
        """The percent that each modelVersion is to get, in the order of `traffic`."""
        return {arm.model_version: arm.percent for arm in self.traffic}
