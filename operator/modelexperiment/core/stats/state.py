"""Small JSON for states: numbers that come back bit for bit.

Python writes a float with as many digits as identify it, so numbers survive JSON exactly. Whole
numbers are written without their ``.0``; NaN, which JSON lacks, stands for "not known" and is
written as null. What there is of each bucket is packed where that loses nothing: as base64 of
little-endian numbers of four bytes, "f4:..." for single precision and "u4:..." for whole numbers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelexperiment.core.stats.clusters import Clusters
from modelexperiment.core.stats.confidence_sequence import Array
from modelexperiment.core.stats.design import Design
from modelexperiment.core.stats.evidence import Evidence
from modelexperiment.core.stats.looks import Look
from modelexperiment.core.stats.stratified import Counts, Strata

_EXACT = 2.0**53
_PACKED = {"u4": np.dtype("<u4"), "f4": np.dtype("<f4")}
_STRATA = [(), (), (2,), (2,), (), (3,)]
_LOOK = [(2,), (2,), (), (), (), (), (2,)]


def encode(values: Array) -> list[Any]:
    """The values, flattened, as JSON numbers."""
    return [_number(float(value)) for value in values.ravel()]


def pack(values: Array) -> str | list[Any]:
    """The values, flattened, in four bytes each where that is exact, else as `encode`."""
    flat = values.ravel()
    for name in _PACKED:
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = flat.astype(_PACKED[name])
        if narrow.astype(np.float64).tobytes() == flat.tobytes():
            return f"{name}:{base64.b64encode(narrow.tobytes()).decode()}"
    return encode(values)


def _unpacked(text: str) -> list[float]:
    name, _, data = text.partition(":")
    try:
        return [
            float(x) for x in np.frombuffer(base64.b64decode(data, validate=True), _PACKED[name])
        ]
    except (KeyError, ValueError):
        return []


def decode(state: Mapping[str, Any], key: str, shape: Sequence[int]) -> Array:
    """The array of this shape that `encode` wrote under ``key``.

    Raises:
        ValueError: it is missing, has another length, or holds what is no finite number.
    """
    values = state.get(key)
    if isinstance(values, str):
        values = _unpacked(values) or values
    length = math.prod(shape)
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"state {key} is {values!r:.60}, not a list of {length} numbers")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value)):
            raise ValueError(f"state {key} holds {value!r:.60}, not a finite number")
    numbers = [math.nan if value is None else float(value) for value in values]
    return np.array(numbers, dtype=np.float64).reshape(tuple(shape))


def _number(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    whole = value.is_integer() and abs(value) < _EXACT and math.copysign(1.0, value) > 0
    return int(value) if whole or (value.is_integer() and -_EXACT < value < 0) else value


def evidence_to_state(evidence: Evidence) -> dict[str, Any]:
    """The evidence as a JSON object; what is all zero is not written."""
    scales = np.array([evidence.effect_scale, evidence.scale])
    state: dict[str, Any] = {
        "samples": encode(evidence.samples),
        "sums": encode(evidence.sums),
        "strata": encode(_join(evidence.strata)),
        "scales": encode(scales),
        "look": encode(_join(evidence.look)),
        "logP": encode(evidence.log_p),
    }
    optional = {
        "pending": _join(evidence.pending),
        "pendingBuckets": evidence.pending_buckets,
        "logE": evidence.log_e,
    }
    by_bucket = {
        "influence": evidence.clusters.influence,
        "bucketSamples": evidence.clusters.samples,
    }
    state |= {key: encode(value) for key, value in optional.items() if value.any()}
    return state | {key: pack(value) for key, value in by_bucket.items() if value.any()}


def evidence_from_state(design: Design, state: Mapping[str, Any]) -> Evidence:
    """The evidence that `evidence_to_state` wrote.

    Raises:
        ValueError: the state is not one, or not one of this design.
    """
    empty = Evidence.start(design)

    def read(key: str, like: Array) -> Array:
        return decode(state, key, like.shape) if key in state else like

    effect_scale, scale = decode(state, "scales", [2])
    clusters = Clusters(
        read("influence", empty.clusters.influence),
        read("bucketSamples", empty.clusters.samples),
    )
    pending = decode(state, "pending", [6]) if "pending" in state else _join(empty.pending)
    return Evidence(
        samples=decode(state, "samples", [2]),
        sums=decode(state, "sums", [2]),
        pending=Counts(*_split(pending, [(2,)] * 3)),
        pending_buckets=read("pendingBuckets", empty.pending_buckets),
        strata=Strata(*_split(decode(state, "strata", [10]), _STRATA)),
        clusters=clusters,
        log_e=read("logE", empty.log_e),
        effect_scale=np.asarray(effect_scale),
        scale=np.asarray(scale),
        look=Look(*_split(decode(state, "look", [10]), _LOOK)),
        log_p=decode(state, "logP", [1]).reshape(()),
    )


def _join(parts: Strata | Look | Counts) -> Array:
    return np.concatenate([np.ravel(value) for value in vars(parts).values()])


def _split(flat: Array, sizes: Sequence[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([math.prod(size) for size in sizes])[:-1]
    pieces = np.split(flat, ends)
    return [piece.reshape(size) for piece, size in zip(pieces, sizes, strict=True)]
