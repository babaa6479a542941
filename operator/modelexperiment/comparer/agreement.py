"""When two versions' predictions for one request agree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

_LONG = 64
"""Characters from which on a string is kept as its digest, which has as many."""


class Answer(NamedTuple):
    """A prediction, reduced to what is compared, so that a waiting one takes little memory."""

    kind: str
    """number, string, bool, or "list of N"."""
    value: float | str | bool
    """The prediction itself; of a list, the index of its greatest element, the first such one; of
    a long string, its digest."""


def answer(prediction: float | str | bool | list[float]) -> Answer:
    """Reduce a prediction that has been checked."""
    if isinstance(prediction, bool):
        return Answer("bool", prediction)
    if isinstance(prediction, str):
        if len(prediction) > _LONG:
            # Halves of surrogate pairs are nothing that could be encoded otherwise.
            encoded = prediction.encode("utf-8", "surrogatepass")
            return Answer("string", hashlib.sha256(encoded).hexdigest())
        return Answer("string", prediction)
    if isinstance(prediction, list):
        return Answer(f"list of {len(prediction)}", prediction.index(max(prediction)))
    return Answer("number", float(prediction))


def difference(one: Answer, other: Answer) -> float | None:
    """How far two numbers are apart; None where they are not both numbers."""
    if one.kind != "number" or other.kind != "number":
        return None
    return abs(float(one.value) - float(other.value))


@dataclass(frozen=True)
class Rule:
    """What counts as a disagreement. Predictions of different kinds always disagree."""

    tolerance: float = 0.0
    """Numbers that are further apart than this disagree."""
    threshold: float | None = None
    """Given: numbers disagree where one is at or above it and the other is below."""

    def disagree(self, one: Answer, other: Answer) -> bool:
        """Whether two predictions disagree."""
        apart = difference(one, other)
        if apart is None:
            return one != other
        if self.threshold is None:
            return apart > self.tolerance
        return (float(one.value) >= self.threshold) != (float(other.value) >= self.threshold)
