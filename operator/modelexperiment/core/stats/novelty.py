"""Does the effect change as users get used to the challenger? (novelty and primacy)

The experiment is cut into blocks, hours or days, each with its own effect d_j and variance v_j.
What is new in a block is its distance from all blocks before it,

    u_j = (d_j - d_<j) / sqrt(v_j + 1 / V_<j),   V_<j = sum of 1 / v_i over earlier blocks

which is N(0, 1) and independent of the past while the effect is constant (Brown, Durbin and Evans,
"Techniques for testing the constancy of regression relationships over time", JRSS B 37, 1975). A
confidence sequence on the sum of the u_j says at every look whether the effect drifts. It is
reported, and nothing is decided from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from modelexperiment.core.stats.arms import bucket_counts, request_counts
from modelexperiment.core.stats.confidence_sequence import log_evidence, tuned_information
from modelexperiment.core.stats.design import Design, design_of
from modelexperiment.core.stats.evidence import Evidence
from modelexperiment.core.stats.model import Poll, Settings, Unit, require
from modelexperiment.core.stats.state import (
    decode,
    encode,
    evidence_from_state,
    evidence_to_state,
)

# The test is tuned to be sharpest after this many blocks: two weeks of days.
_BLOCKS = 14


class Drift(StrEnum):
    """What the effect has done so far."""

    STEADY = "steady"
    RISING = "rising"
    FALLING = "falling"


@dataclass(frozen=True, eq=False)
class Novelty:
    """What earlier blocks and the present one have shown.

    Attributes:
        settings: of the comparison.
        block: the present block.
        blocks: how many are complete.
        precision: V, the sum of 1 / v_i.
        weighted: the sum of d_i / v_i.
        surprise: the sum of u_j.
        log_p: ln of the p-value, which never rises.
    """

    settings: Settings
    block: Evidence
    blocks: int = 0
    precision: float = 0.0
    weighted: float = 0.0
    surprise: float = 0.0
    log_p: float = 0.0

    @classmethod
    def start(cls, settings: Settings) -> Novelty:
        """Nothing seen yet."""
        return cls(settings, Evidence.start(_design(settings)))

    def observe(self, poll: Poll) -> Novelty:
        """With one more poll of the present block; where users are the unit, it needs buckets."""
        design = _design(self.settings)
        if self.settings.unit is Unit.REQUEST:
            counts = request_counts(poll, self.settings.kind)
            return replace(self, block=self.block.observe(design, counts))
        split = bucket_counts(poll, self.settings.kind, self.settings.buckets)
        return self if split is None else replace(self, block=self.block.observe(design, *split))

    def new_phase(self) -> Novelty:
        """To be called when the split changes: nothing waits across the change."""
        return replace(self, block=self.block.flush(_design(self.settings)))

    def end_block(self) -> Novelty:
        """With the present block complete; one that is too small to have an effect goes on."""
        design = _design(self.settings)
        block = self.block.flush(design)
        summary = block.summary(design)
        effect = float(summary.mean[1] - summary.mean[0])
        variance = float(summary.variance.sum())
        if not block.warm(design, summary):
            return replace(self, block=block)
        surprise, log_p = self.surprise, self.log_p
        if self.blocks:
            spread = math.sqrt(variance + 1.0 / self.precision)
            surprise += (effect - self.weighted / self.precision) / spread
            log_p = min(log_p, self._log_p(surprise))
        return replace(
            self,
            block=Evidence.start(design),
            blocks=self.blocks + 1,
            precision=self.precision + 1.0 / variance,
            weighted=self.weighted + effect / variance,
            surprise=surprise,
            log_p=log_p,
        )

    def _log_p(self, surprise: float) -> float:
        """Of the block that is about to become number ``blocks``, counting from 0."""
        x = tuned_information(self.settings.alpha) * self.blocks / _BLOCKS
        z = surprise / math.sqrt(self.blocks)
        return -float(log_evidence(np.array(z), np.array(x), one_sided=False))

    @property
    def p_value(self) -> float:
        """Anytime-valid: whether the effect is constant."""
        return math.exp(min(self.log_p, 0.0))

    @property
    def drift(self) -> Drift:
        """The direction in which the effect moves; steady unless that is significant."""
        if self.p_value > self.settings.alpha:
            return Drift.STEADY
        return Drift.RISING if self.surprise > 0 else Drift.FALLING

    def to_state(self) -> dict[str, Any]:
        """The whole memory as a JSON object."""
        numbers = [self.blocks, self.precision, self.weighted, self.surprise, self.log_p]
        return {"sums": encode(np.array(numbers)), "block": evidence_to_state(self.block)}

    @classmethod
    def from_state(cls, settings: Settings, state: Mapping[str, Any]) -> Novelty:
        """What `to_state` wrote.

        Raises:
            ValueError: the state is not one.
        """
        blocks, *sums = (float(value) for value in decode(state, "sums", [5]))
        block = state.get("block")
        require(isinstance(block, Mapping), "state block", block, "not an object")
        return cls(
            settings, evidence_from_state(_design(settings), block or {}), int(blocks), *sums
        )


def _design(settings: Settings) -> Design:
    """A block needs its effect and variance only, not the e-process."""
    return replace(design_of(settings), exact=False)
