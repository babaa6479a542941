"""The Istio router against an API server in memory, which others write to as well."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from modelexperiment.adapters.istio import ATTEMPTS, IstioRouter, table_destinations
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.segments import NOBODY
from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.routing import Mirror, Routing, in_place
from modelexperiment.core.snapshot import Problem, RouteSeen
from tests.adapters.patching import patched
from tests.core.builders import experiment

EXPERIMENT = experiment()
OWNED = {"destination": {"host": "fraud", "subset": "v1"}, "headers": {"request": {"set": {}}}}


class FakeApi:
    """VirtualServices and DestinationRules; `meanwhile` happens just before each patch."""

    def __init__(self) -> None:
        self.virtual_service: dict[str, Any] | None = {
            "metadata": {"name": "fraud", "namespace": "fraud"},
            "spec": {
                "hosts": ["fraud.example.com"],
                "gateways": ["edge"],
                "http": [
                    {"name": "explain", "route": [{"destination": {"host": "explain"}}]},
                    {"name": "predict", "timeout": "2s", "route": [copy.deepcopy(OWNED)]},
                ],
            },
        }
        self.subsets: list[str] | None = ["v1", "v2"]
        self.host = "fraud.fraud.svc.cluster.local"
        self.ports: list[int] = [80]
        self.patches = 0
        self.filter: dict[str, Any] | None = None
        self.policy: dict[str, Any] = {}
        self.writes: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def get(self, *where: str) -> dict[str, Any]:
        if where[3] == "envoyfilters":
            if self.filter is None:
                raise NotFoundError("not found")
            return copy.deepcopy(self.filter)
        if where[3] == "gateways":
            return {
                "metadata": {"name": "edge", "namespace": "fraud"},
                "spec": {"servers": [{"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}]},
            }
        assert where[2:4] == ("fraud", "virtualservices")
        if self.virtual_service is None:
            raise NotFoundError("not found")
        return copy.deepcopy(self.virtual_service)

    async def delete(self, *where: str) -> None:
        assert where[3] == "envoyfilters"
        if self.filter is None:
            raise NotFoundError("not found")
        self.writes.append("no filter")
        self.filter = None

    async def create(self, *where: Any) -> None:
        assert where[3] == "envoyfilters"
        self.writes.append("filter")
        self.filter = copy.deepcopy(where[-1])
        self.filter["metadata"]["resourceVersion"] = "1"

    async def list(self, *where: str) -> Sequence[dict[str, Any]]:
        if where[3] == "serviceentries":
            return []
        if where[3] == "virtualservices":
            return [copy.deepcopy(self.virtual_service or {})]
        subsets = None if self.subsets is None else [{"name": name} for name in self.subsets]
        return [
            {"spec": {"host": "another", "subsets": [{"name": "v3"}]}},
            {
                "metadata": {"name": "fraud"},
                "spec": {"host": self.host, "subsets": subsets, **self.policy},
            },
        ]

    async def service(self, *where: str) -> tuple[dict[str, str], Sequence[int]]:
        assert where == ("fraud", "fraud")
        return {}, self.ports

    async def json_patch(self, *where: Any) -> dict[str, Any]:
        if where[3] == "envoyfilters":
            assert self.filter is not None
            self.writes.append("filter")
            self.filter = patched(self.filter, where[-1])
            return self.filter
        self.patches += 1
        self.writes.append("route")
        self.meanwhile()
        assert self.virtual_service is not None
        self.virtual_service = patched(self.virtual_service, where[-1])
        return self.virtual_service

    @property
    def predict(self) -> dict[str, Any]:
        """The http route that is split."""
        assert self.virtual_service is not None
        found: dict[str, Any] = self.virtual_service["spec"]["http"][1]
        return found


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def read(api: FakeApi) -> RouteSeen | Problem:
    return asyncio.run(IstioRouter(cast(Api, api)).read(EXPERIMENT))


def apply(api: FakeApi, **split: float) -> Problem | None:
    return asyncio.run(IstioRouter(cast(Api, api)).apply(EXPERIMENT, Routing(split)))


def restore(api: FakeApi, original: Any) -> Problem | None:
    return asyncio.run(IstioRouter(cast(Api, api)).restore(EXPERIMENT, original, []))


def test_the_route_is_read_with_what_restores_it(api: FakeApi) -> None:
    assert read(api) == RouteSeen({"v1": 100, "v2": 0}, {"route": [OWNED]}, retries=2)


def test_a_split_is_written_and_nothing_else_is_touched(api: FakeApi) -> None:
    before = copy.deepcopy(api.virtual_service)

    assert apply(api, v1=90, v2=10) is None

    assert [d["weight"] for d in api.predict["route"]] == [90, 10]
    assert api.predict["route"][0]["headers"] == OWNED["headers"]
    api.predict["route"] = [OWNED]
    assert api.virtual_service == before


def test_a_split_that_is_there_is_not_written_again(api: FakeApi) -> None:
    apply(api, v1=90, v2=10)
    apply(api, v1=90, v2=10)

    assert api.patches == 1


def test_what_was_read_first_is_what_is_restored(api: FakeApi) -> None:
    before = copy.deepcopy(api.virtual_service)
    seen = read(api)
    assert isinstance(seen, RouteSeen)
    apply(api, v1=50, v2=50)

    assert restore(api, seen.destinations) is None
    assert api.virtual_service == before


def test_somebody_who_writes_in_between_is_not_overwritten(api: FakeApi) -> None:
    def once() -> None:
        api.meanwhile = lambda: None
        api.predict["route"][0]["headers"] = {"response": {}}

    api.meanwhile = once

    assert apply(api, v1=90, v2=10) is None
    assert api.patches == 2
    assert api.predict["route"][0]["headers"] == {"response": {}}
    assert [d["weight"] for d in api.predict["route"]] == [90, 10]


def test_a_route_that_moves_in_the_list_is_not_mistaken(api: FakeApi) -> None:
    def once() -> None:
        api.meanwhile = lambda: None
        assert api.virtual_service is not None
        api.virtual_service["spec"]["http"].reverse()

    api.meanwhile = once

    assert apply(api, v1=90, v2=10) is None
    assert api.virtual_service is not None
    predict, explain = api.virtual_service["spec"]["http"]
    assert (predict["name"], len(predict["route"])) == ("predict", 2)
    assert explain["route"] == [{"destination": {"host": "explain"}}]


SHADOWED = experiment(shadow={"modelVersion": "v3", "percent": 30})
THEIRS = {"destination": {"host": "elsewhere"}, "percentage": {"value": 5}}
OURS = {"destination": {"host": "fraud", "subset": "v3"}, "percentage": {"value": 30}}
V3 = Mirror("v3", 30, "v3")


def mirrored(api: FakeApi, mirror: Mirror | None, *retired: str) -> Problem | None:
    routing = Routing({"v1": 90, "v2": 10}, mirror=mirror, retired=retired)
    return asyncio.run(IstioRouter(cast(Api, api)).apply(SHADOWED, routing))


def test_a_mirror_is_added_to_those_of_others(api: FakeApi) -> None:
    api.subsets = ["v1", "v2", "v3"]
    api.predict["mirrors"] = [THEIRS]

    assert mirrored(api, V3) is None

    assert api.predict["mirrors"] == [THEIRS, OURS]
    seen = asyncio.run(IstioRouter(cast(Api, api)).read(SHADOWED))
    assert isinstance(seen, RouteSeen)
    assert seen.mirrors == {"v3": 30}
    assert mirrored(api, V3) is None
    assert api.patches == 1


def test_a_mirror_that_ends_takes_nobody_elses_along(api: FakeApi) -> None:
    mirrored(api, V3)
    api.predict["mirrors"].insert(0, THEIRS)

    mirrored(api, None, "v3")

    assert api.predict["mirrors"] == [THEIRS]


def test_without_any_mirror_the_field_is_gone_again(api: FakeApi) -> None:
    before = copy.deepcopy(api.virtual_service)
    seen = read(api)
    assert isinstance(seen, RouteSeen)
    mirrored(api, V3)

    router = IstioRouter(cast(Api, api))
    assert asyncio.run(router.restore(SHADOWED, seen.destinations, ["v3"])) is None

    assert api.virtual_service == before


def test_the_owners_own_mirror_to_the_shadow_comes_back(api: FakeApi) -> None:
    api.predict["mirrors"] = [{**OURS, "percentage": {"value": 1}}, THEIRS]
    before = copy.deepcopy(api.predict["mirrors"])
    seen = read(api)
    assert isinstance(seen, RouteSeen)
    mirrored(api, V3)
    assert api.predict["mirrors"] == [THEIRS, OURS]

    asyncio.run(IstioRouter(cast(Api, api)).restore(SHADOWED, seen.destinations, ["v3"]))

    assert sorted(api.predict["mirrors"], key=str) == sorted(before, key=str)


def test_a_shadow_without_a_subset_is_named(api: FakeApi) -> None:
    found = asyncio.run(IstioRouter(cast(Api, api)).read(SHADOWED))

    assert isinstance(found, Problem)
    assert found.message.startswith("spec.shadow: no DestinationRule for host fraud")
    assert found.message.endswith("has the subset v3; it has v1, v2")


def test_the_older_mirror_field_stands_in_the_way_of_a_shadow_only(api: FakeApi) -> None:
    api.subsets = ["v1", "v2", "v3"]
    api.predict["mirror"] = {"host": "elsewhere"}

    found = asyncio.run(IstioRouter(cast(Api, api)).read(SHADOWED))

    assert isinstance(found, Problem)
    assert found.reason == "MirrorConflict"
    assert isinstance(read(api), RouteSeen)
    # Somebody who adds it later does not keep the weights from being right.
    assert mirrored(api, V3) is None
    assert [d["weight"] for d in api.predict["route"]] == [90, 10]
    assert "mirrors" not in api.predict


def test_somebody_who_never_stops_writing_is_said(api: FakeApi) -> None:
    def always() -> None:
        api.predict["route"][0]["weight"] = api.patches

    api.meanwhile = always

    found = apply(api, v1=90, v2=10)

    assert found is not None
    assert (found.reason, found.bad_input, api.patches) == ("WriteConflict", False, ATTEMPTS)


@pytest.mark.parametrize("subsets", [["v1"], [], None])
def test_a_version_without_a_subset_is_named(api: FakeApi, subsets: list[str] | None) -> None:
    api.subsets = subsets

    found = read(api)

    assert isinstance(found, Problem)
    assert found.reason == "DestinationNotFound"
    assert found.message.endswith(f"it has {', '.join(subsets or []) or 'none'}")


def test_subsets_of_another_host_do_not_count(api: FakeApi) -> None:
    api.host = "other.fraud.svc.cluster.local"

    assert isinstance(read(api), Problem)


def gone(api: FakeApi) -> None:
    api.virtual_service = None


def renamed(api: FakeApi) -> None:
    api.predict["name"] = "score"


def redirected(api: FakeApi) -> None:
    del api.predict["route"]
    api.predict["redirect"] = {"uri": "/"}


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (gone, "VirtualServiceNotFound"),
        (renamed, "RouteNotFound"),
        (redirected, "RouteNotFound"),
    ],
)
def test_a_route_that_is_not_there_can_be_neither_read_nor_written_nor_restored(
    api: FakeApi, happens: Callable[[FakeApi], None], reason: str
) -> None:
    happens(api)

    for found in (read(api), apply(api, v1=90, v2=10), restore(api, {"route": [OWNED]})):
        assert isinstance(found, Problem)
        assert (found.reason, found.bad_input) == (reason, True)
    assert api.patches == 0


MARKED = Routing({"v1": 100, "v2": 0}, marker="errors broke")


@pytest.mark.parametrize("others", [None, {"team": "risk"}])
def test_a_rollback_leaves_its_reason_in_the_same_write_and_the_next_write_takes_it_away(
    api: FakeApi, others: dict[str, str] | None
) -> None:
    assert api.virtual_service is not None
    if others is not None:
        api.virtual_service["metadata"]["annotations"] = dict(others)
    router = IstioRouter(cast(Api, api))
    asyncio.run(router.apply(EXPERIMENT, Routing({"v1": 90, "v2": 10})))
    assert api.patches == 1

    assert asyncio.run(router.apply(EXPERIMENT, MARKED)) is None

    seen = read(api)
    assert isinstance(seen, RouteSeen)
    assert (seen.split, seen.marker) == ({"v1": 100, "v2": 0}, "errors broke")
    assert api.patches == 2

    assert asyncio.run(router.apply(EXPERIMENT, Routing({"v1": 90, "v2": 10}))) is None
    seen = read(api)
    assert isinstance(seen, RouteSeen)
    assert seen.marker is None
    assert api.virtual_service["metadata"]["annotations"] == (others or {})


def test_annotations_that_appear_in_between_are_not_written_over(api: FakeApi) -> None:
    def annotate() -> None:
        assert api.virtual_service is not None
        api.virtual_service["metadata"]["annotations"] = {"team": "risk"}
        api.meanwhile = lambda: None

    api.meanwhile = annotate
    asyncio.run(IstioRouter(cast(Api, api)).apply(EXPERIMENT, MARKED))

    assert api.virtual_service is not None
    annotations = api.virtual_service["metadata"]["annotations"]
    assert annotations == {"team": "risk", "experiments.mlops.dev/rolled-back": "errors broke"}


STICKY = experiment(assignment={"header": "x-user-id", "buckets": 32})
TABLE = SegmentTable.initial({"v1": 90.0, "v2": 10.0}, "v1", 32)
WANTED = Routing({"v1": 90.0, "v2": 10.0}, TABLE)


def read_sticky(api: FakeApi) -> RouteSeen:
    found = asyncio.run(IstioRouter(cast(Api, api)).read(STICKY))
    assert isinstance(found, RouteSeen)
    return found


def apply_sticky(api: FakeApi, routing: Routing = WANTED) -> Problem | None:
    return asyncio.run(IstioRouter(cast(Api, api)).apply(STICKY, routing))


def test_users_are_kept_by_segments_first_and_the_filter_after(api: FakeApi) -> None:
    before = copy.deepcopy(api.virtual_service)
    assert not in_place(read_sticky(api), WANTED)

    assert apply_sticky(api) is None
    assert apply_sticky(api) is None

    assert api.writes == ["route", "filter"]
    assert len(api.predict["route"]) == 64
    seen = read_sticky(api)
    assert in_place(seen, WANTED)
    assert seen.unsticky is None

    # A single destination would break the route under the filter.
    assert restore(api, {"route": [OWNED]}) is None
    assert api.writes[2:] == ["no filter", "route"]
    assert (api.virtual_service, api.filter) == (before, None)


def test_whatever_is_not_as_it_should_be_is_put_right(api: FakeApi) -> None:
    apply_sticky(api)
    for spoil in (
        lambda: api.predict["route"].reverse(),
        lambda: api.predict["route"][5]["headers"].clear(),
        lambda: setattr(api, "filter", None),
    ):
        spoil()
        assert not in_place(read_sticky(api), WANTED)
        assert apply_sticky(api) is None
        assert in_place(read_sticky(api), WANTED)


def test_everybody_to_one_version_keeps_the_others_listed(api: FakeApi) -> None:
    apply_sticky(api)

    rolled_back = Routing({"v1": 100.0, "v2": 0.0}, TABLE.everything_to("v1"))
    assert apply_sticky(api, rolled_back) is None

    assert in_place(read_sticky(api), rolled_back)
    assert [d["weight"] for d in api.predict["route"]] == [10_000] * 32 + [0]
    assert api.filter is not None


def test_without_assignment_stamps_and_filter_go_again(api: FakeApi) -> None:
    apply_sticky(api)
    found = read(api)
    assert isinstance(found, RouteSeen)
    assert found.sticky is None

    assert apply(api, v1=90, v2=10) is None

    assert api.writes[2:] == ["route", "no filter"]
    first, second = api.predict["route"]
    assert first == {"destination": OWNED["destination"], "weight": 90}
    assert second == {"destination": {"host": "fraud", "subset": "v2"}, "weight": 10}
    assert read(api) == RouteSeen({"v1": 90, "v2": 10}, {"route": [first, second]}, retries=2)


def test_where_users_can_not_be_kept_the_weights_are_right_and_no_filter_stands(
    api: FakeApi,
) -> None:
    apply_sticky(api)
    api.policy = {"trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}}
    seen = read_sticky(api)
    assert seen.unsticky is not None
    assert seen.unsticky.reason == "ConsistentHash"

    found = apply_sticky(api, Routing({"v1": 100.0, "v2": 0.0}, TABLE.everything_to("v1")))

    assert found == seen.unsticky
    assert api.filter is None
    assert read_sticky(api).split == {"v1": 100, "v2": 0}
    assert read_sticky(api).sticky is False


COPIED = experiment(
    assignment={"header": "x-user-id", "buckets": 32}, shadow={"modelVersion": "v3", "percent": 30}
)
COPYING = Routing(WANTED.split, TABLE, Mirror("v3", 30, "v3", by_user=True), ("v3",))


def read_copied(api: FakeApi) -> RouteSeen:
    found = asyncio.run(IstioRouter(cast(Api, api)).read(COPIED))
    assert isinstance(found, RouteSeen)
    return found


def apply_copied(api: FakeApi, routing: Routing) -> Problem | None:
    return asyncio.run(IstioRouter(cast(Api, api)).apply(COPIED, routing))


def test_users_are_copied_by_their_entries_and_by_no_mirror_of_the_route(api: FakeApi) -> None:
    api.subsets = ["v1", "v2", "v3"]
    api.predict["mirrors"] = [THEIRS, OURS]
    # The older field is in the way of mirrors only.
    api.predict["mirror"] = {"host": "elsewhere"}

    assert apply_copied(api, COPYING) is None

    assert api.predict["mirrors"] == [THEIRS]
    assert in_place(read_copied(api), COPYING)
    cluster = "outbound|80|v3|fraud.fraud.svc.cluster.local"
    marked = [d for d in api.predict["route"] if cluster in str(d)]
    assert [d["weight"] for d in marked] == [2_700] * 32
    assert apply_copied(api, COPYING) is None
    assert api.writes == ["route", "filter"]


def test_no_caller_can_say_where_to_copy_while_copies_end(api: FakeApi) -> None:
    api.subsets = ["v1", "v2", "v3"]
    apply_copied(api, COPYING)
    ended = Routing({"v1": 100.0, "v2": 0.0}, TABLE.everything_to("v1"), None, ("v3",))
    assert not in_place(read_copied(api), ended)
    written: list[Any] = []
    api.meanwhile = lambda: written.append(copy.deepcopy((api.predict["route"], api.filter)))

    assert apply_copied(api, ended) is None

    # The weights first, under a filter that still copies; each entry removes the header.
    assert api.writes[2:] == ["route", "filter", "route"]
    entries, there = written[1]
    assert [d["headers"]["request"]["remove"] for d in entries[:32]] == [["x-mirror-to"]] * 32
    assert [d["weight"] for d in entries] == [10_000] * 32 + [0]
    assert "x-mirror-to" not in str(there)
    assert in_place(read_copied(api), ended)
    assert "x-mirror-to" not in str((api.predict, api.filter))


def test_copies_whose_end_was_interrupted_end_afterwards(api: FakeApi) -> None:
    api.subsets = ["v1", "v2", "v3"]
    apply_copied(api, COPYING)
    ended = Routing(WANTED.split, TABLE, None, ("v3",))
    apply_copied(api, ended)
    seen = api.predict["route"]
    api.predict["route"] = table_destinations(TABLE, seen, COPIED.spec, "fraud", NOBODY)
    assert not in_place(read_copied(api), ended)

    assert apply_copied(api, ended) is None

    assert in_place(read_copied(api), ended)


@pytest.mark.parametrize("without", [{}, {"assignment": None}])
def test_a_shadow_or_its_users_leave_the_spec_and_nothing_copies(
    api: FakeApi, without: dict[str, Any]
) -> None:
    api.subsets = ["v1", "v2", "v3"]
    apply_copied(api, COPYING)

    routing = Routing(WANTED.split, None if without else TABLE, None, ("v3",))
    edited = EXPERIMENT if without else STICKY
    router = IstioRouter(cast(Api, api))
    assert asyncio.run(router.apply(edited, routing)) is None

    assert "x-mirror-to" not in str((api.predict, api.filter))
    found = asyncio.run(router.read(edited))
    assert isinstance(found, RouteSeen)
    assert in_place(found, routing)


def test_a_shadow_whose_port_is_not_known_is_said_and_nothing_is_copied(api: FakeApi) -> None:
    api.subsets, api.ports = ["v1", "v2", "v3"], [80, 81]

    found = asyncio.run(IstioRouter(cast(Api, api)).read(COPIED))

    assert isinstance(found, Problem)
    assert (found.reason, found.bad_input) == ("PortUnknown", True)
    assert found.message == (
        "spec.route.istio.port: is needed for a shadow beside assignment, since "
        "fraud.fraud.svc.cluster.local has the ports 80, 81"
    )
    assert apply_copied(api, COPYING) is None
    assert [d["weight"] for d in api.predict["route"]] == [1_000, 9_000] * 32
    assert "x-mirror-to" not in str((api.predict, api.filter))
