"""How states are written: small, and back bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelexperiment.core.stats.state import decode, pack


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ([0.0, 1.0, 4_294_967_295.0], "u4"),
        ([0.5, -1.25, 0.0], "f4"),
        ([-0.0, 3.0], "f4"),
    ],
    ids=["counts", "single precision", "a negative zero"],
)
def test_four_bytes_hold_what_they_can_hold_exactly(values: list[float], packed: str) -> None:
    array = np.array(values)
    state = json.loads(json.dumps({"x": pack(array)}))

    assert state["x"].startswith(f"{packed}:")
    assert decode(state, "x", [len(values)]).tobytes() == array.tobytes()


@pytest.mark.parametrize("value", [0.1, 1e300, 4_294_967_297.0])
def test_what_they_cannot_hold_is_written_as_numbers(value: float) -> None:
    array = np.array([1.0, value])
    state = json.loads(json.dumps({"x": pack(array)}))

    assert isinstance(state["x"], list)
    assert decode(state, "x", [2]).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "text", ["f8:AAAA", "f4:?", "f4:AAA=", "f4:AAAAAA==", "", "f4:AACAfwAAgH8="]
)
def test_what_was_not_written_by_it_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="state x ") as failure:
        decode({"x": text}, "x", [2])
    assert "\n" not in str(failure.value)
