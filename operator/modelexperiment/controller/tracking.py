"""Brings tracking servers up to date, beside the experiments and never in their way.

The reconciler offers what it has written and goes on. Only the latest record of each experiment is
kept: it says everything, so that whatever a server has missed reaches it with the next one that
gets through. A server that is down is asked more and more seldom.
"""

from __future__ import annotations

import logging

from modelexperiment.controller.queue import DueQueue, Key
from modelexperiment.core.addresses import same_address
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.snapshot import Problem
from modelexperiment.core.spec import ExperimentSpec
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tracking import Record, VersionRun, record
from modelexperiment.ports import Object, Observer, Tracker, UnavailableError
from modelexperiment.settings import Settings

_log = logging.getLogger(__name__)

Runs = tuple[VersionRun, ...]
RETRY = 2.0
LONGEST_RETRY = 300.0


class Tracking:
    """Sends the latest record of each experiment."""

    def __init__(self, tracker: Tracker, telemetry: Observer, settings: Settings) -> None:
        self._tracker, self._telemetry, self._settings = tracker, telemetry, settings
        self._queue = DueQueue(self._send, settings.mlflow_workers)
        self._latest: dict[Key, Record] = {}
        self._sent: dict[Key, Runs] = {}
        self._failures: dict[Key, int] = {}
        self._refused: set[Key] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        await self._queue.run()

    def offer(
        self, key: Key, experiment: Experiment, seen: Object, status: ExperimentStatus
    ) -> None:
        """Take in what an experiment's status says now; this never waits."""
        found = record(experiment, seen["metadata"]["uid"], status)
        if found is None or found.runs == self._last(key):
            return
        if not self._is_allowed(key, experiment.spec):
            return
        self._latest[key] = found
        if key not in self._failures:
            self._queue.add(key)

    def forget(self, key: Key) -> None:
        """Drop an experiment that is gone, once what is known of it was sent."""
        self._sent.pop(key, None)
        self._refused.discard(key)

    def _is_allowed(self, key: Key, spec: ExperimentSpec) -> bool:
        """Whether an edit has not named what the platform does not allow; says so once."""
        problem = refused(spec, self._settings)
        if problem is None:
            self._refused.discard(key)
        elif key not in self._refused:
            self._refused.add(key)
            self._telemetry.error("mlflow")
            _log.warning("%s: %s", key, problem.message, extra={"experiment": str(key)})
        return problem is None

    async def _send(self, key: Key) -> float | None:
        found = self._latest.get(key)
        if found is None:
            return None
        url = url_of(found.experiment.spec, self._settings)
        assert url is not None, "what is not allowed is not taken in"
        try:
            await self._tracker.send(url, found)
        except UnavailableError as error:
            return self._failed(key, error)
        if self._failures.pop(key, 0):
            _log.info("%s: MLflow is up to date again", key, extra={"experiment": str(key)})
        if self._latest.get(key) is not found:
            return 0.0
        self._sent[key] = self._latest.pop(key).runs
        return None

    def _last(self, key: Key) -> Runs | None:
        """What was offered last."""
        waiting = self._latest.get(key)
        return waiting.runs if waiting else self._sent.get(key)

    def _failed(self, key: Key, error: UnavailableError) -> float:
        number = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(RETRY * 2.0 ** min(number - 1, 10), LONGEST_RETRY)
        self._telemetry.error("mlflow")
        text = "%s: MLflow: %s; what is missing is sent later"
        _log.warning(text, key, error, extra={"experiment": str(key)})
        return delay


def url_of(spec: ExperimentSpec, settings: Settings) -> str | None:
    """The tracking server that a spec names, as the platform writes it; None: not allowed."""
    named = spec.tracking.mlflow.uri if spec.tracking else None
    if named is None:
        return settings.mlflow_url or None
    allowed = (settings.mlflow_url, *settings.mlflow_allowed_urls)
    return next((url for url in allowed if url == named or same_address(named, url)), None)


def refused(spec: ExperimentSpec, settings: Settings) -> Problem | None:
    """Why a spec's tracking server is not to be called, if it isn't."""
    if spec.tracking is None or url_of(spec, settings):
        return None
    named = spec.tracking.mlflow.uri
    text = f"{named} is not allowed by the operator's MLFLOW_ALLOWED_URLS"
    if named is None:
        text = "is needed, since the operator has no MLFLOW_URL"
    return Problem("TrackingNotAllowed", f"spec.tracking.mlflow.uri: {text}")
