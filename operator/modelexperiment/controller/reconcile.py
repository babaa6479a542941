"""Gather, decide, apply: one experiment, once.

The order of the writes is what makes the operator safe to kill at any moment:

- to start, first the finalizer, then the status with the original route in it, and only then the
  route: whatever was written can be undone;
- a rollback writes the route before anything else that can fail, and its reason with it;
- totals and `countedUntil` stand in one status, written only if nobody else wrote in between.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from modelexperiment.controller.alerting import Courier
from modelexperiment.controller.gather import Gatherer
from modelexperiment.controller.pace import Pace, until_poll
from modelexperiment.controller.queue import Key
from modelexperiment.controller.tracking import Tracking
from modelexperiment.core import alerting
from modelexperiment.core import plan as planning
from modelexperiment.core.events import Event, Reason
from modelexperiment.core.manifest import Experiment, ManifestError, parse_experiment
from modelexperiment.core.routing import in_place
from modelexperiment.core.snapshot import Problem, RouteSeen, Snapshot
from modelexperiment.core.status import ExperimentStatus, Phase
from modelexperiment.ports import (
    ConflictError,
    ExperimentStore,
    Object,
    Observer,
    TrafficRouter,
    UnavailableError,
)

_log = logging.getLogger(__name__)

SOON = 0.05
RETRY = 1.0
# A breach that comes while the API server is away is seen so much after it is back.
LONGEST_RETRY = 10.0
# What keeps an experiment from starting is looked for this often, whatever its interval.
WAITING = 5.0
SHORTEST_INTERVAL = 1.0


@dataclass
class Reconciler:
    """Works on one experiment at a time; the queue calls it."""

    store: ExperimentStore
    router: TrafficRouter
    gatherer: Gatherer
    telemetry: Observer
    courier: Courier
    tracking: Tracking | None = None
    _paces: dict[Key, Pace] = field(default_factory=dict)

    async def __call__(self, key: Key) -> float | None:
        """Reconcile; gives the seconds until this must be done again."""
        pace = self._paces.setdefault(key, Pace())
        doubtful, pace.doubtful = pace.doubtful, True
        try:
            with self.telemetry.reconcile():
                delay = await self._reconcile(key, pace, anew=doubtful)
        except ConflictError:
            # Whatever was polled was not written: poll again.
            pace.due = 0.0
            self.telemetry.error("conflict")
            return SOON * (1 + random.random())
        except UnavailableError as error:
            pace.failures += 1
            pace.due = 0.0
            self.telemetry.error("unavailable")
            _log.warning("%s: %s", key, error, extra={"experiment": str(key)})
            if pace.rollback:
                return RETRY
            return min(RETRY * 2.0 ** min(pace.failures, 8), LONGEST_RETRY)
        except Exception:
            self.telemetry.error("unexpected")
            raise
        pace.failures, pace.doubtful = 0, False
        if delay is None:
            del self._paces[key]
            self.courier.forget(key)
            self.telemetry.forget(key)
            if self.tracking:
                self.tracking.forget(key)
        return delay

    async def _reconcile(self, key: Key, pace: Pace, *, anew: bool) -> float | None:
        """Work on the experiment as it is known, or, where that has just failed, as it is."""
        read = self.store.get if anew else self.store.known
        seen = await read(key.namespace, key.name)
        if seen is None:
            return None
        if seen["metadata"].get("deletionTimestamp"):
            await self._release(seen)
            return None
        before = _status_of(seen)
        try:
            experiment = pace.experiment(seen)
        except ManifestError as error:
            # The CRD refuses such a spec; one that was stored under an older CRD may be here.
            self.telemetry.error("unreadable")
            _log.error("%s: %s", key, error, extra={"experiment": str(key)})
            return LONGEST_RETRY
        if not self.telemetry.knows(key):
            # Before the first poll, which may take long or fail: the history goes on at once.
            self.telemetry.observe(key, before, experiment.spec.champion_version)
        interval = max(SHORTEST_INTERVAL, experiment.spec.analysis.interval.total_seconds())
        # What keeps an experiment from starting is looked at whole, or not said at all.
        began = time.monotonic()
        poll = began >= pace.due or not before.phase.started
        with self.telemetry.poll(poll):
            snapshot = await self.gatherer.snapshot(experiment, before, seen, poll=poll, anew=anew)
        if poll:
            done = time.monotonic()
            if before.phase.started and pace.due:
                self.telemetry.lag(done - pace.due)
                pace.took_up(began)
            due = began + until_poll(interval, snapshot, pace.spread)
            # A poll that has taken longer than that must not be followed by another at once.
            pace.due = due if due > done else done + interval
        unfinished = pace.rollback
        plan = self._decide(experiment, before, snapshot, pace)
        if pace.rollback is not None and unfinished is None:
            pace.breach_seen = began
        started = plan.status.phase.started and not before.phase.started
        if started:
            if not anew and await self.gatherer.holder(experiment, seen):
                raise ConflictError("another experiment has come to hold the route")
            seen = await self.store.add_finalizer(seen)
            await self._write(seen, before, plan.status, plan.events)
            return 0.0
        # That a rollback stands in the route already is not taken on hearsay.
        write = _differs(plan, snapshot) or pace.rollback is not None
        if write and not anew:
            await self._confirm(seen)
        plan, failed = await self._route(experiment, plan, snapshot, pace, write=write)
        reports = self.courier.reports(key)
        plan = alerting.with_alerts(experiment.spec, before, plan, snapshot, reports)
        await self._write(seen, before, plan.status, plan.events)
        pace.rollback = None
        self.courier.take(key, alerting.receivers(experiment.spec), plan.status.memory.alerts)
        self.telemetry.observe(key, plan.status, experiment.spec.champion_version)
        if self.tracking:
            self.tracking.offer(key, experiment, seen, plan.status)
        if failed:
            return RETRY
        if not plan.status.phase.started:
            return min(interval, WAITING)
        return max(0.0, pace.due - time.monotonic())

    def _decide(
        self,
        experiment: Experiment,
        before: ExperimentStatus,
        snapshot: Snapshot,
        pace: Pace,
    ) -> planning.Plan:
        """Decide, or go on with a rollback whose status could not be written.

        The breach may be over by now, since nobody is sent to the challenger any more; to decide
        anew would send them back.
        """
        unfinished = pace.rollback
        if unfinished and unfinished.status.observed_generation == snapshot.generation:
            return planning.finish_rollback(before, unfinished)
        plan = planning.decide(experiment, before, snapshot)
        rolled_back = plan.status.phase is Phase.ROLLED_BACK is not before.phase
        pace.rollback = plan if rolled_back else None
        return plan

    async def _confirm(self, seen: Object) -> None:
        """Read an experiment anew before its route is written; ConflictError if it was edited.

        A status carries the resourceVersion that it is based on. A route does not know what it is
        based on, and must not follow a spec that is no longer there.
        """
        metadata = seen["metadata"]
        now = await self.store.get(metadata["namespace"], metadata["name"])
        if now is None or any(
            now["metadata"].get(field) != metadata.get(field)
            for field in ("uid", "generation", "deletionTimestamp")
        ):
            raise ConflictError("the experiment was edited")

    async def _route(
        self,
        experiment: Experiment,
        plan: planning.Plan,
        snapshot: Snapshot,
        pace: Pace,
        *,
        write: bool,
    ) -> tuple[planning.Plan, bool]:
        """Make the route say what it should, by a write where it may not; also if that failed."""
        if plan.routing is None:
            return plan, False
        route = snapshot.route
        if isinstance(route, RouteSeen) and not write:
            if route.pending:
                return planning.not_routed(plan, route.pending, snapshot), _again(route.pending)
            return self._routed(plan, snapshot, pace), False
        try:
            problem = await self.router.apply(experiment, plan.routing)
        except UnavailableError as error:
            problem = Problem("WriteFailed", f"{error}; it is tried again", bad_input=False)
        self.telemetry.route_written(problem is None)
        if problem:
            return planning.not_routed(plan, problem, snapshot), _again(problem)
        plan = self._routed(plan, snapshot, pace)
        if isinstance(route, Problem):
            # The weights are right, and something else is wrong, such as a destination.
            plan = planning.not_routed(plan, route, snapshot)
        return plan, False

    def _routed(self, plan: planning.Plan, snapshot: Snapshot, pace: Pace) -> planning.Plan:
        """Say that the route is as it should be, and how long a rollback took until then."""
        if pace.breach_seen is not None:
            self.telemetry.rolled_back(time.monotonic() - pace.breach_seen)
            pace.breach_seen = None
        return planning.routed(plan, snapshot)

    async def _write(
        self,
        seen: Object,
        before: ExperimentStatus,
        after: ExperimentStatus,
        events: tuple[Event, ...],
    ) -> None:
        """Write the status if it says anything new, and tell what has happened."""
        # To compare is quicker than to dump, and mostly nothing has changed.
        if after != before and (dumped := after.dump()) != before.dump():
            await self.store.write_status(seen, dumped)
            self.telemetry.status_written()
        self._log_events(seen, events)
        await self.store.tell(seen, events)

    def _log_events(self, seen: Object, events: tuple[Event, ...]) -> None:
        name = f"{seen['metadata']['namespace']}/{seen['metadata']['name']}"
        for event in events:
            level = logging.WARNING if event.warning else logging.INFO
            extra = {"experiment": name, "event": str(event.reason)}
            _log.log(level, "%s: %s", event.reason, event.message, extra=extra)

    async def _release(self, seen: Object) -> None:
        """Restore the original route and let the object go; a route that is gone stays gone."""
        # Not the whole status: one that can't be read must not keep the object for ever.
        memory = (seen.get("status") or {}).get("memory") or {}
        original = memory.get("originalRoute")
        if original is not None:
            problem = await self._restore(seen, original, memory.get("mirrored") or [])
            if problem and not problem.bad_input:
                raise UnavailableError(problem.message)
            said = f"nothing to restore: {problem.message}" if problem else "as it was before"
            event = Event(Reason.ROUTE_RESTORED, said)
            self._log_events(seen, (event,))
            await self.store.tell(seen, [event])
        await self.store.remove_finalizer(seen)
        self._say_goodbye(seen)

    def _say_goodbye(self, seen: Object) -> None:
        """Let whoever was told of an alert hear that its experiment is gone."""
        try:
            experiment, status = parse_experiment(seen), _status_of(seen)
        except (ManifestError, UnavailableError):
            return
        left = alerting.ended(status.memory.alerts, datetime.now(UTC))
        to = alerting.receivers(experiment.spec)
        self.courier.part(Key(experiment.namespace, experiment.name), to, left)

    async def _restore(
        self, seen: Object, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        try:
            experiment = parse_experiment(seen)
        except ManifestError as error:
            return Problem("SpecUnreadable", f"the spec can't be read: {error}")
        return await self.router.restore(experiment, original, mirrored)


def _differs(plan: planning.Plan, snapshot: Snapshot) -> bool:
    """Whether the route was not seen to say what it should."""
    route = snapshot.route
    there = isinstance(route, RouteSeen) and plan.routing and in_place(route, plan.routing)
    return plan.routing is not None and not there


def _again(problem: Problem) -> bool:
    """Whether to try again soon: what somebody must correct first can wait for the next poll."""
    return not problem.bad_input


def _status_of(seen: Mapping[str, Any]) -> ExperimentStatus:
    """The status, or an empty one where there is none, or none that can be read."""
    try:
        return ExperimentStatus.model_validate(seen.get("status") or {})
    except ValidationError as error:
        name = seen["metadata"]["name"]
        raise UnavailableError(f"the status of {name} can't be read: {error}") from None
