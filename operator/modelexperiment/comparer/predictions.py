"""Reads what is posted: a JSON object, a list of them, or lines of JSON. All of it, or nothing."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from modelexperiment.comparer.agreement import Answer, answer

MAX_BODY = 1 << 20
"""Bytes that one post may have."""
MAX_ID = 200
"""Characters of a request id."""
MAX_NAME = 128
"""Characters of a model's name, and of a version's."""
MAX_TEXT = 10_000
"""Characters of a prediction that is a string."""
MAX_LIST = 10_000
"""Elements of a prediction that is a list."""
MAX_NUMBER = 1e100
"""Size of a number, so that no sum of differences can overflow."""

_FIELDS = ("requestId", "model", "modelVersion", "prediction")
_ASCII = re.compile("[!-~]+")
# Half of a surrogate pair can't be written as UTF-8, and so not exposed.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_SHOWN = 80


class Prediction(NamedTuple):
    """What one version predicted for one request."""

    request_id: str
    model: str
    version: str
    answer: Answer


class PredictionError(ValueError):
    """Bad input: one line that names field and value. `reason` is how it is counted."""

    reason = "malformed"


def read_predictions(body: bytes) -> list[Prediction]:
    """Read a post.

    Raises:
        PredictionError: naming the first bad field, and where it stands.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise PredictionError("body: must be UTF-8") from None
    found = [_prediction(given, where) for where, given in _documents(text)]
    if not found:
        raise PredictionError("body: must hold at least one prediction, got none")
    return found


def _documents(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each prediction, unchecked, with what its fields are called by."""
    first, _, rest = text.strip().partition("\n")
    if rest and _is_object(first):
        # Not splitlines(): a string of JSON may hold other ends of lines.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}: ", _load(line, f"line {number}")
        return
    document = _load(text, "body")
    if isinstance(document, list):
        yield from ((f"[{index}].", given) for index, given in enumerate(document))
    else:
        yield "", document


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _load(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except PredictionError as why:
        raise PredictionError(f"{where}: {why}") from None
    except (ValueError, RecursionError):
        shown = _shown(text.strip()) if text.strip() else "nothing"
        raise PredictionError(f"{where}: must be JSON, got {shown}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise PredictionError(f"prediction: must be finite, got {name}")


def _shown(value: Any) -> str:
    """A value, in one short line."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = ascii(text)[1:-1]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _prediction(given: Any, where: str) -> Prediction:
    if not isinstance(given, dict):
        place = where.rstrip(".: ") or "body"
        raise PredictionError(f"{place}: must be an object, got {_shown(given)}")
    for name in given:
        if name not in _FIELDS:
            raise PredictionError(
                f"{where}{_shown(name)}: is no field; there are {', '.join(_FIELDS)}"
            )
    for name in _FIELDS:
        if name not in given:
            raise PredictionError(f"{where}{name}: is needed, got nothing")
    return Prediction(
        _id(given["requestId"], f"{where}requestId"),
        # Each is kept once, however many requests it stands in.
        sys.intern(_name(given["model"], f"{where}model")),
        sys.intern(_name(given["modelVersion"], f"{where}modelVersion")),
        answer(_value(given["prediction"], f"{where}prediction")),
    )


def _id(given: Any, field: str) -> str:
    if not isinstance(given, str) or len(given) > MAX_ID or not _ASCII.fullmatch(given):
        raise PredictionError(
            f"{field}: must be a string of 1 to {MAX_ID} visible ASCII characters, got "
            f"{_shown(given)}"
        )
    return given


def _name(given: Any, field: str) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= MAX_NAME or _UNPRINTABLE.search(given):
        raise PredictionError(
            f"{field}: must be a string of 1 to {MAX_NAME} printable characters, got "
            f"{_shown(given)}"
        )
    return given


def _value(given: Any, field: str) -> float | str | bool | list[float]:
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        if len(given) > MAX_TEXT:
            raise PredictionError(
                f"{field}: must have at most {MAX_TEXT:,} characters, got {len(given):,}"
            )
        return given
    if isinstance(given, list):
        if not 0 < len(given) <= MAX_LIST:
            raise PredictionError(
                f"{field}: must have 1 to {MAX_LIST:,} elements, got {len(given):,}"
            )
        return [_number(one, f"{field}[{index}]") for index, one in enumerate(given)]
    return _number(given, field)


def _number(given: Any, field: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        kinds = "a number" if field.endswith("]") else "a number, a string, a bool or a list"
        raise PredictionError(f"{field}: must be {kinds}, got {_shown(given)}")
    # An integer may be too great for a float, and 1e999 is read as infinity.
    if not -MAX_NUMBER <= given <= MAX_NUMBER or not math.isfinite(given):
        raise PredictionError(
            f"{field}: must be finite, {MAX_NUMBER:g} at most, got {_shown(given)}"
        )
    return float(given)
