"""The demo's course: v1 serves all flights, the experiment starts, and the operator decides."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from demo import data, parts, routes
from demo.breakage import BROKEN_SHARE, Breakage
from demo.data import Flight
from demo.errors import DemoError
from demo.models import VERSIONS
from demo.platforms import Platform
from demo.show import Screen, conclusion, headline
from demo.traffic import Connection, Replay
from localcluster.crds import wait_established
from localcluster.processes import Processes
from modelexperiment.commands.report import render
from modelexperiment.core.manifest import parse_experiment
from modelexperiment.core.status import ExperimentStatus

EXPERIMENT = Path(__file__).with_name("experiment.yaml")
CHAMPION, CHALLENGER = VERSIONS
ROUTED_WITHIN = 60.0
LOOK_SECONDS = 1.0
BREAK_AFTER = 10.0
Status = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """How the demo is run: requests per second, what breaks, when it gives up, and its report."""

    rate: float
    break_errors: bool
    timeout: float
    report: Path


def run(
    platform: Platform,
    processes: Processes,
    models: Mapping[str, Path],
    screen: Screen,
    options: Options,
) -> None:
    """Run the experiment until its verdict or rollback. Raises DemoError where neither comes."""
    addresses = parts.start_servers(processes, models, platform)
    platform.kubectl("apply", "-f", "-", input=_manifests(platform, addresses))
    platform.scrape(list(addresses.values()))
    flights = data.flights(data.REPLAYED_MONTHS)
    flights = _wait_until_served(platform.gateway_url, flights)
    labels = {version: f"http://{address}" for version, address in addresses.items()}
    screen.say(f"{CHAMPION} serves all flights at {platform.gateway_url}")
    with Replay(
        platform.gateway_url,
        flights,
        rate=options.rate,
        labels=labels,
        host=routes.PUBLIC_HOST,
        seconds=options.timeout,
    ) as replay:
        screen.say(f"the flights from May on are replayed, {options.rate:g} a second")
        parts.install_operator(processes, platform)
        screen.say("the operator runs with the rights that its chart gives it")
        wait_established(platform.kubectl, parts.CRD)
        platform.kubectl("apply", "-f", str(EXPERIMENT))
        screen.say(f"kubectl apply -f {EXPERIMENT.relative_to(parts.ROOT)}")
        breakage = Breakage(labels[CHALLENGER], replay, platform)
        course = Course(platform, processes, replay, screen, options)
        status = course.follow(breakage if options.break_errors else None)
        screen.say(headline(replay.progress()))
        if options.break_errors:
            screen.say(breakage.told())
    screen.write(conclusion(status))
    try:
        options.report.write_text(_report(platform), encoding="utf-8")
    except OSError as error:
        raise DemoError(f"--report: {error.strerror}, got {options.report}") from None


def _report(platform: Platform) -> str:
    """The page that `modelexperiment report flight-delays` makes."""
    document = json.loads(platform.kubectl("get", "-f", str(EXPERIMENT), "-o", "json"))
    status = ExperimentStatus.model_validate(document["status"])
    return render(parse_experiment(document), status)


def _manifests(platform: Platform, addresses: Mapping[str, str]) -> str:
    ports = {version: int(address.rpartition(":")[2]) for version, address in addresses.items()}
    manifests = [
        routes.namespace(),
        *routes.service(platform.model_address, ports),
        platform.istio_gateway(),
        routes.virtual_service(CHAMPION, CHALLENGER),
    ]
    return "\n---\n".join(json.dumps(manifest) for manifest in manifests)


def _wait_until_served(url: str, flights: Iterator[Flight]) -> Iterator[Flight]:
    """Ask until Envoy has its routes; the flights, of which the first was asked about only."""
    first = next(flights)
    connection = Connection(url)
    deadline = time.monotonic() + ROUTED_WITHIN
    while True:
        status, _ = connection.post("/predict", first.request, {"host": routes.PUBLIC_HOST})
        if status == HTTPStatus.OK:
            connection.close()
            return itertools.chain([first], flights)
        if time.monotonic() > deadline:
            raise DemoError(f"no answer through {url}, the last status was {status or 'none'}")
        time.sleep(0.1)


class Course:
    """Follows the experiment on the screen until it is decided."""

    def __init__(
        self,
        platform: Platform,
        processes: Processes,
        replay: Replay,
        screen: Screen,
        options: Options,
    ) -> None:
        self._platform = platform
        self._processes = processes
        self._replay = replay
        self._screen = screen
        self._timeout = options.timeout

    def follow(self, breakage: Breakage | None) -> Status:
        """Show the experiment until its verdict, or with ``breakage`` until the rollback.

        Raises DemoError where that takes too long.
        """
        began = time.monotonic()
        running: float | None = None
        while True:
            status = self._look()
            now = time.monotonic()
            if running is None and status.get("phase") == "Running":
                running = now
            if breakage and not breakage.on and running and now - running >= BREAK_AFTER:
                breakage.begin()
                self._screen.say(f"{CHALLENGER} fails {BROKEN_SHARE:.0%} of its requests from now")
            if decided(status, breakage is not None) and (breakage is None or breakage.over):
                return status
            if now - began > self._timeout:
                raise DemoError(f"no decision within {self._timeout:g} s\n{conclusion(status)}")
            time.sleep(LOOK_SECONDS)

    def _look(self) -> Status:
        parts.require_running(self._processes)
        table = self._platform.kubectl("get", "modelexperiments", "-n", routes.NAMESPACE)
        self._screen.show(headline(self._replay.progress()), table)
        text = self._platform.kubectl("get", "-f", str(EXPERIMENT), "-o", "jsonpath={.status}")
        return dict(json.loads(text)) if text else {}


def decided(status: Status, rollback_expected: bool) -> bool:
    """Whether what the demo waits for has come: the verdict, or the rollback.

    Raises DemoError where a rollback is expected and can come no more.
    """
    ended = status.get("phase") in ("Succeeded", "ChampionKept", "RolledBack", "Stopped")
    if rollback_expected:
        if ended and status["phase"] != "RolledBack":
            raise DemoError(f"it ended before the rollback\n{conclusion(status)}")
        return ended
    return ended or status.get("verdict", "Inconclusive") != "Inconclusive"
