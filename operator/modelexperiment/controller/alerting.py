"""Delivers alerts, in a queue of its own: nothing that decides or routes ever waits for it.

What is to be delivered stands in the experiments' statuses. The reconciler hands it over after
each write and takes the reports of what was delivered into the next one. So nothing is lost with
the process, and only what was delivered but not yet reported is delivered again, under the same
idempotency key.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from modelexperiment.controller.queue import DueQueue, Key
from modelexperiment.core.alert_records import AlertRecord, AlertState
from modelexperiment.core.alerting import Receiver, Report, Reports
from modelexperiment.core.notices import RESEND, Notice
from modelexperiment.ports import Alerter, Observer, UnavailableError

_log = logging.getLogger(__name__)

# A receiver that does not answer holds a worker until its timeout.
WORKERS = 16
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0
# Failures in a row after which people are told: about 7 s.
PATIENCE = 3
# How often the end of an alert is tried to be told after its experiment is gone: half an hour.
LAST_ATTEMPTS = 12


class Lane(NamedTuple):
    """The deliveries of one experiment to one receiver, which are made one after the other."""

    experiment: Key
    receiver: str
    last: bool = False
    """Whether the experiment is gone, and with it the status that would remember."""

    def __str__(self) -> str:
        return f"{self.experiment}, alerts"


@dataclass
class _Errand:
    """What is left to tell one receiver, and how it went so far."""

    receiver: Receiver
    records: Sequence[AlertRecord] = ()
    told: dict[str, AlertState] = field(default_factory=dict)
    failures: int = 0
    problem: str = ""

    def left(self) -> list[AlertRecord]:
        """The records that the receiver has not heard of as they are now, oldest first."""
        return [r for r in self.records if self._state_told(r) is not r.state]

    def going_on(self) -> list[AlertRecord]:
        """The records that an Alertmanager must hear of again and again."""
        firing = [r for r in self.records if r.ends_at is None and not r.name.notification]
        return firing if self.receiver.kind == "alertmanager" else []

    def _state_told(self, record: AlertRecord) -> AlertState | None:
        return self.told.get(record.id) or record.delivered.get(self.receiver.id)


class Courier:
    """Takes what is to be told, and tells it, however often that needs to be tried."""

    def __init__(self, alerter: Alerter, telemetry: Observer, wake: Callable[[Key], None]) -> None:
        self._alerter = alerter
        self._telemetry = telemetry
        self._wake = wake
        self._errands: dict[Key, dict[str, _Errand]] = {}
        self._last: dict[Lane, _Errand] = {}
        self._queue: DueQueue[Lane] = DueQueue(self._work, WORKERS)

    async def run(self) -> None:
        """Deliver until cancelled."""
        await self._queue.run()

    def reports(self, key: Key) -> Reports:
        """What has become of an experiment's deliveries since the process started."""
        errands = self._errands.get(key, {})
        return {id_: Report(dict(e.told), e.problem) for id_, e in errands.items()}

    def take(self, key: Key, to: Sequence[Receiver], records: Sequence[AlertRecord]) -> None:
        """Take over what the status says now; returns at once."""
        before = self._errands.pop(key, {})
        errands = {receiver.id: before.get(receiver.id) or _Errand(receiver) for receiver in to}
        if errands:
            self._errands[key] = errands
        for receiver in to:
            self._hand_over(Lane(key, receiver.id), errands[receiver.id], receiver, records)

    def _hand_over(
        self, lane: Lane, errand: _Errand, receiver: Receiver, records: Sequence[AlertRecord]
    ) -> None:
        before = {(r.id, r.state) for r in errand.records}
        errand.receiver, errand.records = receiver, records
        errand.told = {r.id: errand.told[r.id] for r in records if r.id in errand.told}
        new = {(r.id, r.state) for r in records} - before
        if new and (errand.left() or errand.going_on()):
            self._queue.add(lane)

    def part(self, key: Key, to: Sequence[Receiver], records: Sequence[AlertRecord]) -> None:
        """Take over the last there is to tell of an experiment that is gone."""
        known = self._errands.pop(key, {})
        for receiver in to:
            last = Lane(key, receiver.id, last=True)
            told = known[receiver.id].told if receiver.id in known else {}
            errand = _Errand(receiver, records, dict(told))
            earlier = self._last.get(last)
            errand.records = [*(earlier.left() if earlier else ()), *errand.left()]
            if errand.records:
                self._last[last] = errand
                self._queue.add(last)

    def forget(self, key: Key) -> None:
        """Drop what an experiment that is gone had to tell, but for the last of it."""
        self._errands.pop(key, None)

    def _find(self, lane: Lane) -> _Errand | None:
        if lane.last:
            return self._last.get(lane)
        return self._errands.get(lane.experiment, {}).get(lane.receiver)

    async def _work(self, lane: Lane) -> float | None:
        errand = self._find(lane)
        if errand is None:
            return None
        news = bool(errand.left() or errand.problem)
        try:
            await self._deliver(lane, errand)
        except UnavailableError as error:
            return self._failed(lane, errand, str(error))
        self._succeeded(lane, errand, news)
        # A little early, so that a late one still comes before Alertmanager forgets.
        return RESEND.total_seconds() * random.uniform(0.8, 1.0) if errand.going_on() else None

    async def _deliver(self, lane: Lane, errand: _Errand) -> None:
        """Tell all that is left; an Alertmanager all at once, and what goes on again."""
        key, left = lane.experiment, errand.left()
        batches = [[record] for record in left]
        if errand.receiver.kind == "alertmanager":
            again = [record for record in errand.going_on() if record not in left]
            batches = [left + again] if left or again else []
        for batch in batches:
            notices = [Notice(key.namespace, key.name, record) for record in batch]
            await self._alerter.send(errand.receiver, key.namespace, notices)
            self._telemetry.alert(errand.receiver.kind, delivered=True)
            errand.told.update({record.id: record.state for record in batch})

    def _failed(self, lane: Lane, errand: _Errand, why: str) -> float | None:
        errand.failures += 1
        self._telemetry.alert(errand.receiver.kind, delivered=False)
        if lane.last and errand.failures >= LAST_ATTEMPTS:
            _say(logging.ERROR, lane, errand, f"the end of an alert is not delivered: {why}")
            self._last.pop(lane, None)
            return None
        if errand.failures >= PATIENCE and errand.problem != why:
            _say(logging.WARNING, lane, errand, f"alerts are not delivered: {why}")
            errand.problem = why
            self._wake(lane.experiment)
        pause = min(FIRST_RETRY * 2.0 ** min(errand.failures - 1, 16), LONGEST_RETRY)
        return pause * random.uniform(0.8, 1.2)

    def _succeeded(self, lane: Lane, errand: _Errand, news: bool) -> None:
        if errand.problem:
            _say(logging.INFO, lane, errand, "alerts are delivered again")
        errand.failures, errand.problem = 0, ""
        if lane.last:
            if self._last.get(lane) is errand:
                del self._last[lane]
        elif news:
            # The status is to say so, before anybody has reason to deliver it again.
            self._wake(lane.experiment)


def _say(level: int, lane: Lane, errand: _Errand, what: str) -> None:
    text = "%s: %s: %s"
    extra = {"experiment": str(lane.experiment)}
    _log.log(level, text, lane.experiment, errand.receiver.where, what, extra=extra)
