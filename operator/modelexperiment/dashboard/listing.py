"""The list of experiments: which of them, in which order, and how a row is written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from modelexperiment.core.status import Phase
from modelexperiment.dashboard.attention import Level
from modelexperiment.dashboard.drawing import draw
from modelexperiment.dashboard.markup import Html, tag, text
from modelexperiment.dashboard.summary import Summary

ASKS, GOES_ON = "attention", "active"
"""What the filter of phases may ask for beside a phase."""
_LONGEST = 200
_TONES = {
    Level.URGENT: ("bad", "urgent"),
    Level.WARNING: ("warn", "not well"),
    Level.WAITING: ("warn", "waits"),
}
_ENDED = {str(phase) for phase in Phase if phase.ended}
_PHASES: dict[str, str] = {
    Phase.ROLLED_BACK: "bad",
    Phase.SUCCEEDED: "good",
    Phase.ROLLING_OUT: "good",
    Phase.RUNNING: "good",
    Phase.PAUSED: "warn",
}


@dataclass(frozen=True)
class Filter:
    """Which experiments a reader wants to see; an empty field is all of them."""

    namespace: str = ""
    phase: str = ""
    """A phase, or one of ASKS and GOES_ON."""
    words: str = ""
    """Each of them must be found."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filter:
        """From an address' query; what is too long to be meant is cut."""
        found = (query.get(name, "")[:_LONGEST].strip() for name in ("namespace", "phase", "q"))
        namespace, phase, words = found
        return cls(namespace, phase, words.casefold())

    def takes(self, summary: Summary, now: datetime) -> bool:
        """Whether an experiment is among them."""
        if self.namespace and summary.namespace != self.namespace:
            return False
        if self.words and not all(word in summary.words for word in self.words.split()):
            return False
        level = summary.attention.at(now)
        if self.phase == ASKS:
            return level.asks
        if self.phase == GOES_ON:
            return not _ended(summary)
        return not self.phase or summary.phase == self.phase


def _ended(summary: Summary) -> bool:
    return summary.phase in _ENDED


def in_order(summaries: Iterable[Summary], now: datetime) -> list[Summary]:
    """What asks for somebody first; among equals what turned last, then by name."""
    by_name = sorted(summaries, key=lambda s: s.key)
    by_time = sorted(by_name, key=lambda s: s.changed, reverse=True)
    return sorted(by_time, key=lambda s: s.attention.at(now))


def address(namespace: str, name: str) -> str:
    """An experiment's page, seen from the list."""
    return f"experiments/{quote(namespace, safe='')}/{quote(name, safe='')}"


def row(summary: Summary, level: Level) -> Html:
    """One experiment as a row. The same row has the same `data-rev`."""
    tone, sign = _TONES.get(level, (None, None))
    cells = text(
        _name(summary, sign),
        tag("td", _badge(summary.phase), class_="phase", data_label="Phase"),
        _cell("split", "Split", summary.split),
        _effect(summary),
        _verdict(summary),
        _cell("eta", "ETA", summary.eta),
        _cell("guardrails", "Guardrails", summary.guardrails, _guardrail_tone(summary.guardrails)),
        tag("td", _age(summary.created), class_="age", data_label="Age"),
    )
    revision = f"{zlib.crc32(cells.encode()):08x}"
    key = f"{summary.namespace}/{summary.name}"
    return tag("tr", cells, class_=tone, data_key=key, data_rev=revision)


def _name(summary: Summary, sign: str | None) -> Html:
    link = tag("a", summary.name, href=address(*summary.key))
    why = summary.attention.why
    return tag(
        "th",
        tag("span", summary.namespace, class_="namespace"),
        link,
        tag("span", _shortened(why), class_="why", data_sign=sign, title=why) if why else None,
        scope="row",
        class_="name",
    )


def _badge(phase: str) -> Html:
    return tag("span", phase, class_=f"badge {_PHASES.get(phase, 'calm')}")


def _cell(name: str, label: str, value: str, tone: str | None = None) -> Html:
    return tag("td", value, class_=f"{name} {tone}" if tone else name, data_label=label)


def _effect(summary: Summary) -> Html:
    if summary.effect is None:
        return tag("td", tag("span", summary.metric, class_="metric"), class_="lift")
    return tag(
        "td",
        tag("span", f"{summary.metric}, {summary.version}", class_="metric"),
        draw(summary.effect),
        tag("span", tag("b", summary.lift), f" {summary.interval}", class_="interval"),
        class_="lift",
        data_label="Effect",
    )


def _verdict(summary: Summary) -> Html:
    action = tag("span", summary.action, class_="action") if summary.action else None
    return tag("td", summary.verdict, action, class_="verdict", data_label="Verdict")


def _guardrail_tone(states: str) -> str | None:
    if "Breach" in states:
        return "bad"
    return "warn" if "InsufficientData" in states else None


def _age(created: str) -> Html:
    # The script writes how long ago that is, so that a row does not change as time goes by.
    return tag("time", created[:10], datetime=created)


def _shortened(why: str) -> str:
    return why if len(why) <= _LONGEST else f"{why[: _LONGEST - 1]}…"


def choices(summaries: Sequence[Summary], chosen: Filter, now: datetime) -> tuple[Html, Html]:
    """The options of the filters of namespaces and of phases."""
    namespaces = sorted({s.namespace for s in summaries} | {chosen.namespace} - {""})
    first = tag("option", "all namespaces", value="")
    of_namespaces = text(
        first, *(_option(name, name, name == chosen.namespace) for name in namespaces)
    )
    asking = sum(s.attention.at(now).asks for s in summaries)
    active = sum(not _ended(s) for s in summaries)
    number = {str(phase): 0 for phase in Phase}
    for summary in summaries:
        number[summary.phase] = number.get(summary.phase, 0) + 1
    entries = [
        ("", f"all phases ({len(summaries)})"),
        (ASKS, f"needs attention ({asking})"),
        (GOES_ON, f"not ended ({active})"),
        *((phase, f"{phase} ({n})") for phase, n in number.items()),
    ]
    of_phases = text(*(_option(value, label, value == chosen.phase) for value, label in entries))
    return of_namespaces, of_phases


def _option(value: str, label: str, selected: bool) -> Html:
    return tag("option", label, value=value, selected=selected)


def counted(shown: Sequence[Summary], everything: Sequence[Summary], now: datetime) -> str:
    """How many there are, in words."""
    asking = sum(s.attention.at(now).asks for s in shown)
    number = f"{len(shown)} of {len(everything)}" if len(shown) < len(everything) else len(shown)
    noun = "experiment" if len(everything) == 1 else "experiments"
    needs = "needs" if asking == 1 else "need"
    return f"{number} {noun}; {asking or 'none'} {needs if asking else 'needs'} attention"
