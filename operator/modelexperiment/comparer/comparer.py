"""Pairs and counts in this process' memory. Pure but for the counters: time is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelexperiment.comparer.pairing import Pair, Pairing, Unpaired
from modelexperiment.comparer.predictions import Prediction
from modelexperiment.comparer.series import Series
from modelexperiment.comparer.versions import Version


class Comparer:
    """Takes predictions in, and counts what they decide."""

    def __init__(self, series: Series, window: float, most: int) -> None:
        self._series = series
        self._pairing = Pairing(window, most)

    def __len__(self) -> int:
        """How many requests are remembered."""
        return len(self._pairing)

    def take(
        self, predictions: Sequence[Prediction], now: float, tokens: Sequence[str] = ()
    ) -> list[str]:
        """Take predictions in, all or none; gives the tokens of those that are decided.

        Raises:
            TooManyVersionsError: where a version has no room.
        """
        versions = [Version(new.model, new.version) for new in predictions]
        self._series.admit(versions, now)
        done: list[str] = []
        for index, (new, version) in enumerate(zip(predictions, versions, strict=True)):
            self._series.taken(version)
            token = tokens[index] if tokens else ""
            done += self._count(self._pairing.add(new, now, token))
        return done

    def expire(self, now: float) -> list[str]:
        """Give up on those whose window has passed; gives their tokens."""
        return self._count(self._pairing.expire(now))

    def _count(self, decided: Iterable[Pair | Unpaired]) -> list[str]:
        done: list[str] = []
        for one in decided:
            self._series.count(one)
            given = (one.given,) if isinstance(one, Unpaired) else (one.one, one.other)
            done += [prediction.token for prediction in given]
        return done
