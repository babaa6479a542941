"""Manifests that went wrong: good ones with something in them removed, replaced or added.

They know the schema: a mutation puts in a value of the right type at the edge of what is allowed as
often as one of another type, and what people and attackers write into strings.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

from tests.crds.cases import ACCEPTED, COMPARED, ERRORS, Manifest, manifest

_WHOLE = manifest(
    champion="v1",
    assignment={"header": "x-user-id", "salt": "s", "buckets": 64, "bucketLabel": "bucket"},
    guardrails=[{**ERRORS, "failureLimit": 3, "noData": "Fail", "maxIncrease": {"relative": 50}}],
    analysis={"method": "Sequential", "alpha": 0.05, "interval": "15s", "unit": "User"},
    segments=[{"name": "device", "label": "device", "values": ["ios", "web"]}],
    rollout={"onWin": "Gradual", "steps": [25, 50, 100], "stepDuration": "1h"},
    shadow={"modelVersion": "v2", "percent": 10, "maxDivergence": 0.1, **COMPARED},
    tracking={"mlflow": {"uri": "http://mlflow:5000"}},
    alerts=[{"slack": {"secretRef": {"name": "slack"}}}, {"webhook": {"url": "http://hook"}}],
    prometheus={"url": "http://prometheus:9090"},
    paused=False,
    stop=False,
)
_STRINGS = (
    *("", " ", "v1", "v9", "-", "0", "true", "null", "5m", "1e9h", "-5s", "14d\n", "9" * 400),
    *("{{version}}", '"}', "') or vector(1) #", "a{b='c'}", "sum(rate(x[1m]))", "$(id)", "../../x"),
    *("ü" * 64, "\u202e", "%s%n", "x" * 64, "http://169.254.169.254/", "file:///etc/passwd", "((("),
)
_NUMBERS = (0, -1, 1, 2, 100, 101, 33.33, 33.333, 1e-9, 1e308, -1e308, 2**31, 2**53 + 1, 0.5, 0.05)
_OTHERS = (
    None,
    True,
    False,
    [],
    {},
    [None],
    [[]],
    {"": ""},
    {"modelVersion": "v2"},
    [1, "a", None],
)


def mutants(number: int, seed: int) -> Iterator[Manifest]:
    """Give so many manifests, each one to three mutations away from a good one."""
    draw = random.Random(seed)
    good = [*ACCEPTED.values(), _WHOLE]
    for _ in range(number):
        made = copy.deepcopy(draw.choice(good))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _mutate(made["spec"], draw)
        yield made


def _mutate(spec: Any, draw: random.Random) -> None:
    places = list(_places(spec))
    if not places:
        return
    holder, key = draw.choice(places)
    kind = draw.randrange(16)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder[key], dict):
        holder[key][draw.choice(("nme", "x" * 70, "Percent", "__proto__"))] = draw.choice(_OTHERS)
    elif kind == 2 and isinstance(holder, list):
        holder.extend(copy.deepcopy(holder[key]) for _ in range(draw.choice((1, 2, 20))))
    else:
        holder[key] = copy.deepcopy(_value(holder[key], draw))


def _value(before: Any, draw: random.Random) -> Any:
    """Nine times in ten a value of the same type."""
    if draw.random() < 0.9:
        if isinstance(before, str):
            return draw.choice(_STRINGS)
        if isinstance(before, (int, float)) and not isinstance(before, bool):
            return draw.choice(_NUMBERS)
    return draw.choice(draw.choice((_STRINGS, _NUMBERS, _OTHERS)))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in items:
        yield node, key
        if isinstance(child, (dict, list)):
            yield from _places(child)
