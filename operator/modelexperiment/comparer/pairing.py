"""Finds the pairs: predictions of different versions for the same request of the same model.

Each version's first prediction for a request is compared with each other version's, once. A
request is remembered for the window, counted from its first prediction, whether it waits or is
paired: so a retry is known as one. Time is given, never read.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

from modelexperiment.comparer.agreement import Answer
from modelexperiment.comparer.predictions import Prediction

Reason = Literal["expired", "evicted", "duplicate"]
REASONS: tuple[Reason, ...] = ("expired", "evicted", "duplicate")
"""Why a prediction was in no pair: no other in time; no room; the version had answered before."""


class Given(NamedTuple):
    """One version's prediction for a request. `token` is whatever it came by."""

    version: str
    answer: Answer
    token: str


class Pair(NamedTuple):
    """Two versions' predictions for one request."""

    model: str
    one: Given
    other: Given


class Unpaired(NamedTuple):
    """A prediction that is in no pair, and never will be."""

    model: str
    given: Given
    reason: Reason


@dataclass(slots=True)
class _Request:
    since: float
    given: list[Given]


class Pairing:
    """What is remembered of requests: at most `most` of them, for `window` seconds each."""

    def __init__(self, window: float, most: int) -> None:
        self._window = window
        self._most = most
        # In the order of their first prediction, which is the order of their end as well.
        self._requests: OrderedDict[tuple[str, str], _Request] = OrderedDict()

    def __len__(self) -> int:
        """How many requests are remembered."""
        return len(self._requests)

    def add(self, new: Prediction, now: float, token: str = "") -> list[Pair | Unpaired]:
        """Take a prediction in; gives what is thereby decided. `now` never goes backwards."""
        decided: list[Pair | Unpaired] = [*self.expire(now)]
        key = (new.model, new.request_id)
        given = Given(new.version, new.answer, token)
        request = self._requests.get(key)
        if request is None:
            if len(self._requests) >= self._most:
                decided += self._drop("evicted")
            self._requests[key] = _Request(now, [given])
        elif any(known.version == given.version for known in request.given):
            decided.append(Unpaired(new.model, given, "duplicate"))
        else:
            decided += [Pair(new.model, known, given) for known in request.given]
            request.given.append(given)
        return decided

    def expire(self, now: float) -> list[Unpaired]:
        """Forget the requests whose window has passed; gives those that were never paired."""
        decided = list[Unpaired]()
        while self._requests:
            oldest = next(iter(self._requests.values()))
            if now - oldest.since <= self._window:
                break
            decided += self._drop("expired")
        return decided

    def _drop(self, reason: Reason) -> list[Unpaired]:
        """Forget the oldest request."""
        (model, _), request = self._requests.popitem(last=False)
        if len(request.given) > 1:
            return []
        return [Unpaired(model, request.given[0], reason)]
