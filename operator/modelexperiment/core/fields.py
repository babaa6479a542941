"""The field types that the resource is made of, and how its models are declared.

The resource is declared once, as pydantic models (`spec.py`, `status.py`). The CRD's schema is
derived from them (`crd.py`), and the commands that read a manifest without an API server parse it
with them (`manifest.py`), so the two can't differ. Python names are snake_case, the manifest's
are camelCase.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION_MESSAGE = 'must be a duration such as "30s", "5m", "72h" or "14d"'
_DURATION_LENGTH = 32
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Read a Go-style duration such as "30s", "1h30m" or "14d"; ValueError on anything else."""
    if not isinstance(text, str) or len(text) > _DURATION_LENGTH:
        raise ValueError(_DURATION_MESSAGE)
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(_DURATION_MESSAGE)
    parts = _DURATION_PART.findall(text)
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def format_duration(value: timedelta) -> str:
    """Write a duration with at most two units, the way a person says it: "2d4h", "45s"."""
    seconds = round(value.total_seconds())
    if seconds <= 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2])


def _as_duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else parse_duration(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_as_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            # A rule in place of a pattern: its message says what to write.
            "maxLength": _DURATION_LENGTH,
            "x-kubernetes-validations": [
                {"rule": f"self.matches(r'{DURATION_PATTERN}')", "message": _DURATION_MESSAGE}
            ],
        }
    ),
]


def format_time(value: datetime) -> str:
    """Write a time in RFC 3339 with milliseconds, which is what counting needs."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

# A model version becomes a label value, a subset's name and part of a PromQL query: these
# characters need no escaping in any of them.
ModelVersion = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", max_length=253)
]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=128)]
ItemName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=63)
]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$", max_length=128)
]
Query = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=2048)]


@dataclass(frozen=True)
class Rule:
    """One rule over several fields, for the API server (CEL) and for the commands (Python).

    `cel` sees the value as `self`; `holds` sees the parsed model. `field` is where the error is
    reported, relative to the model that carries the rule; `shown` prints the offending value.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    shown: Callable[[Any], object] | None = None


class Model(BaseModel):
    """A part of the resource: immutable, strict about unknown fields, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    list_keys: ClassVar[dict[str, str]] = {}
    """Which of its lists are maps (field name -> key), so that their keys are unique."""

    def dump(self) -> dict[str, Any]:
        """Give the manifest's form: camelCase, JSON types, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def exactly_one(*names: str) -> Rule:
    """Rule: exactly one of the optional fields is set."""
    listed = ", ".join(to_camel(name) for name in names)
    cel = " + ".join(f"(has(self.{to_camel(name)}) ? 1 : 0)" for name in names)

    def chosen(model: Any) -> list[str]:
        return [to_camel(name) for name in names if getattr(model, name) is not None]

    return Rule(
        cel=f"{cel} == 1",
        message=f"exactly one of {listed} must be set",
        holds=lambda model: len(chosen(model)) == 1,
        shown=lambda model: ", ".join(chosen(model)) or "none",
    )
