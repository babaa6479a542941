"""Small JSON for states: lists of numbers that come back bit for bit.

Python writes a float with as many digits as identify it, so numbers survive JSON exactly. Whole
numbers are written without their ``.0``; NaN, which JSON lacks, stands for "not known" and is
written as null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelexperiment.core.stats.confidence_sequence import Array

_EXACT = 2.0**53


def encode(values: Array) -> list[Any]:
    """The values, flattened, as JSON numbers."""
    return [_number(float(value)) for value in values.ravel()]


def decode(state: Mapping[str, Any], key: str, shape: Sequence[int]) -> Array:
    """The array of this shape that `encode` wrote under ``key``.

    Raises:
        ValueError: it is missing, has another length, or holds what is no finite number.
    """
    values = state.get(key)
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
