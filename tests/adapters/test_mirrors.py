"""The operator's mirror in a list that others write to as well."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelexperiment.adapters.gateway_api import mirror_kind
from modelexperiment.adapters.istio import mirrors_of
from modelexperiment.adapters.mirrors import Kind, percents, restored, routed
from modelexperiment.core.routing import Mirror, Routing
from modelexperiment.core.spec import IstioRoute
from tests.core.builders import spec

ISTIO = mirrors_of(IstioRoute(virtual_service="fraud", host="fraud", port=80), "ns")
REFS = [{"group": "", "kind": "Service", "name": "v1", "port": 80, "weight": 1}]
GATEWAY = mirror_kind(REFS, spec(route={"gatewayAPI": {"httpRoute": "fraud"}}))
HEADER = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-a"]}}
SPLIT = {"v1": 90.0, "v2": 10.0}

kinds = pytest.mark.parametrize("kind", [ISTIO, GATEWAY], ids=["istio", "gateway"])


def wanting(percent: float | None, *retired: str) -> Routing:
    mirror = None if percent is None else Mirror("v3", percent, "v3")
    return Routing(SPLIT, mirror=mirror, retired=retired)


@kinds
@pytest.mark.parametrize("percent", [100, 30, 12.5, 0.01])
def test_what_was_written_is_read_as_the_same_percent(kind: Kind, percent: float) -> None:
    written = routed(kind, None, wanting(percent))

    assert written is not None
    assert percents(kind, written) == {"v3": pytest.approx(percent)}
    assert routed(kind, written, wanting(percent)) == written


@kinds
def test_another_percent_replaces_it(kind: Kind) -> None:
    written = routed(kind, [kind.entry("v4", 5), kind.entry("v3", 30)], wanting(40))

    assert written == [kind.entry("v4", 5), kind.entry("v3", 40)]


@kinds
def test_a_second_mirror_to_the_shadow_is_one_too_many(kind: Kind) -> None:
    twice = [kind.entry("v3", 30), kind.entry("v3", 30)]

    assert percents(kind, twice) == {"v3": 60}
    assert routed(kind, twice, wanting(30)) == [kind.entry("v3", 30)]


@kinds
def test_what_is_retired_goes_and_nothing_else(kind: Kind) -> None:
    seen = [kind.entry("v4", 5), kind.entry("v5", 30)]

    assert routed(kind, seen, wanting(None, "v5")) == [kind.entry("v4", 5)]
    assert routed(kind, seen[1:], wanting(None, "v5")) is None
    assert routed(kind, None, wanting(None, "v5")) is None
    assert routed(kind, [], wanting(None, "v5")) == []


@kinds
def test_restoring_brings_back_what_was_there_before(kind: Kind) -> None:
    theirs, mine, ours = kind.entry("v4", 5), kind.entry("v3", 1), kind.entry("v3", 30)

    assert restored(kind, [theirs, ours], ["v3"], []) == [theirs]
    assert restored(kind, [theirs, ours], ["v3"], [mine, theirs]) == [theirs, mine]
    assert restored(kind, [ours], ["v3"], []) is None


def test_other_filters_are_no_mirrors() -> None:
    before: list[dict[str, Any]] = [HEADER]
    kept = copy.deepcopy(before)

    written = routed(GATEWAY, before, wanting(25))

    assert written == [HEADER, GATEWAY.entry("v3", 25)]
    assert percents(GATEWAY, before) == {}
    assert before == kept


def test_a_mirror_of_an_http_route_names_the_backend_as_the_champions() -> None:
    ref = {"group": "", "kind": "Service", "name": "v3", "port": 80}
    whole = {"backendRef": ref, "percent": 25}
    part = {"backendRef": ref, "fraction": {"numerator": 1250, "denominator": 10_000}}

    assert GATEWAY.entry("v3", 25.0) == {"type": "RequestMirror", "requestMirror": whole}
    assert GATEWAY.entry("v3", 12.5) == {"type": "RequestMirror", "requestMirror": part}


def test_a_mirror_of_a_virtual_service_has_the_specs_port() -> None:
    target = {"host": "fraud", "subset": "v3", "port": {"number": 80}}

    assert ISTIO.entry("v3", 30) == {"destination": target, "percentage": {"value": 30}}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"destination": {"host": "fraud", "subset": "v3", "port": {"number": 80}}}, {"v3": 100}),
        ({"destination": {"host": "other", "subset": "v3", "port": {"number": 80}}}, {}),
        ({"destination": {"host": "fraud", "subset": "v3", "port": {"number": 81}}}, {}),
    ],
)
def test_a_mirror_to_another_host_or_port_is_somebody_elses(
    entry: dict[str, Any], found: dict[str, float]
) -> None:
    assert percents(ISTIO, [entry]) == found


def test_a_mirror_without_a_percent_copies_everything() -> None:
    entry = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v3"}}}

    assert percents(GATEWAY, [entry]) == {"v3": 100}
    half = {"backendRef": {"name": "v3"}, "fraction": {"numerator": 50}}
    assert percents(GATEWAY, [{"type": "RequestMirror", "requestMirror": half}]) == {"v3": 50}
