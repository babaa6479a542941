"""MLflow as the place where the course of experiments is kept.

MLflow's client is synchronous, and takes a second to be imported: both happen in threads of their
own. A run is found by its tags, which are given to it in the very request that makes it; so no
crash leaves one that is not found again.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from modelexperiment.core.manifest import Experiment
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tracking import CHAMPION, Point, Record, VersionRun
from modelexperiment.ports import UnavailableError

Render = Callable[[Experiment, ExperimentStatus], str]
"""Gives the report as HTML."""

COUNTED = "modelexperiment.seconds"
"""The tag of a run that says up to which second since the start its points are there."""
REPORTED = "modelexperiment.reported"
"""The tag of a run that says which state its report tells of."""
PROMOTED = "modelexperiment.promoted"
"""The tag of the champion's run that names the version that the registry's alias was set to."""
# Requests hold at most so many metrics.
_BATCH = 1000


class MlflowTracker:
    """Brings MLflow servers up to date, a bounded number at once."""

    def __init__(self, timeout: float, workers: int, render: Render | None = None) -> None:
        """`timeout` is each request's, in seconds; without `render` no report is kept."""
        self._environment = {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout))),
            # The queue tries again, and later each time.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            # Nobody but the tracking server is to be called.
            "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }
        self._render = render
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mlflow")

    async def send(self, url: str, record: Record) -> None:
        """Make the server hold the record. UnavailableError where it can't be, for now."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, self._send, url, record)

    def close(self) -> None:
        """End the threads; who is at it finishes its request."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, url: str, record: Record) -> None:
        for name, value in self._environment.items():
            os.environ[name] = value
        mlflow = _library()
        try:
            _Session(mlflow, mlflow.MlflowClient(url), record).bring_up_to_date(self._render)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise UnavailableError(_one_line(error)) from None


@cache
def _library() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        needed = "pip install 'modelexperiment[mlflow]'"
        raise UnavailableError(f"{error.name} is missing: {needed}") from None


def _one_line(error: Exception) -> str:
    """What went wrong, without the request that a server may repeat in its answer."""
    text = str(error).splitlines()[0]
    cause = re.search(r"\(Caused by (\w+)", text)
    return f"{text.split(' failed with exception')[0]}: {cause[1]}" if cause else text[:300]


class _Session:
    """Brings one record to one server."""

    def __init__(self, mlflow: Any, client: Any, record: Record) -> None:
        self._entities, self._client, self._record = mlflow.entities, client, record

    def bring_up_to_date(self, render: Render | None) -> None:
        record, runs = self._record, []
        experiment = self._experiment()
        for wanted in record.runs:
            run = self._run(experiment, wanted)
            self._log(run, wanted)
            runs.append(run)
        if record.promoted and PROMOTED not in runs[0].data.tags:
            # Once: by now another experiment may have promoted the next version.
            self._promote(*record.promoted)
            self._client.set_tag(runs[0].info.run_id, PROMOTED, record.promoted[1])
        self._report(runs, render)
        if record.end is not None:
            for run in runs:
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "FINISHED", record.end)

    def _experiment(self) -> str:
        name = self._record.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name))
        if found.lifecycle_stage != "active":
            raise UnavailableError(f"the experiment {name} was deleted: restore it in MLflow")
        return str(found.experiment_id)

    def _run(self, experiment: str, wanted: VersionRun) -> Any:
        """The version's run, found or made."""
        query = " and ".join(f"tags.`{k}` = '{v}'" for k, v in wanted.identity.items())
        found = self._client.search_runs(
            [experiment], query, max_results=1, order_by=["attributes.start_time ASC"]
        )
        if found:
            return found[0]
        began = int(wanted.identity["modelexperiment.start"])
        tags = {**wanted.identity, **wanted.tags}
        return self._client.create_run(experiment, began, tags, run_name=wanted.model_version)

    def _log(self, run: Any, wanted: VersionRun) -> None:
        """Log what the run lacks; its points last, with the tag that says how far they reach."""
        entities, run_id = self._entities, run.info.run_id
        params = [
            entities.Param(name, value)
            for name, value in wanted.params.items()
            if name not in run.data.params
        ]
        tags = [
            entities.RunTag(name, value)
            for name, value in wanted.tags.items()
            if run.data.tags.get(name) != value
        ]
        if params or tags:
            self._client.log_batch(run_id, params=params, tags=tags)
        known = float(run.data.tags.get(COUNTED, -1.0))
        points = [point for point in wanted.points if point.second > known]
        metrics = list(self._metrics(points))
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        if points:
            self._client.set_tag(run_id, COUNTED, repr(points[-1].second))

    def _metrics(self, points: list[Point]) -> Iterator[Any]:
        for point in points:
            for name, value in point.values.items():
                yield self._entities.Metric(name, value, point.milliseconds, round(point.second))

    def _report(self, runs: list[Any], render: Render | None) -> None:
        """Keep the report with every run, written anew where the experiment's state is another."""
        state = self._record.state
        old = [run for run in runs if run.data.tags.get(REPORTED) != state]
        if render is None or not old:
            return
        html = render(self._record.experiment, self._record.status)
        for run in old:
            # Any other place is none that the platform has allowed.
            if not run.info.artifact_uri.startswith("mlflow-artifacts:"):
                continue
            self._client.log_text(run.info.run_id, html, "report.html")
            self._client.set_tag(run.info.run_id, REPORTED, state)

    def _promote(self, model: str, version: str) -> None:
        number = re.fullmatch(r"v?([0-9]+)", version)
        found = (
            number[1] if number else self._client.get_model_version_by_alias(model, version).version
        )
        self._client.set_registered_model_alias(model, CHAMPION, found)
