"""The operator process: wiring, logs, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from importlib.util import find_spec

import kopf
from aiohttp.web import AppRunner
from kubernetes.aio.client import ApiClient

from modelexperiment.adapters import web
from modelexperiment.adapters.alerts import HttpAlerter, secrets_of
from modelexperiment.adapters.envoy_filter import EnvoyFilters
from modelexperiment.adapters.experiment_feed import ExperimentFeed
from modelexperiment.adapters.gateway_api_router import GatewayApiRouter
from modelexperiment.adapters.istio import IstioRouter
from modelexperiment.adapters.known import Known
from modelexperiment.adapters.kubernetes import Api, connect, context_namespace
from modelexperiment.adapters.lately import RecentApi
from modelexperiment.adapters.mlflow import MlflowTracker, Render
from modelexperiment.adapters.probe import HttpProber
from modelexperiment.adapters.prometheus import Access, PrometheusSource
from modelexperiment.adapters.readiness import ReadyEndpoints
from modelexperiment.adapters.routers import RouterByKind
from modelexperiment.adapters.store import KubernetesStore
from modelexperiment.adapters.telemetry import Telemetry
from modelexperiment.adapters.web import Health
from modelexperiment.commands.report import render
from modelexperiment.controller.alerting import Courier
from modelexperiment.controller.gather import Gatherer
from modelexperiment.controller.handlers import WATCHED, build_registry, build_settings
from modelexperiment.controller.leader import LeadershipLostError, Standing, lead
from modelexperiment.controller.queue import DueQueue, Key
from modelexperiment.controller.reconcile import Reconciler
from modelexperiment.controller.tracking import Tracking
from modelexperiment.controller.watched import Watched
from modelexperiment.controller.watches import Watches, WatchesLostError
from modelexperiment.dashboard.server import Binding, Dashboard
from modelexperiment.logs import configure_logs
from modelexperiment.ports import TrafficRouter
from modelexperiment.settings import Settings, SettingsError

_log = logging.getLogger(__name__)

# The queue looks at the clock every second; a loop that has not moved for this long is stuck.
STUCK = 30.0
# All that a worker waits for has a limit of its own; together they stay well under this.
STALLED = 600.0


def prometheus_access(settings: Settings) -> Access:
    """How the operator's own Prometheus is to be called."""
    return Access(
        url=settings.prometheus_url,
        token_file=settings.prometheus_token_file,
        username=settings.prometheus_username,
        password_file=settings.prometheus_password_file,
        ca_file=settings.prometheus_ca_file,
        cert_file=settings.prometheus_cert_file,
        key_file=settings.prometheus_key_file,
        tenant=settings.prometheus_tenant,
    )


class Operator:
    """The parts of the operator, put together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self.source = PrometheusSource(
            settings.prometheus_timeout.total_seconds(),
            settings.prometheus_workers,
            prometheus_access(settings),
            self.telemetry.query,
        )
        self.tracker = MlflowTracker(
            settings.mlflow_timeout.total_seconds(), settings.mlflow_workers, _renderer()
        )
        self.queue: DueQueue[Key] | None = None
        self.standing = Standing()
        self.watches = Watches(settings.watch_namespaces)

    def alive(self) -> Health:
        """Whether loop and queue move."""
        if self.queue is None:
            return Health(True, "ok")
        silent = asyncio.get_running_loop().time() - self.queue.beat
        if silent > STUCK:
            return Health(False, f"the loop has not moved for {silent:.0f} s")
        stalled = self.queue.stalled()
        if stalled > STALLED:
            return Health(False, f"no worker has moved for {stalled:.0f} s, and work is due")
        return Health(True, "ok")

    def ready(self) -> Health:
        """Whether the operator works, or stands by to work."""
        if self.queue is None:
            return self._standing_by()
        wrong = self.watches.wrong()
        return Health(False, wrong) if wrong else self.alive()

    def _standing_by(self) -> Health:
        """A follower is ready as long as it can read who leads."""
        standing = self.standing
        if not self.settings.leader_election or standing.read_at is None:
            return Health(False, "starting: the API server has not answered yet")
        silent = asyncio.get_running_loop().time() - standing.read_at
        if silent > self.settings.lease_duration.total_seconds():
            return Health(False, f"the Lease could not be read for {silent:.0f} s")
        return Health(True, f"ok, standing by: {standing.holder or 'nobody'} holds the Lease")

    def _wake(self, key: Key) -> None:
        """Let an experiment be worked on now."""
        if self.queue is not None:
            self.queue.add(key)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve metrics, wait for leadership, work until `stop` is set."""
        runner = None
        api_client = await connect(failed=self.telemetry.api_error)
        shown = contextlib.AsyncExitStack()
        try:
            if self.settings.metrics_port:
                runner = await self._serve(self.settings.metrics_port)
            if self.settings.dashboard_port:
                await shown.enter_async_context(_dashboard(self.settings))

            async def work() -> None:
                await self._work(api_client, stop)

            if self.settings.leader_election:
                namespace = self.settings.namespace or context_namespace()
                settings = replace(self.settings, namespace=namespace)
                await self._lead(api_client, settings, stop, work)
            else:
                await work()
        finally:
            await shown.aclose()
            await self.source.close()
            self.tracker.close()
            await api_client.close()  # type: ignore[no-untyped-call]
            if runner:
                await runner.cleanup()

    async def _lead(
        self,
        api_client: ApiClient,
        settings: Settings,
        stop: asyncio.Event,
        work: Callable[[], Awaitable[None]],
    ) -> None:
        """Work under the Lease; who only waits for it ends at once when `stop` is set."""
        leading = asyncio.create_task(lead(api_client, settings, work, self.standing))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if leading.done() or self.queue is not None:
                await leading
        finally:
            stopped.cancel()
            leading.cancel()
            await asyncio.gather(leading, stopped, return_exceptions=True)

    async def _serve(self, port: int) -> AppRunner:
        try:
            return await web.serve(port, self.telemetry.registry, self.alive, self.ready)
        except OSError as error:
            raise SettingsError(f"METRICS_PORT: {error.strerror}, got {port}") from None

    async def _work(self, api_client: ApiClient, stop: asyncio.Event) -> None:
        namespaces = self.settings.watch_namespaces
        known = Known(WATCHED, namespaces)
        api, lately = Api(api_client, known), RecentApi(api_client, known)
        store = KubernetesStore(api, lately)
        router, watched = self._router(api), Watched()
        gatherer = Gatherer(
            store,
            router,
            self.source,
            self.settings,
            HttpProber(),
            ReadyEndpoints(lately),
            lately=self._router(lately),
            watched=watched,
        )
        alerter = HttpAlerter(
            secrets_of(api),
            self.settings.alerts_allowed_urls,
            self.settings.alerts_timeout.total_seconds(),
        )
        courier = Courier(alerter, self.telemetry, self._wake)
        tracking = Tracking(self.tracker, self.telemetry, self.settings)
        reconciler = Reconciler(store, router, gatherer, self.telemetry, courier, tracking)
        self.queue = DueQueue(reconciler, self.settings.workers)
        self.queue.beat = asyncio.get_running_loop().time()
        self.telemetry.lead()
        watch = kopf.operator(
            registry=build_registry(self.queue, watched, known, self.watches),
            settings=build_settings(clusterwide=not namespaces),
            stop_flag=stop,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        tasks = [asyncio.create_task(run()) for run in (self.queue.run, courier.run, tracking.run)]
        try:
            await _first(asyncio.create_task(self.watches.run(watch)), *tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await alerter.close()
            self.telemetry.follow()

    def _router(self, api: Api) -> TrafficRouter:
        """The router of all kinds of routes, by one way to the API server."""
        filters = EnvoyFilters(api, self.settings.envoy_filter_namespace)
        namespaces = self.settings.watch_namespaces
        return RouterByKind(
            IstioRouter(api, filters, namespaces), GatewayApiRouter(api, filters, namespaces)
        )


def _renderer() -> Render | None:
    """What makes the report, where its libraries are there."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        _log.info("no reports are sent to MLflow: %s is missing", " and ".join(missing))
        return None
    return render


@contextlib.asynccontextmanager
async def _dashboard(settings: Settings) -> AsyncIterator[None]:
    """Show experiments, whoever leads; by a client of its own, so that it takes nothing away."""
    client = await connect()
    port = settings.dashboard_port
    binding = Binding(port, settings.dashboard_address, settings.dashboard_hosts)
    dashboard = None
    try:
        feed = ExperimentFeed(client)
        try:
            dashboard = await Dashboard.start(binding, feed, render, settings.watch_namespaces)
        except OSError as error:
            raise SettingsError(f"DASHBOARD_PORT: {error.strerror}, got {port}") from None
        yield
    finally:
        if dashboard:
            await dashboard.close()
        await client.close()  # type: ignore[no-untyped-call]


async def _first(*tasks: asyncio.Task[None]) -> None:
    """Wait for the first task that ends, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _main(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await Operator(settings).run(stop)
    except LeadershipLostError as error:
        _log.error("%s: ending, so that nothing is done without it", error)
        return 1
    except WatchesLostError as error:
        _log.error("%s: ending, to start anew", error)
        return 1
    return 0


def operate(settings: Settings) -> int:
    """Run the operator until it is told to stop; gives the exit code."""
    configure_logs(settings.log_format, settings.log_level)
    return asyncio.run(_main(settings))
