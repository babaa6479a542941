"""What is posted is read whole, or refused with one line that names field and value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelexperiment.comparer.agreement import Answer
from modelexperiment.comparer.predictions import PredictionError, read_predictions

GOOD = {"requestId": "r1", "model": "fraud", "modelVersion": "v1", "prediction": 0.25}


def post(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_one_a_list_or_lines() -> None:
    one = read_predictions(post())
    assert one == [("r1", "fraud", "v1", ("number", 0.25))]
    assert read_predictions(b"[" + post() + b"," + post() + b"]") == one * 2
    assert read_predictions(post() + b"\n\n" + post() + b"\r\n") == one * 2
    assert read_predictions(json.dumps(GOOD, indent=2).encode()) == one


def test_a_line_break_of_another_kind_ends_no_line() -> None:
    strange = json.dumps({**GOOD, "prediction": "a\u2028b"}, ensure_ascii=False)
    found = read_predictions(f"{strange}\n{strange}".encode())
    assert [one.answer.value for one in found] == ["a\u2028b"] * 2


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (3, Answer("number", 3.0)),
        (-0.5, Answer("number", -0.5)),
        (True, Answer("bool", True)),
        ("fraud", Answer("string", "fraud")),
        ("", Answer("string", "")),
        ([0.1, 0.7, 0.2], Answer("list of 3", 1)),
        ([0.5, 0.5], Answer("list of 2", 0)),
    ],
)
def test_predictions_of_each_kind(prediction: Any, expected: Answer) -> None:
    (found,) = read_predictions(post(prediction=prediction))
    assert found.answer == expected
    assert type(found.answer.value) is type(expected.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: must be JSON, got nothing"),
        (b"\xff", "body: must be UTF-8"),
        (b"[]", "body: must hold at least one prediction, got none"),
        (b"{", "body: must be JSON, got {"),
        (b"3", "body: must be an object, got 3"),
        (b"[1]", "[0]: must be an object, got 1"),
        (b"[" * 100_000, "body: must be JSON, got [[["),
        (post() + b"\n{", "line 2: must be JSON, got {"),
        (b"\n" + post() + b"\n[]", "line 3: must be an object, got []"),
        (post() + b"\n" + post(model=""), "line 2: model: must be a string of 1 to 128"),
        (
            b"[" + post() + b"," + post(prediction=None) + b"]",
            "[1].prediction: must be a number",
        ),
        (
            post(requestId=7),
            "requestId: must be a string of 1 to 200 visible ASCII",
        ),
        (post(requestId="x" * 201), "requestId: must be a string of 1 to 200 visible ASCII"),
        (post(requestId="a\nb"), r"visible ASCII characters, got a\nb"),
        (post(modelVersion="\ud800"), "modelVersion: must be a string of 1 to 128"),
        (post(extra=1), "extra: is no field; there are requestId, model, modelVersion, prediction"),
        (b'{"requestId": "r"}', "model: is needed, got nothing"),
        (post(prediction=float("nan")), "prediction: must be finite, got NaN"),
        (post(prediction=[1, float("-inf")]), "prediction: must be finite, got -Infinity"),
        (post().replace(b"0.25", b"1e999"), "prediction: must be finite, 1e+100 at most, got Inf"),
        (post(prediction=10**101), "prediction: must be finite, 1e+100 at most, got 1000000"),
        (post().replace(b"0.25", b"9" * 5000), "body: must be JSON, got {"),
        (post(prediction={"score": 1}), 'a string, a bool or a list, got {"score": 1}'),
        (
            post(prediction="x" * 10_001),
            "must have at most 10,000 characters, got 10,001",
        ),
        (post(prediction=[]), "prediction: must have 1 to 10,000 elements, got 0"),
        (post(prediction=[0] * 10_001), "prediction: must have 1 to 10,000 elements, got 10,001"),
        (post(prediction=[0.1, "b"]), "prediction[1]: must be a number, got b"),
        (post(prediction=[0.1, True]), "prediction[1]: must be a number, got true"),
    ],
)
def test_what_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(PredictionError) as caught:
        read_predictions(body)
    told = str(caught.value)
    assert said in told
    assert "\n" not in told and len(told) < 250


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=5)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_anything_else_is_refused_in_one_line(body: bytes) -> None:
    try:
        found = read_predictions(body)
    except PredictionError as why:
        assert "\n" not in str(why)
        str(why).encode()
    else:
        assert all(one.request_id and one.model and one.version for one in found)
