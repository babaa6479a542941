"""An experiment with a shadow, from poll to poll."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from modelexperiment.core.counting import Reset
from modelexperiment.core.measures import PREDICTIONS, SHADOW
from modelexperiment.core.plan import Plan
from modelexperiment.core.snapshot import Counted
from modelexperiment.core.stats import Increment
from modelexperiment.core.status import Condition, ShadowStatus
from modelexperiment.core.tally import Cell
from tests.core.builders import POLL, Life

PAIR = {"comparisons": "compared_total", "disagreements": "disagreed_total"}
CHALLENGER = {"modelVersion": "v2", "percent": 30, **PAIR}
"""A shadow that is one of the versions of traffic."""
BESIDE = {"modelVersion": "v3", **PAIR}
"""A shadow that is none of them."""

AGREES = (200.0, 0.0)
DIFFERS = (200.0, 60.0)


class Shadowed(Life):
    """Its polls count what was compared of the shadow as well."""

    def compare(
        self,
        number: float,
        differing: float,
        *,
        silent: tuple[str, ...] = (),
        histograms: Mapping[str, Mapping[float, float]] | None = None,
        resets: tuple[Reset, ...] = (),
        history_lost: datetime | None = None,
        after: timedelta = POLL,
        **seen: Any,
    ) -> Plan:
        """A poll in which so many comparisons were counted, and so many disagreements."""
        since = self.status.memory.shadow_until
        assert since is not None
        version = self.experiment.spec.shadow and self.experiment.spec.shadow.model_version
        seen["shadowed"] = Counted(
            since,
            self.now + after,
            {(SHADOW, version or ""): Increment(number, differing)},
            histograms={Cell(PREDICTIONS, v): h for v, h in (histograms or {}).items()},
            samples=number > 0 or bool(histograms),
            silent=silent,
            resets=resets,
            history_lost=history_lost,
        )
        return self.poll(after=after, **seen)

    @property
    def shadow(self) -> ShadowStatus:
        """What the status says of the shadow."""
        assert self.status.shadow is not None
        return self.status.shadow

    def condition(self, type_: str) -> Condition:
        """A condition that must be there."""
        found = self.status.condition(type_)
        assert found is not None, type_
        return found
