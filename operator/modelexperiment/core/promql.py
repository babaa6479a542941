"""Just enough PromQL to count exactly: selectors, and values filled into a query.

Counting needs the raw samples of every series, so a metric names plain selectors, and anything
else (`sum by`, `rate`, `increase`) is refused with a line that says why. Grammar:
https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_SELECTOR = re.compile(r"^\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?P<body>.*)\})?\s*$", re.S)
_MATCHER = re.compile(
    r"""\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*"""
    r"""(?P<value>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')\s*(?P<comma>,|$)""",
    re.S,
)
_SPECIAL = re.compile(r"[\"'`\n]")
_NAME = "__name__"
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def quote(value: str) -> str:
    """Write a string as a PromQL literal, so that no value can end the literal it stands in."""
    return f'"{_escape(value)}"'


def _escape(value: str) -> str:
    # By code, since the other kind of quote may not be escaped by a backslash: a query's author
    # chooses the quotes, and this must do in all of them.
    return _SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", value.replace("\\", "\\\\"))


def any_of(values: Iterable[str]) -> str:
    """Write a regular expression that matches exactly these values, as a PromQL literal."""
    return quote("|".join(re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value) for value in values))


@dataclass(frozen=True)
class Selector:
    """A selector of series: a metric's name and matchers, as they were written."""

    name: str
    matchers: tuple[str, ...]

    def select(self, extra: Iterable[str] = (), window: str = "") -> str:
        """Write the selector with more matchers, and a range (such as "90s") if there is one."""
        matchers = ", ".join([*self.matchers, *extra])
        body = f"{{{matchers}}}" if matchers else ""
        return f"{self.name}{body}" + (f"[{window}]" if window else "")


def joined(selector: Selector, others: Iterable[Selector]) -> Selector:
    """One selector for the series of this and of all others that differ from it in the name alone.

    It is the selector itself where there are none.
    """
    plain = not any(matcher.startswith(_NAME) for matcher in selector.matchers)
    names = {o.name for o in others if o.matchers == selector.matchers and o.name}
    if not (plain and selector.name) or not names - {selector.name}:
        return selector
    matcher = f"{_NAME}=~{any_of(sorted({selector.name, *names}))}"
    return Selector("", (matcher, *selector.matchers))


# Every poll reads those of its experiment.
@lru_cache(maxsize=16_384)
def parse_selector(text: str) -> Selector:
    """Read a selector such as `hits_total{job="fraud"}`; ValueError where it is anything else."""
    found = _SELECTOR.match(text)
    if not found or (found["name"] is None and not (found["body"] or "").strip()):
        raise ValueError(
            'must be a plain selector of counters such as hits_total{job="fraud"}, '
            "without functions, operators or ranges: raw samples are counted exactly"
        )
    matchers, rest = [], (found["body"] or "").strip()
    while rest:
        matcher = _MATCHER.match(rest)
        if not matcher:
            raise ValueError(f"has a matcher that can't be read at: {rest[:40]}")
        matchers.append(f"{matcher['label']}{matcher['op']}{matcher['value']}")
        rest = rest[matcher.end() :].strip()
    return Selector(found["name"] or "", tuple(matchers))


def fill(query: str, values: Mapping[str, str]) -> str:
    """Fill {{name}} placeholders in, escaped; ValueError where a placeholder is not known."""

    def value_of(found: re.Match[str]) -> str:
        if found[1] not in values:
            known = ", ".join(f"{{{{{name}}}}}" for name in values)
            raise ValueError(f"has the unknown placeholder {found[0]}; known are {known}")
        return _escape(values[found[1]])

    return _PLACEHOLDER.sub(value_of, query)
