"""The terminal: what happens, and below it the table of ``kubectl get modelexperiments``.

On a terminal the table stays in its place and is drawn over itself. Elsewhere, in a log, it is
printed again only when it says something new: that the age has grown is nothing new.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from typing import Any, TextIO

from demo.traffic import Progress

UP_AND_CLEAR = "\x1b[{lines}F\x1b[J"
HEADLINE_SECONDS = 10.0
WIDTH = 96


class Screen:
    """Lines that stay, and one block that changes."""

    def __init__(self, out: TextIO, *, columns: int) -> None:
        self._out = out
        self._redraw = out.isatty()
        self._columns = columns
        self._started = time.monotonic()
        self._drawn = 0
        self._last_table = ""
        self._last_printed = 0.0

    def say(self, text: str) -> None:
        """A line that stays, with the seconds since the start."""
        self._erase()
        seconds = time.monotonic() - self._started
        print(f"[{seconds:5.1f} s] {text}", file=self._out, flush=True)

    def write(self, text: str) -> None:
        """Text that stays."""
        self._erase()
        print(text, file=self._out, flush=True)

    def show(self, headline: str, table: str) -> None:
        """The block as it is now."""
        if self._redraw:
            lines = [line[: self._columns - 1] for line in [headline, *table.splitlines()]]
            self._erase()
            print("\n".join(lines), file=self._out, flush=True)
            self._drawn = len(lines)
            return
        now = time.monotonic()
        news = without_age(table) != self._last_table
        if news or now - self._last_printed >= HEADLINE_SECONDS:
            self.say(headline)
            self._last_printed = now
        if news:
            self.write(textwrap.indent(table.rstrip(), "  "))
            self._last_table = without_age(table)

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(UP_AND_CLEAR.format(lines=self._drawn))
            self._drawn = 0


def without_age(table: str) -> str:
    """The table without its column AGE, the last one of kubectl's plain output."""
    return "\n".join(line.rstrip().rpartition(" ")[0].rstrip() for line in table.splitlines())


def headline(progress: Progress) -> str:
    """What the client has sent, and who has answered."""
    answers = ", ".join(
        f"{version} {count:,}" for version, count in sorted(progress.answers.items())
    )
    text = f"{progress.requests:,} flights sent, {progress.rate:.0f} a second"
    text += f"; answered by {answers or 'nobody yet'}; {progress.in_the_air:,} in the air"
    failed = ", ".join(f"{version} {count:,}" for version, count in sorted(progress.errors.items()))
    text += f"; failed: {failed}" if failed else ""
    return text + (f"; outcomes lost: {progress.lost_labels:,}" if progress.lost_labels else "")


def conclusion(status: Mapping[str, Any]) -> str:
    """Verdict, decision and next steps of a status, in words."""
    lines = [
        _paragraph("phase", status.get("phase", "none yet")),
        _paragraph("verdict", status.get("verdict", "none yet")),
    ]
    for entry in status.get("analysis", []):
        lines.append(_paragraph(entry["metric"], compared(entry)))
        lines += segments(entry)
    if decision := status.get("decision"):
        risk = f"{decision['action']} (risk: {decision['riskLevel']})"
        lines += [_paragraph("decision", risk), _paragraph("reason", decision["reason"])]
        lines += [_paragraph("next step", step) for step in decision.get("nextSteps", [])]
    return "\n".join(lines)


def compared(entry: Mapping[str, Any]) -> str:
    """One metric of one challenger against the champion."""
    champion, challenger = entry["champion"], entry["challenger"]
    text = (
        f"{_value(champion)} of {champion['samples']:,.0f} flights by the champion, "
        f"{_value(challenger)} of {challenger['samples']:,.0f} by {entry['modelVersion']}"
    )
    if relative := entry.get("relative"):
        text += (
            f": {relative['effect']:+.1f} % ({relative['lower']:+.1f} to {relative['upper']:+.1f})"
        )
    if entry.get("pValue") is not None:
        text += f", anytime-valid p = {entry['pValue']:.2g}"
    return text


def segments(entry: Mapping[str, Any]) -> list[str]:
    """One line for each value of a segment that has an interval."""
    values = [value for segment in entry.get("segments", []) for value in segment["values"]]
    return [
        f"{'':13}{value['value']:<4} {relative['effect']:+6.1f} %"
        f" ({relative['lower']:+.1f} to {relative['upper']:+.1f})"
        f" of {value['challenger']['samples']:,.0f} by {entry['modelVersion']}"
        for value in values
        if (relative := value.get("relative"))
    ]


def _value(arm: Mapping[str, Any]) -> str:
    return "unknown" if arm.get("estimate") is None else f"{arm['estimate']:.3f}"


def _paragraph(label: str, text: str) -> str:
    indent = " " * 13
    return textwrap.fill(text, WIDTH, initial_indent=f"  {label:<11}", subsequent_indent=indent)
