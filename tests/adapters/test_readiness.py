"""Which versions have ready endpoints, as Services, Pods, EndpointSlices and entries tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest

from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.readiness import ReadyEndpoints, service_name
from tests.core.builders import LEAST, experiment

HOST = "fraud.fraud.svc.cluster.local"
Pod = tuple[Mapping[str, str], bool]


def pod(version: str, ready: bool, app: str = "fraud") -> Pod:
    return {"app": app, "version": version}, ready


class FakeApi:
    """What there is in the namespace `fraud`."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[str, dict[str, str]]] = {}
        self.running: list[Pod] = []
        self.slices: dict[str, list[bool]] = {}
        self.entries: list[dict[str, Any]] = []
        self.labels = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}

    def entry(self, *endpoints: Mapping[str, str], **fields: Any) -> None:
        """Add a ServiceEntry of the host with endpoints of these labels."""
        spec = {"hosts": [HOST], "resolution": "STATIC", **fields}
        self.entries.append({"spec": {**spec, "endpoints": [{"labels": e} for e in endpoints]}})

    async def list(self, *where: str) -> Sequence[dict[str, Any]]:
        if where[3] == "serviceentries":
            return self.entries
        assert where[3] == "destinationrules"
        subsets = [{"name": name, "labels": labels} for name, labels in self.labels.items()]
        other = {"spec": {"host": "other", "subsets": [{"name": "v1", "labels": {"a": "b"}}]}}
        return [other, {"spec": {"host": "fraud", "subsets": subsets}}]

    async def service_backing(self, namespace: str, name: str) -> tuple[str, dict[str, str]]:
        if name not in self.services:
            raise NotFoundError("not found")
        return self.services[name]

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> AsyncIterator[bool]:
        for has, ready in self.running:
            if labels.items() <= has.items():
                yield ready

    async def endpoints(self, namespace: str, service: str) -> Sequence[bool]:
        return self.slices.get(service, [])


def not_ready(api: FakeApi, **fields: object) -> Mapping[str, str]:
    found = ReadyEndpoints(cast(Api, api)).not_ready(experiment(**fields))
    return asyncio.run(found)


def of_service(*pods: Pod) -> Mapping[str, str]:
    api = FakeApi()
    api.services["fraud"] = ("ClusterIP", {"app": "fraud"})
    api.running = list(pods)
    return not_ready(api)


def test_one_ready_pod_of_each_version_is_enough() -> None:
    assert of_service(pod("v1", True), pod("v2", False), pod("v2", True)) == {}


def test_pods_that_are_not_ready_are_counted() -> None:
    found = of_service(pod("v1", True), pod("v2", False), pod("v2", False))

    why = "none of 2 Pods of Service fraud with app=fraud, version=v2 is ready"
    assert found == {"v2": why}


def test_pods_of_another_service_do_not_serve() -> None:
    found = of_service(pod("v1", True), pod("v2", True, app="search"))

    assert found == {"v2": "Service fraud has no Pod with app=fraud, version=v2"}


def test_a_service_that_selects_another_version_serves_only_that() -> None:
    api = FakeApi()
    api.services["fraud"] = ("ClusterIP", {"version": "v1"})
    api.running = [pod("v1", True), pod("v2", True)]

    assert not_ready(api) == {"v2": "Service fraud selects no Pod with version=v2"}


def test_a_subset_without_labels_is_all_of_the_service() -> None:
    api = FakeApi()
    api.services["fraud"] = ("ClusterIP", {"app": "fraud"})
    api.labels["v2"] = {}
    api.running = [pod("v1", True)]

    assert not_ready(api) == {}


@pytest.mark.parametrize(
    ("endpoints", "why"),
    [
        ([True, False], None),
        ([], "Service fraud has no endpoints"),
        ([False, False], "none of 2 endpoints of Service fraud is ready"),
    ],
)
def test_without_a_selector_the_slices_tell(endpoints: list[bool], why: str | None) -> None:
    api = FakeApi()
    api.services["fraud"] = ("ClusterIP", {})
    api.slices["fraud"] = endpoints

    assert not_ready(api) == ({"v1": why, "v2": why} if why else {})


def test_an_external_name_counts_as_ready() -> None:
    api = FakeApi()
    api.services["fraud"] = ("ExternalName", {})

    assert not_ready(api) == {}


def test_an_entry_lists_each_version_or_does_not() -> None:
    api = FakeApi()
    api.entry({"version": "v1"}, {"version": "v1"})

    why = f"the ServiceEntry of {HOST} lists no endpoint with version=v2"
    assert not_ready(api) == {"v2": why}
    api.entry({"version": "v2"})
    assert not_ready(api) == {}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"resolution": "DNS"}, id="DNS tells"),
        pytest.param({"workloadSelector": {"labels": {"app": "fraud"}}}, id="a selector tells"),
        pytest.param({"hosts": ["other.example.com"]}, id="no entry of the host"),
    ],
)
def test_what_cannot_be_seen_counts_as_ready(fields: dict[str, Any]) -> None:
    api = FakeApi()
    api.entry(**fields)

    assert not_ready(api) == {}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("fraud.ns.svc.cluster.local", "fraud"),
        ("fraud.ns.svc.example.org", "fraud"),
        ("fraud.ns.svc", "fraud"),
        ("fraud.other.svc.cluster.local", None),
        ("fraud.example.com", None),
        ("a.fraud.ns.svc.cluster.local", None),
    ],
)
def test_a_host_may_mean_a_service_of_the_namespace(host: str, expected: str | None) -> None:
    assert service_name(host, "ns") == expected


GATEWAY_API = {
    **LEAST,
    "route": {"gatewayAPI": {"httpRoute": "fraud"}},
    "traffic": [
        {"modelVersion": "v1", "percent": 50},
        {"modelVersion": "v2", "percent": 50, "service": "fraud-v2"},
    ],
}


def test_behind_an_http_route_each_version_is_a_service() -> None:
    api = FakeApi()
    api.services = {"v1": ("ClusterIP", {"app": "a"}), "fraud-v2": ("ClusterIP", {"app": "b"})}
    api.slices = {"v1": [True], "fraud-v2": [False]}

    why = "none of 1 endpoints of Service fraud-v2 is ready"
    assert not_ready(api, **GATEWAY_API) == {"v2": why}


def test_behind_an_http_route_a_version_may_be_an_entrys_host_or_an_external_name() -> None:
    api = FakeApi()
    api.services = {"v1": ("ExternalName", {})}
    api.entry(hosts=["fraud-v2"])

    why = "the ServiceEntry of fraud-v2 lists no endpoint"
    assert not_ready(api, **GATEWAY_API) == {"v2": why}
