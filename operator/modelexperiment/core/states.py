"""The states of comparisons as they stand in the status: the statistics' own, in fewer bytes.

All buckets of a rate have the same exposure, and so its two numbers (champion, challenger) stand
for two per bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelexperiment.core.stats import Comparison, Settings

_BY_BUCKET = "bucketSamples"


def to_state(value: Any) -> Any:
    """The JSON form of a comparison, or of many by name; JSON stays as it is."""
    if isinstance(value, Comparison):
        return _shortened(value.to_state())
    if isinstance(value, Mapping):
        return {key: to_state(its) for key, its in value.items()}
    return value.to_state() if hasattr(value, "to_state") else value


def from_state(settings: Settings, state: Any) -> Comparison:
    """The comparison that `to_state` wrote, or that was not written yet, with these settings.

    Raises:
        ValueError: the state is not one, or not one of these settings.
    """
    if isinstance(state, Comparison):
        return Comparison(settings, state.evidence, state.unlabelled)
    values = state.get(_BY_BUCKET, [])
    if isinstance(values, list) and len(values) == 2:
        each = [value for value in values for _ in range(settings.buckets)]
        state = {**state, _BY_BUCKET: each}
    return Comparison.from_state(settings, state)


def _shortened(state: dict[str, Any]) -> dict[str, Any]:
    values = state.get(_BY_BUCKET, [])
    if isinstance(values, str):
        return state
    half = len(values) // 2
    arms = [values[:half], values[half:]]
    if half and all(value == arm[0] for arm in arms for value in arm):
        return {**state, _BY_BUCKET: [arm[0] for arm in arms]}
    return state
