"""Tracking goes on beside the experiments: late, again, seldom, but never twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modelexperiment.controller import tracking
from modelexperiment.controller.reconcile import Reconciler
from modelexperiment.controller.tracking import Tracking, refused
from modelexperiment.core.status import ExperimentStatus
from modelexperiment.core.tracking import Record
from modelexperiment.ports import UnavailableError
from modelexperiment.settings import Settings
from tests.controller.fakes import KEY, Cluster, FakeObserver
from tests.core.builders import Life, spec

SEEN = {"metadata": {"uid": "uid-1"}}
SETTINGS = Settings(mlflow_url="http://mlflow:5000", mlflow_allowed_urls=("http://other",))
SOME = {"v1": (100.0, 50.0), "v2": (100.0, 52.0)}
TRACKED: dict[str, Any] = {"tracking": {"mlflow": {}}}


class FakeTracker:
    """A Tracker that remembers, and is down when told so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Record]] = []
        self.tries = 0
        self.down = False
        self.busy = 0

    async def send(self, url: str, record: Record) -> None:
        self.tries += 1
        self.busy += 1
        assert self.busy == 1
        await asyncio.sleep(0.01)
        self.busy -= 1
        if self.down:
            raise UnavailableError("nobody is there")
        self.sent.append((url, record))


class Desk:
    """An experiment that is polled, and a tracking that is offered what it says."""

    def __init__(self) -> None:
        self.life = Life(**TRACKED)
        self.life.start()
        self.tracker, self.observer = FakeTracker(), FakeObserver()
        self.tracking = Tracking(self.tracker, self.observer, SETTINGS)

    def offer(self, status: ExperimentStatus | None = None) -> None:
        said = status or self.life.status
        self.tracking.offer(KEY, self.life.experiment, SEEN, said)

    def poll(self) -> None:
        self.life.poll(SOME)
        self.offer()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.01)


def run(work: Callable[[Desk], Any]) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        task = asyncio.create_task(desk.tracking.run())
        try:
            await work(desk)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return desk

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "RETRY", 0.05)


def test_what_is_offered_is_sent_once() -> None:
    async def work(desk: Desk) -> None:
        desk.poll()
        await desk.until(lambda: len(desk.tracker.sent) == 1)
        for _ in range(5):
            desk.offer()
        await asyncio.sleep(0.1)

    desk = run(work)
    ((url, sent),) = desk.tracker.sent
    assert url == "http://mlflow:5000"
    assert [run.model_version for run in sent.runs] == ["v1", "v2"]


def test_offers_that_come_faster_than_they_are_sent_are_one() -> None:
    async def work(desk: Desk) -> None:
        for _ in range(10):
            desk.poll()
        await desk.until(lambda: bool(desk.tracker.sent))
        await asyncio.sleep(0.1)

    desk = run(work)
    assert len(desk.tracker.sent) <= 2
    assert len(desk.tracker.sent[-1][1].runs[0].points) == 10


def test_a_server_that_was_down_gets_everything_in_the_end() -> None:
    async def work(desk: Desk) -> None:
        desk.tracker.down = True
        for _ in range(3):
            desk.poll()
        await desk.until(lambda: desk.tracker.tries >= 3)
        desk.poll()
        # Offers do not hurry a server that is down.
        tries = desk.tracker.tries
        for _ in range(20):
            desk.poll()
        await asyncio.sleep(0)
        assert desk.tracker.tries <= tries + 1
        desk.tracker.down = False
        await desk.until(lambda: bool(desk.tracker.sent))

    desk = run(work)
    assert len(desk.tracker.sent[-1][1].runs[1].points) == 24
    assert set(desk.observer.failures) == {"mlflow"}


def test_what_was_not_sent_yet_outlives_the_experiment() -> None:
    async def work(desk: Desk) -> None:
        desk.tracker.down = True
        desk.poll()
        await desk.until(lambda: desk.tracker.tries >= 1)
        desk.tracking.forget(KEY)
        desk.tracker.down = False
        await desk.until(lambda: bool(desk.tracker.sent))

    assert len(run(work).tracker.sent) == 1


def test_an_edit_can_t_make_it_call_what_is_not_allowed(caplog: pytest.LogCaptureFixture) -> None:
    async def work(desk: Desk) -> None:
        desk.life.edit(tracking={"mlflow": {"uri": "http://169.254.169.254"}})
        for _ in range(3):
            desk.poll()
        await asyncio.sleep(0.1)
        assert desk.tracker.tries == 0
        desk.life.edit(tracking={"mlflow": {"uri": "http://OTHER:80/"}})
        desk.offer()
        await desk.until(lambda: bool(desk.tracker.sent))

    desk = run(work)
    # As the platform writes it, however the manifest does.
    assert desk.tracker.sent[0][0] == "http://other"
    assert caplog.text.count("not allowed by the operator's MLFLOW_ALLOWED_URLS") == 1
    assert desk.observer.failures == ["mlflow"]


def test_the_reconciler_offers_what_it_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, **TRACKED)
    cluster.settings = SETTINGS.__class__(
        prometheus_url=cluster.settings.prometheus_url, mlflow_url="http://mlflow:5000"
    )
    offered: list[ExperimentStatus] = []

    class Notebook(Tracking):
        def offer(self, key: Any, experiment: Any, seen: Any, status: ExperimentStatus) -> None:
            assert key == KEY and seen["metadata"]["uid"]
            offered.append(status)

    reconciler: Reconciler = cluster.new_operator()
    reconciler.tracking = Notebook(FakeTracker(), cluster.observer, cluster.settings)
    cluster.operator = reconciler
    cluster.start()
    cluster.production.serve(100, 100)
    cluster.poll()
    assert offered[-1].dump() == cluster.store.status().dump()


@pytest.mark.parametrize(
    ("mlflow", "settings", "says"),
    [
        ({}, SETTINGS, None),
        ({"uri": "http://mlflow:5000/"}, SETTINGS, None),
        ({"uri": "http://other"}, SETTINGS, None),
        (
            {"uri": "http://169.254.169.254"},
            SETTINGS,
            "spec.tracking.mlflow.uri: http://169.254.169.254 is not allowed by the operator's "
            "MLFLOW_ALLOWED_URLS",
        ),
        (
            {},
            Settings(),
            "spec.tracking.mlflow.uri: is needed, since the operator has no MLFLOW_URL",
        ),
    ],
)
def test_only_allowed_addresses(mlflow: dict[str, str], settings: Settings, says: str) -> None:
    problem = refused(spec(tracking={"mlflow": mlflow}), settings)
    assert (problem.message if problem else None) == says
    assert refused(spec(), Settings()) is None
