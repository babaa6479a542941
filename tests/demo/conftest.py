from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import data, models
from demo.data import Flight
from demo.features import FlightRequest
from demo.server import PredictionServer

VERSIONS = models.VERSIONS


@pytest.fixture(scope="session")
def flights() -> list[Flight]:
    return list(data.flights(range(1, 13)))


@pytest.fixture(scope="session")
def replayed(flights: list[Flight]) -> list[Flight]:
    return [f for f in flights if f.request["schedule"]["month"] in data.REPLAYED_MONTHS]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.trained(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def loaded(trained: dict[str, Path]) -> dict[str, models.Model]:
    return {version: models.load(path) for version, path in trained.items()}


@pytest.fixture
def request_body(replayed: list[Flight]) -> FlightRequest:
    return copy.deepcopy(replayed[1000].request)


@pytest.fixture
def servers(loaded: dict[str, models.Model]) -> Iterator[dict[str, PredictionServer]]:
    running = {v: PredictionServer(("127.0.0.1", 0), model) for v, model in loaded.items()}
    threads = [threading.Thread(target=s.serve_forever, args=(0.01,)) for s in running.values()]
    for thread in threads:
        thread.start()
    yield running
    for server in running.values():
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


@pytest.fixture
def urls(servers: dict[str, PredictionServer]) -> dict[str, str]:
    return {v: f"http://127.0.0.1:{server.server_address[1]}" for v, server in servers.items()}
