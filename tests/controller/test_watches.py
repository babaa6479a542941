"""Ready means: every watch that there should be is open."""

from __future__ import annotations

import asyncio

import kopf
import pytest
from yarl import URL

from modelexperiment.controller.watches import Watches, WatchesLostError

ALL = "/apis/experiments.mlops.dev/v1alpha1/modelexperiments"
FRAUD = "/apis/experiments.mlops.dev/v1alpha1/namespaces/fraud/modelexperiments"
FLIGHTS = "/apis/experiments.mlops.dev/v1alpha1/namespaces/flights/modelexperiments"
ROUTES = "/apis/networking.istio.io/v1/virtualservices"


def watch(path: str) -> URL:
    return URL(f"https://api{path}?watch=true&resourceVersion=7")


def test_a_watch_is_open_once_it_is_answered() -> None:
    watches = Watches()
    assert watches.wrong() == f"the watch of {ALL} is not open yet"

    watches.answered(URL(f"https://api{ALL}?limit=500"), 200)
    assert watches.wrong() is not None

    watches.answered(watch(ALL), 200)
    assert watches.wrong() is None


def test_each_namespace_has_a_watch_of_its_own() -> None:
    watches = Watches(("fraud", "flights"))
    watches.answered(watch(FRAUD), 200)
    assert watches.wrong() == f"the watch of {FLIGHTS} is not open yet"

    watches.answered(watch(FLIGHTS), 200)
    assert watches.wrong() is None


def test_a_watch_that_was_refused_or_broke_is_named_until_it_is_open_again() -> None:
    watches = Watches()
    watches.answered(URL(f"https://api{ALL}"), 403)
    assert watches.wrong() == f"{ALL} can't be watched: the API server answers 403"

    watches.answered(watch(ALL), 200)
    watches.answered(watch(ROUTES), 200)
    assert watches.wrong() is None

    watches.failed(watch(ROUTES), "connection refused")
    assert watches.wrong() == f"{ROUTES} can't be watched: connection refused"
    watches.answered(watch(ROUTES), 200)
    assert watches.wrong() is None


def test_what_was_never_watched_does_not_matter() -> None:
    """Where Istio is not installed, or another resource is asked for and not there."""
    watches = Watches()
    watches.answered(watch(ALL), 200)
    watches.answered(URL("https://api/apis/other/v1"), 404)

    assert watches.wrong() is None


def test_a_login_that_was_refused_is_not_tried_for_ever() -> None:
    async def login() -> None:
        watches = Watches()
        first = kopf.ConnectionInfo(server="https://api", token="old")
        session = watches.session(first)
        assert session is not None
        assert session.aiohttp_session.headers["Authorization"] == "Bearer old"
        assert watches.session(kopf.ConnectionInfo(server="https://api", token="old")) is None
        renewed = watches.session(kopf.ConnectionInfo(server="https://api", token="new"))
        assert renewed is not None
        for made in (session, renewed):
            await made.aiohttp_session.close()

    asyncio.run(login())


@pytest.mark.parametrize(
    ("hangs", "why"), [(False, "410 too old"), (True, "kopf has not ended within 0.1 s")]
)
def test_a_kopf_that_fails_or_hangs_while_it_ends_is_an_end(hangs: bool, why: str) -> None:
    async def run() -> None:
        watches = Watches()

        async def operator() -> None:
            watches.ending.set()
            if hangs:
                await asyncio.Event().wait()
            raise RuntimeError("410 too old")

        with pytest.raises(WatchesLostError, match=f"the watches have ended: {why}"):
            await watches.run(operator(), patience=0.1)
        assert watches.wrong() == "the watches are ending"

    asyncio.run(run())


def test_a_kopf_that_is_told_to_end_may_take_its_time() -> None:
    async def run() -> None:
        watches = Watches()

        async def operator() -> None:
            watches.ending.set()
            await asyncio.sleep(0.05)

        await watches.run(operator(), patience=5)

    asyncio.run(run())
