"""What the controller needs of the world outside; the adapters provide it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from modelexperiment.core.alerting import Receiver
from modelexperiment.core.counting import Labels, Series
from modelexperiment.core.events import Event
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.notices import Notice
from modelexperiment.core.routing import Routing
from modelexperiment.core.snapshot import Problem, RouteSeen
from modelexperiment.core.spec import Assignment
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tracking import Record

Object = Mapping[str, Any]
"""A Kubernetes object as JSON."""


class ConflictError(Exception):
    """Somebody else wrote in between: look again, and decide again."""


class UnavailableError(Exception):
    """A service does not answer as it should; the message is one line for people."""


class ExpiredError(Exception):
    """The API server does not know that resourceVersion any more: list again."""


class QueryError(Exception):
    """A query is wrong; the message is one line for people."""


class Observer(Protocol):
    """Who keeps the operator's own metrics. An experiment's key is (namespace, name)."""

    def reconcile(self) -> AbstractContextManager[None]:
        """Time a reconcile."""

    def poll(self, due: bool) -> AbstractContextManager[None]:
        """Time a poll, if one is due."""

    def lag(self, seconds: float) -> None:
        """Note how long after it was due a poll was done."""

    def error(self, reason: str) -> None:
        """Count a reconcile that failed."""

    def alert(self, kind: str, delivered: bool) -> None:
        """Count an attempt to deliver alerts to a kind of receiver."""

    def status_written(self) -> None:
        """Count a write of a status."""

    def route_written(self, succeeded: bool) -> None:
        """Count a write of a route."""

    def rolled_back(self, seconds: float) -> None:
        """Note how long after the start of the poll that saw the breach the route was written."""

    def knows(self, key: tuple[str, str]) -> bool:
        """Whether an experiment was observed before."""

    def observe(self, key: tuple[str, str], status: ExperimentStatus, champion: str) -> None:
        """Take an experiment's state in; `champion` is the champion's modelVersion."""

    def forget(self, key: tuple[str, str]) -> None:
        """Drop an experiment that is gone."""


class Tracker(Protocol):
    """A server that keeps the course of experiments."""

    async def send(self, url: str, record: Record) -> None:
        """Make the server hold the record; sending it twice changes nothing. UnavailableError."""


class Listed(NamedTuple):
    """A page of a list."""

    items: Sequence[Object]
    more: str
    """What the next page is asked for by; empty at the last."""
    version: str
    """The resourceVersion of the whole list, which a watch goes on from."""


class Change(NamedTuple):
    """What a watch tells."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""
    object: Object


class ExperimentSource(Protocol):
    """Where experiments are read by whoever only shows them."""

    async def get(self, namespace: str, name: str) -> Object | None:
        """One experiment as it is now, or None; UnavailableError."""

    async def page(self, namespace: str | None, more: str) -> Listed:
        """A page of a namespace's experiments, or of all; UnavailableError, ExpiredError."""

    def watch(self, namespace: str | None, version: str) -> AsyncIterator[Change]:
        """What changes from then on, until the server ends it; UnavailableError, ExpiredError."""


class ExperimentStore(Protocol):
    """The ModelExperiments in the API server."""

    async def get(self, namespace: str, name: str) -> Object | None:
        """The object as it is now, or None."""

    async def known(self, namespace: str, name: str) -> Object | None:
        """The object as it was last heard of, or None.

        It is never older than the caller's own last write. It may be out of date, so nothing but a
        write that fails in that case may be made on its word alone.
        """

    async def list(self, namespace: str) -> Sequence[Object]:
        """All experiments of a namespace."""

    async def write_status(self, seen: Object, status: Mapping[str, Any]) -> None:
        """Replace the status, if nobody has written since `seen`; else ConflictError."""

    async def add_finalizer(self, seen: Object) -> Object:
        """Add the operator's finalizer; gives the object after that. ConflictError as above."""

    async def remove_finalizer(self, seen: Object) -> None:
        """Remove the operator's finalizer. ConflictError as above."""

    async def tell(self, seen: Object, events: Sequence[Event]) -> None:
        """Post Kubernetes Events about the object; never fails."""


class TrafficRouter(Protocol):
    """One kind of route."""

    async def read(self, experiment: Experiment) -> RouteSeen | Problem:
        """The route as it is now, or what is wrong with it or its destinations."""

    async def apply(self, experiment: Experiment, routing: Routing) -> Problem | None:
        """Write into the route what it is to say; None once it is there."""

    async def restore(
        self, experiment: Experiment, original: Any, mirrored: Sequence[str]
    ) -> Problem | None:
        """Put the original destinations back, and end the mirrors to what was mirrored to.

        None once all is as it was, or nothing is there.
        """


class Readiness(Protocol):
    """Who knows which versions have ready endpoints."""

    async def not_ready(self, experiment: Experiment) -> Mapping[str, str]:
        """Why each version that has no ready endpoint has none; UnavailableError."""


class Prober(Protocol):
    """Who asks the proxy as some users."""

    async def ask(
        self, assignment: Assignment, users: Sequence[str], repeats: int
    ) -> dict[str, list[str | None]]:
        """The version that answered each user, `repeats` times; UnavailableError without answer."""


class MetricSource(Protocol):
    """A Prometheus. All raise UnavailableError, and QueryError on a bad query."""

    async def now(self, url: str) -> float:
        """The server's own time, seconds since 1970."""

    async def samples(self, url: str, query: str, at: float) -> list[Series]:
        """Raw samples of a range selector, evaluated at a time."""

    async def last_values(self, url: str, query: str, at: float) -> dict[Labels, float]:
        """An instant vector by labels (without the metric's name)."""

    async def number(self, url: str, query: str, at: float) -> float | str:
        """The one number that a query gives, or in words why it gives none."""


class Alerter(Protocol):
    """Who tells the world outside."""

    async def send(self, receiver: Receiver, namespace: str, notices: Sequence[Notice]) -> None:
        """Tell a receiver of alerts; UnavailableError, without any address, where that fails."""
