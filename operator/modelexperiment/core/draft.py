"""A decision in the making: the status so far, and what there is to tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelexperiment.core.events import Event, Reason
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.snapshot import Snapshot
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus


@dataclass
class Draft:
    """What `decide` works on: the snapshot is fixed, the status is amended step by step."""

    experiment: Experiment
    before: ExperimentStatus
    snapshot: Snapshot
    status: ExperimentStatus
    events: list[Event] = field(default_factory=list)
    guardrail_late: bool = False
    """Whether a guardrail has been without data for too long."""
    fed: set[tuple[str, str]] = field(default_factory=set)
    """The guardrails of challengers, as (name, modelVersion), that get data, if not enough yet."""

    @property
    def spec(self) -> ExperimentSpec:
        """The spec that is decided on."""
        return self.experiment.spec

    def update(self, **changes: Any) -> None:
        """Amend the status."""
        self.status = self.status.model_copy(update=changes)

    def remember(self, **changes: Any) -> None:
        """Amend the status' memory."""
        self.update(memory=self.status.memory.model_copy(update=changes))

    def tell(self, reason: Reason, message: str) -> None:
        """Add an event."""
        self.events.append(Event(reason, message))
