"""What the operator says of an experiment: its status.

Everything but `memory` is for people and is rounded to what it means. `memory` is what the next
poll needs to go on exactly where this one ended: it is written in the same guarded write as
`countedUntil`, so neither can move without the other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainSerializer

from modelexperiment.core.alert_records import AlertRecord
from modelexperiment.core.entries import ArmEstimate as ArmEstimate
from modelexperiment.core.entries import History as History
from modelexperiment.core.entries import Interval as Interval
from modelexperiment.core.entries import MetricAnalysis as MetricAnalysis
from modelexperiment.core.entries import Part
from modelexperiment.core.fields import ModelVersion, Time
from modelexperiment.core.shadow_entries import DistributionStatus as DistributionStatus
from modelexperiment.core.shadow_entries import ShadowState as ShadowState
from modelexperiment.core.shadow_entries import ShadowStatus as ShadowStatus
from modelexperiment.core.states import to_state
from modelexperiment.core.users import SlotShare, UserTable

State = Annotated[Any, PlainSerializer(to_state), Field(json_schema_extra={"preserve": True})]
"""What the statistics go on from: as JSON, as the API server gives it, or not yet written."""


class Phase(StrEnum):
    """Where the experiment is in its life."""

    PENDING = "Pending"
    SHADOWING = "Shadowing"
    RUNNING = "Running"
    PAUSED = "Paused"
    ROLLING_OUT = "RollingOut"
    SUCCEEDED = "Succeeded"
    CHAMPION_KEPT = "ChampionKept"
    ROLLED_BACK = "RolledBack"
    STOPPED = "Stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing more is decided in this phase."""
        return self in _ENDED

    @property
    def started(self) -> bool:
        """Whether the route is held."""
        return self is not Phase.PENDING


_ENDED = {Phase.SUCCEEDED, Phase.CHAMPION_KEPT, Phase.ROLLED_BACK, Phase.STOPPED}


class Verdict(StrEnum):
    """What the primary metric says."""

    CHALLENGER_BETTER = "ChallengerBetter"
    CHAMPION_BETTER = "ChampionBetter"
    NO_DIFFERENCE = "NoDifference"
    INCONCLUSIVE = "Inconclusive"


class Action(StrEnum):
    """What to do."""

    FULL_ROLLOUT = "FullRollout"
    GRADUAL_ROLLOUT = "GradualRollout"
    KEEP_CHAMPION = "KeepChampion"
    EXTEND_TEST = "ExtendTest"
    ROLLBACK = "Rollback"


class RiskLevel(StrEnum):
    """How much is at stake in following the decision."""

    LOW = "low"
    MEDIUM = "medium"
    CRITICAL = "critical"


class GuardrailState(StrEnum):
    """A guardrail's three answers."""

    PASS = "Pass"
    BREACH = "Breach"
    INSUFFICIENT_DATA = "InsufficientData"


class ConditionStatus(StrEnum):
    """As in metav1.Condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """As metav1.Condition: one aspect of the experiment's health or progress."""

    type: str
    """RoutesReady, MetricsReady, GuardrailsHealthy, SampleRatioHealthy, VerdictReached,
    Complete or, with spec.shadow.comparisons, ShadowAgrees, with spec.alerts, AlertsDelivered."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: str
    """One word for programs."""
    message: str
    """For people; of a False or Unknown one, what to do."""
    observed_generation: int | None = None
    """The spec's generation that this was judged for."""
    last_transition_time: Time
    """When the status last changed."""


class RoutedArm(Part):
    """One version's share in the route."""

    model_version: ModelVersion
    """The version."""
    percent: float
    """Its share of the requests, in percent."""


class Decision(Part):
    """What follows from the verdict and the guardrails."""

    action: Action
    """FullRollout, GradualRollout, KeepChampion, ExtendTest or Rollback."""
    reason: str
    """Why."""
    next_steps: list[str] = []
    """What to do, with numbers."""
    risk_level: RiskLevel
    """low, medium or critical."""


class SamplePlan(Part):
    """How many samples are needed, and when they will be there."""

    samples_needed: int | None = None
    """Per arm, for minimumEffect at the wanted power."""
    samples_so_far: int
    """Of the smallest arm."""
    arrival_rate: float | None = None
    """Samples per hour of the smallest arm."""
    eta: Time | None = None
    """When samplesNeeded will be reached."""
    message: str | None = None
    """What is missing for a plan."""


class Breach(Part):
    """A reading that broke a guardrail."""

    time: Time
    """When it was read."""
    value: float | None = None
    """What was read; none where missing data is the breach."""
    limit: float | None = None
    """The bound that it broke."""
    query: str
    """What to ask Prometheus to see it."""
    link: str | None = None
    """The query as a graph of the time around."""


class GuardrailStatus(Part):
    """One guardrail of one challenger."""

    name: str
    """The guardrail's name."""
    model_version: ModelVersion
    """The challenger."""
    state: GuardrailState
    """Pass, Breach or InsufficientData."""
    value: float | None = None
    """What was read last."""
    limit: float | None = None
    """The bound that it was compared with."""
    breaches: int = 0
    """Breaches in a row, or within failureWindow."""
    readings: str | None = None
    """With failureWindow, the last readings, oldest first: "." a pass, "x" a breach."""
    p_value: float | None = None
    """Of a statistical guardrail, anytime-valid, that the bound is kept."""
    last_change: Time
    """When the state last changed."""
    message: str | None = None
    """Why there is no data, or what broke."""
    breach: Breach | None = None
    """The last breach."""


class SampleRatioStatus(Part):
    """Whether the arms got the shares that the split gives them."""

    expected: dict[str, float]
    """Share by modelVersion, of all samples so far."""
    observed: dict[str, float]
    """Share by modelVersion, of all samples so far."""
    p_value: float
    """Anytime-valid p-value against the configured shares."""
    mismatch: bool
    """True freezes verdict and rollout."""
    causes: list[str] = []
    """Of a mismatch, the likely causes that were found."""
    checked: list[str] = []
    """Of a mismatch, what was looked at and is well."""


class RolloutStatus(Part):
    """Where a gradual rollout is."""

    model_version: ModelVersion
    """The challenger that is rolled out."""
    step: int
    """Index into rollout.steps, from 0."""
    since: Time
    """When this step began."""


class Summary(Part):
    """The columns of `kubectl get`."""

    split: str = ""
    """As routed: "v1 90 / v2 10"."""
    lift: str = ""
    """Relative effect of the leading challenger on the primary metric."""
    interval: str = ""
    """Its interval."""
    p_value: str = ""
    """Its anytime-valid p-value."""
    samples: str = ""
    """Samples of champion and challenger."""
    guardrails: str = ""
    """How many pass, breach or wait."""
    eta: str = ""
    """Time to the planned sample size."""
    reason: str = ""
    """Why the experiment is where it is."""


class Memory(Part):
    """What the next poll goes on from. For the operator; its form may change between versions."""

    original_route: Annotated[Any, Field(json_schema_extra={"preserve": True})] = None
    """The destinations of the route as they were before the experiment, restored on deletion."""
    fingerprints: dict[str, str] = {}
    """Of each metric's definition: another one starts that metric anew."""
    split: list[RoutedArm] = []
    """The split that the current phase of the count runs under."""
    split_since: Time | None = None
    """When that phase began."""
    corrected: Time | None = None
    """When somebody's edit of the weights was put right last."""
    purpose: str = ""
    """Of what is asked: an ended experiment starts again where it changes."""
    promoted: ModelVersion | None = None
    """The rollout.promote that is not followed any more: it was, or is of before this run."""
    comparisons: State = None
    """Engine state by "<metric>/<modelVersion>", of a segment with "/<label>/<value>" behind it."""
    edges: State = None
    """By quantile metric, the histogram's edge that is compared, or what it will be named by."""
    novelty: State = None
    """The blocks that the primary metric's effect is cut into, by "<metric>/<modelVersion>"."""
    sample_ratio: State = None
    """State of the sample ratio check."""
    guarded_until: Time | None = None
    """Samples up to this time are counted for good by the statistical guardrails."""
    history_lost: Time | None = None
    """When Prometheus' new history began, after it had lost the one before."""
    guardrail_tests: State = None
    """State of the statistical guardrails, by "<guardrail>/<modelVersion>/<bound>"."""
    ratio_split: list[RoutedArm] = []
    """The split that the sample ratio check counts against."""
    alerts: list[AlertRecord] = []
    """Alerts that go on, or that somebody has still to be told of."""
    layout: list[SlotShare] = []
    """The users' table of the experiment's own split, which a rollout has left."""
    not_ready: list[ModelVersion] = []
    """The versions that were last seen without ready endpoints, of those that have a share."""
    proven: str = ""
    """Of the route that the proxy was last seen to follow for every user asked."""
    proven_at: Time | None = None
    """When that was seen last."""
    mirrored: list[str] = []
    """The subsets or backends that copies of requests were ever sent to."""
    shadowing: bool = False
    """Whether the challengers get nothing before the shadow among them agrees."""
    shadow_print: str = ""
    """Of what is counted of the shadow: where that changes, it is counted anew."""
    shadow_until: Time | None = None
    """Samples up to this time are counted of the shadow."""
    shadow_histograms: State = None
    """Predictions up to each edge, by "champion" and "shadow"."""


class ExperimentStatus(Part):
    """What the operator says of the experiment."""

    phase: Phase = Phase.PENDING
    """Pending, Shadowing, Running, Paused, RollingOut, Succeeded, ChampionKept, RolledBack or
    Stopped."""
    observed_generation: int | None = None
    """The spec's generation that this status answers."""
    conditions: list[Condition] = []
    """What is well and what is not; every False or Unknown says what to do."""
    routed: list[RoutedArm] = []
    """The split that is in the route now."""
    assignment: UserTable | None = None
    """Which users get which version, where they are kept on one."""
    start_time: Time | None = None
    """When traffic was first split."""
    end_time: Time | None = None
    """When the experiment ended."""
    counted_until: Time | None = None
    """Samples up to this time are counted, none later."""
    analysis: list[MetricAnalysis] = []
    """One entry per metric and challenger."""
    verdict: Verdict | None = None
    """ChallengerBetter, ChampionBetter, NoDifference or Inconclusive."""
    decision: Decision | None = None
    """What follows, and why."""
    plan: SamplePlan | None = None
    """Samples needed, and when they will be there."""
    guardrails: list[GuardrailStatus] = []
    """One entry per guardrail and challenger."""
    sample_ratio: SampleRatioStatus | None = None
    """Whether the arms got their shares."""
    rollout: RolloutStatus | None = None
    """Where the rollout is."""
    shadow: ShadowStatus | None = None
    """Whether the shadow's answers agree with the champion's, where the spec says how to tell."""
    history: History | None = None
    """The primary metric, the split and the guardrails over time."""
    summary: Summary = Summary()
    """The columns of `kubectl get`."""
    memory: Memory = Memory()
    """What the next poll goes on from; not for people."""

    list_keys: ClassVar[dict[str, str]] = {"conditions": "type"}

    @property
    def shadowing(self) -> bool:
        """Whether the challengers wait for the shadow among them, also while paused."""
        paused = self.phase is Phase.PAUSED and self.memory.shadowing
        return paused or self.phase is Phase.SHADOWING

    @property
    def routed_split(self) -> dict[str, float]:
        """The percent by modelVersion that is in the route now."""
        return {arm.model_version: arm.percent for arm in self.routed}

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if it was ever judged."""
        return next((c for c in self.conditions if c.type == type_), None)
