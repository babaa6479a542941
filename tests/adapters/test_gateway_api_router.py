"""The Gateway API router against an API server in memory, and a controller that accepts or not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from modelexperiment.adapters.gateway_api_router import ATTEMPTS, GatewayApiRouter
from modelexperiment.adapters.gateway_api_users import ISTIO
from modelexperiment.adapters.istio import IstioRouter
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.routers import RouterByKind
from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.routing import Mirror, Routing, in_place
from modelexperiment.core.snapshot import Problem, RouteSeen
from tests.adapters.patching import patched
from tests.core.builders import experiment

ROUTE = {"gatewayAPI": {"httpRoute": "fraud", "rule": "predict"}}
EXPERIMENT = experiment(route=ROUTE)
SHADOWED = experiment(route=ROUTE, shadow={"modelVersion": "v3", "percent": 30})
V3 = Mirror("v3", 30, "v3")
HEADER = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-a"]}}
OWNED = {"group": "", "kind": "Service", "name": "v1", "port": 80, "weight": 1, "filters": [HEADER]}
EXPLAIN = {"group": "", "kind": "Service", "name": "explain", "port": 80, "weight": 1}


class FakeApi:
    """An HTTPRoute and Services; `meanwhile` happens just before each patch."""

    def __init__(self) -> None:
        self.http_route: dict[str, Any] | None = {
            "metadata": {"name": "fraud", "namespace": "fraud", "generation": 1},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "rules": [
                    {"name": "explain", "backendRefs": [EXPLAIN]},
                    {"name": "predict", "backendRefs": [copy.deepcopy(OWNED)]},
                ],
            },
        }
        self.services = {"v1": [80], "v2": [80], "v3": [80]}
        self.patches = 0
        self.filter: dict[str, Any] | None = None
        self.writes: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.controller()

    def controller(self, status: str = "True") -> None:
        """What a Gateway's controller says of the route as it is now."""
        assert self.http_route is not None
        generation = self.http_route["metadata"]["generation"]
        conditions = [
            {
                "type": type_,
                "status": status,
                "observedGeneration": generation,
                "reason": "Because",
                "message": "so",
            }
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        parent = {"parentRef": {"name": "edge"}, "conditions": conditions}
        self.http_route["status"] = {"parents": [{**parent, "controllerName": ISTIO}]}

    async def get(self, *where: str) -> dict[str, Any]:
        if where[3] == "envoyfilters":
            if self.filter is None:
                raise NotFoundError("not found")
            return copy.deepcopy(self.filter)
        if where[3] == "gateways":
            return {"spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}
        assert where == ("gateway.networking.k8s.io", "v1", "fraud", "httproutes", "fraud")
        if self.http_route is None:
            raise NotFoundError("not found")
        return copy.deepcopy(self.http_route)

    async def service(self, namespace: str, name: str) -> tuple[dict[str, str], Sequence[int]]:
        assert namespace == "fraud"
        if name not in self.services:
            raise NotFoundError("not found")
        return {}, self.services[name]

    async def list(self, *where: str) -> Sequence[dict[str, Any]]:
        return []

    async def create(self, *where: Any) -> None:
        self.writes.append("filter")
        self.filter = copy.deepcopy(where[-1])

    async def delete(self, *where: str) -> None:
        assert where[3] == "envoyfilters"
        if self.filter is None:
            raise NotFoundError("not found")
        self.writes.append("no filter")
        self.filter = None

    async def json_patch(self, *where: Any) -> dict[str, Any]:
        assert where[3] == "httproutes"
        self.patches += 1
        self.writes.append("route")
        self.meanwhile()
        assert self.http_route is not None
        self.http_route = patched(self.http_route, where[-1])
        self.http_route["metadata"]["generation"] += 1
        return self.http_route

    @property
    def predict(self) -> dict[str, Any]:
        """The rule that is split."""
        assert self.http_route is not None
        found: dict[str, Any] = self.http_route["spec"]["rules"][1]
        return found

    def weights(self) -> list[tuple[str, int]]:
        return [(ref["name"], ref["weight"]) for ref in self.predict["backendRefs"]]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def router(api: FakeApi) -> RouterByKind:
    mine = cast(Api, api)
    return RouterByKind(IstioRouter(mine), GatewayApiRouter(mine))


def read(api: FakeApi, of: Experiment = EXPERIMENT) -> RouteSeen | Problem:
    return asyncio.run(router(api).read(of))


def seen(api: FakeApi, of: Experiment = EXPERIMENT) -> RouteSeen:
    found = read(api, of)
    assert isinstance(found, RouteSeen), found
    return found


def apply(
    api: FakeApi, mirror: Mirror | None = None, *retired: str, v1: float = 90, v2: float = 10
) -> Problem | None:
    routing = Routing({"v1": v1, "v2": v2}, mirror=mirror, retired=retired)
    return asyncio.run(router(api).apply(EXPERIMENT, routing))


def restore(api: FakeApi, original: Any, *mirrored: str) -> Problem | None:
    return asyncio.run(router(api).restore(EXPERIMENT, original, mirrored))


def problem(found: object) -> Problem:
    assert isinstance(found, Problem), found
    return found


def test_the_rule_is_read_with_what_restores_it(api: FakeApi) -> None:
    assert read(api) == RouteSeen({"v1": 100, "v2": 0}, {"backendRefs": [OWNED]})


def test_a_split_is_written_and_nothing_else_is_touched(api: FakeApi) -> None:
    before = copy.deepcopy(api.http_route)
    assert before is not None

    apply(api)

    assert api.weights() == [("v1", 90), ("v2", 10)]
    assert api.predict["backendRefs"][0] == {**OWNED, "weight": 90}
    api.predict["backendRefs"] = [OWNED]
    assert api.http_route is not None
    assert api.http_route["spec"] == before["spec"]


def test_what_is_written_is_there_only_once_the_gateway_has_taken_it(api: FakeApi) -> None:
    written = problem(apply(api))

    assert (written.reason, written.bad_input) == ("NotYetObserved", False)
    pending = seen(api).pending
    assert pending is not None
    assert pending.reason == "NotYetObserved"
    api.controller()
    assert seen(api).pending is None
    assert apply(api) is None
    assert api.patches == 1


def test_what_the_gateway_refuses_is_said(api: FakeApi) -> None:
    apply(api)
    api.controller("False")

    assert problem(seen(api).pending).reason == "NotAccepted"
    assert problem(apply(api)).bad_input


def test_what_was_read_first_is_what_is_restored(api: FakeApi) -> None:
    assert api.http_route is not None
    before = copy.deepcopy(api.http_route["spec"])
    original = seen(api).destinations
    apply(api, V3)

    assert restore(api, original, "v3") is None
    assert api.http_route["spec"] == before


@pytest.mark.parametrize("filters", [None, [HEADER], [HEADER, HEADER]])
def test_a_mirror_is_one_more_filter_and_goes_again(
    api: FakeApi, filters: list[dict[str, Any]] | None
) -> None:
    if filters:
        api.predict["filters"] = copy.deepcopy(filters)

    apply(api, V3)

    *others, mirror = api.predict["filters"]
    assert others == (filters or [])
    assert mirror["requestMirror"]["percent"] == 30
    assert seen(api, SHADOWED).mirrors == {"v3": 30}
    api.controller()
    assert apply(api, V3) is None
    assert api.patches == 1
    apply(api, None, "v3")
    assert api.predict.get("filters") == filters


def test_a_filter_of_somebody_who_writes_in_between_stays(api: FakeApi) -> None:
    def once() -> None:
        api.meanwhile = lambda: None
        api.predict["filters"] = [HEADER]

    api.meanwhile = once
    apply(api, V3)

    assert api.patches == 2
    assert api.predict["filters"][0] == HEADER
    assert len(api.predict["filters"]) == 2


def test_a_rule_without_room_for_a_filter_is_said(api: FakeApi) -> None:
    api.predict["filters"] = [HEADER] * 16

    found = problem(apply(api, V3))

    assert (found.reason, api.patches) == ("TooManyFilters", 0)


def test_a_rule_that_moves_in_the_list_is_not_mistaken(api: FakeApi) -> None:
    def once() -> None:
        api.meanwhile = lambda: None
        assert api.http_route is not None
        api.http_route["spec"]["rules"].reverse()

    api.meanwhile = once
    apply(api)

    assert api.http_route is not None
    predict, explain = api.http_route["spec"]["rules"]
    assert (predict["name"], len(predict["backendRefs"])) == ("predict", 2)
    assert explain["backendRefs"] == [EXPLAIN]


def test_somebody_who_never_stops_writing_is_said(api: FakeApi) -> None:
    def always() -> None:
        api.predict["backendRefs"][0]["weight"] = api.patches + 1

    api.meanwhile = always

    found = problem(apply(api))

    assert (found.reason, found.bad_input, api.patches) == ("WriteConflict", False, ATTEMPTS)
    assert "testing /spec/rules/1/backendRefs failed" in found.message


@pytest.mark.parametrize(
    ("services", "says"),
    [
        ({"v1": [80]}, "spec.traffic[v2]: there is no Service v2 in fraud"),
        (
            {"v1": [80], "v2": [81, 82]},
            "spec.traffic[v2]: Service v2 in fraud has no port 80; it has 81, 82",
        ),
        ({"v1": [80], "v2": []}, "spec.traffic[v2]: Service v2 in fraud has no port 80; it has no"),
        ({"v1": [80], "v2": [80]}, "spec.shadow: there is no Service v3 in fraud"),
    ],
)
def test_a_backend_that_is_not_there_is_named(
    api: FakeApi, services: dict[str, list[int]], says: str
) -> None:
    api.services = services

    found = problem(read(api, SHADOWED))

    assert found.reason == "DestinationNotFound"
    assert found.message.startswith(says)


@pytest.mark.parametrize(
    "fields", [{"group": "networking.istio.io", "kind": "Hostname"}, {"namespace": "elsewhere"}]
)
def test_backends_that_it_may_not_see_are_left_to_the_gateway(
    api: FakeApi, fields: dict[str, str]
) -> None:
    api.services = {}
    api.predict["backendRefs"][0].update(fields)

    assert seen(api).split == {"v1": 100, "v2": 0}


def gone(api: FakeApi) -> None:
    api.http_route = None


def renamed(api: FakeApi) -> None:
    api.predict["name"] = "score"


def redirected(api: FakeApi) -> None:
    del api.predict["backendRefs"]


@pytest.mark.parametrize(
    ("happens", "reason"),
    [(gone, "HTTPRouteNotFound"), (renamed, "RouteNotFound"), (redirected, "RouteNotFound")],
)
def test_a_rule_that_is_not_there_can_be_neither_read_nor_written_nor_restored(
    api: FakeApi, happens: Callable[[FakeApi], None], reason: str
) -> None:
    happens(api)

    for found in (read(api), apply(api), restore(api, {"backendRefs": [OWNED]})):
        assert (problem(found).reason, problem(found).bad_input) == (reason, True)
    assert api.patches == 0


STICKY = experiment(route=ROUTE, assignment={"header": "x-user-id"})
TABLE = SegmentTable.initial({"v1": 90, "v2": 10}, "v1", 0)
WANTED = Routing({"v1": 90.0, "v2": 10.0}, TABLE)


def apply_sticky(api: FakeApi, routing: Routing = WANTED) -> Problem | None:
    return asyncio.run(router(api).apply(STICKY, routing))


def in_force(api: FakeApi, routing: Routing = WANTED) -> bool:
    api.controller()
    return in_place(seen(api, STICKY), routing) and apply_sticky(api, routing) is None


def test_a_table_comes_before_the_filter_and_goes_after_it(api: FakeApi) -> None:
    assert api.http_route is not None
    original = copy.deepcopy(api.http_route["spec"])
    before = seen(api, STICKY)
    assert not in_place(before, WANTED)

    assert problem(apply_sticky(api)).reason == "NotYetObserved"

    assert api.weights() == [("v2", 1000), ("v1", 9000)]
    assert api.writes == ["route", "filter"]
    assert in_force(api)
    assert api.writes == ["route", "filter"]
    (patch,) = api.filter["spec"]["configPatches"] if api.filter else ()
    where = patch["match"]["routeConfiguration"]
    assert where == {"portNumber": 80, "vhost": {"name": "*:80", "route": {"name": "predict"}}}

    # A single backend would break the route under the filter.
    assert restore(api, before.destinations) is None
    assert api.writes[2:] == ["no filter", "route"]
    assert api.http_route["spec"] == original


def test_whatever_is_not_as_it_should_be_is_put_right(api: FakeApi) -> None:
    apply_sticky(api)
    for spoil in (
        lambda: api.predict["backendRefs"].reverse(),
        lambda: api.predict["backendRefs"][0].pop("filters"),
        lambda: setattr(api, "filter", None),
    ):
        spoil()
        api.controller()
        assert not in_place(seen(api, STICKY), WANTED)
        apply_sticky(api)
        assert in_force(api)


def test_everybody_to_one_version_leaves_two_backends(api: FakeApi) -> None:
    apply_sticky(api)

    rolled_back = Routing({"v1": 100.0, "v2": 0.0}, TABLE.everything_to("v1"))
    apply_sticky(api, rolled_back)

    assert in_force(api, rolled_back)
    assert api.weights() == [("v1", 5000), ("v1", 5000), ("v2", 0)]
    assert api.filter is not None


def test_without_assignment_stamps_and_filter_go_again(api: FakeApi) -> None:
    apply_sticky(api)
    assert seen(api).sticky is None

    apply(api)

    assert api.writes[2:] == ["route", "no filter"]
    assert api.predict["backendRefs"][0] == {**OWNED, "weight": 90}
    assert seen(api).sticky is False


def test_where_users_can_not_be_kept_the_weights_are_right_and_no_filter_stands(
    api: FakeApi,
) -> None:
    apply_sticky(api)
    assert api.http_route is not None
    api.controller()
    api.http_route["status"]["parents"][0]["controllerName"] = "example.com/other"

    found = problem(apply_sticky(api))

    assert found.reason == "NotIstio"
    assert api.filter is None
    assert seen(api, STICKY).unsticky == found
    assert seen(api, STICKY).split == {"v1": 90, "v2": 10}


def test_a_rollback_leaves_its_reason_in_the_same_write_and_the_next_write_takes_it_away(
    api: FakeApi,
) -> None:
    apply(api)
    rolled_back = Routing({"v1": 100, "v2": 0}, marker="errors broke")
    asyncio.run(router(api).apply(EXPERIMENT, rolled_back))

    assert api.patches == 2
    assert seen(api).marker == "errors broke"
    assert api.weights() == [("v1", 100), ("v2", 0)]

    apply(api)
    assert seen(api).marker is None
