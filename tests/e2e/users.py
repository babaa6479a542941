"""Users in front of a sticky route: what Envoy does with each, and what was to be expected."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from localcluster import Gateway
from modelexperiment.core.assignment import user_slots
from modelexperiment.core.users import UserTable
from tests.e2e.lab import HOST, Lab
from tests.e2e.servers import BUCKET, VERSION

THREADS = 3


class Got(NamedTuple):
    """What a user got."""

    version: str
    bucket: int


Found = dict[str, Got]


def users(number: int) -> list[str]:
    """Some users' ids."""
    return [f"customer-{i}" for i in range(number)]


def keyed(envoy: Gateway, route: str = "predict") -> bool:
    """Whether Envoy chooses by the user on a route, in its own configuration."""
    found = envoy.route(route) or {}
    return bool(found.get("route", {}).get("weighted_clusters", {}).get("use_hash_policy"))


def ask(
    lab: Lab,
    who: Sequence[str],
    path: str = "/predict",
    cookie: str = "",
    claims: Mapping[str, str] | None = None,
) -> Found:
    """One request for each user through the lab's Envoy; `claims` are headers."""
    return ask_at(lab.gateway, HOST, who, path, cookie, claims)


def ask_at(
    envoy: Gateway,
    host: str,
    who: Sequence[str],
    path: str = "/predict",
    cookie: str = "",
    claims: Mapping[str, str] | None = None,
) -> Found:
    """One request for each user to a host through an Envoy, on a few connections."""
    found: Found = {}

    def some(first: int) -> Found:
        return _ask(envoy, host, who[first::THREADS], path, cookie, claims or {})

    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(some, range(THREADS)):
            found |= part
    return found


def _ask(
    envoy: Gateway,
    host: str,
    who: Sequence[str],
    path: str,
    cookie: str,
    claims: Mapping[str, str],
) -> Found:
    connection = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=10)
    found = {}
    for user in who:
        headers = {"cookie": f"a=b; {cookie}={user}; c=d"} if cookie else {"x-user-id": user}
        headers["host"] = host
        # What a caller claims to be stamped is overwritten.
        headers |= {VERSION: "spoofed", BUCKET: "99999", **claims}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, (user, answer.status, body)
        assert answer.getheader(VERSION) == body
        found[user] = Got(body, int(answer.getheader(BUCKET) or -1))
    connection.close()
    return found


def table(lab: Lab, name: str = "fraud-v2") -> UserTable:
    """The table that the experiment's status shows."""
    return UserTable.model_validate(lab.status(name)["assignment"])


def predicted(shown: UserTable, who: Sequence[str]) -> Found:
    """What each user must get by a table."""
    slots = user_slots([user.encode() for user in who], shown.salt, shown.table.total)
    versions, buckets = shown.table.versions_of(slots), shown.table.buckets_of(slots)
    pairs = zip(versions.tolist(), buckets.tolist(), strict=True)
    return {user: Got(*pair) for user, pair in zip(who, pairs, strict=True)}


def z_scores(found: Found, split: dict[str, float]) -> dict[str, float]:
    """How far each version's number of users is from its share, in standard deviations."""
    number = len(found)
    scores = {}
    for version, percent in split.items():
        share = percent / 100
        seen = sum(got.version == version for got in found.values())
        scores[version] = float((seen - number * share) / np.sqrt(number * share * (1 - share)))
    return scores
