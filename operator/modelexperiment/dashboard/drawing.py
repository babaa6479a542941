"""An effect's interval as a small drawing: where it lies to zero, seen at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from modelexperiment.core.status import Interval
from modelexperiment.dashboard.markup import Html, tag, text

WIDTH, HEIGHT = 120, 16
_MARGIN = 4
_MIDDLE, _CENTRE = HEIGHT / 2, WIDTH / 2


@dataclass(frozen=True)
class Effect:
    """The leading challenger's effect on the primary metric."""

    interval: Interval
    """In percent of the champion's value, or in the metric's own units."""
    wanted: float | None = None
    """The smallest effect worth acting on, in the same units, with the sign of the goal."""
    better: bool | None = None
    """Of a significant effect: whether it is an improvement."""


def draw(effect: Effect) -> Html:
    """The drawing. Zero is always in the middle; the text beside it says the numbers."""
    seen = effect.interval
    reach = max(abs(seen.lower), abs(seen.upper), abs(effect.wanted or 0.0))

    def at(value: float) -> str:
        share = value / reach if reach else 0.0
        return f"{_CENTRE + share * (_CENTRE - _MARGIN):.1f}"

    tone = {True: "better", False: "worse", None: "open"}[effect.better]
    wanted = effect.wanted
    return tag(
        "svg",
        _line("zero", f"{_CENTRE:g}", f"{_CENTRE:g}", 0, HEIGHT),
        _line("wanted", at(wanted), at(wanted), 1, HEIGHT - 1) if wanted else None,
        _line("reach", at(seen.lower), at(seen.upper), _MIDDLE, _MIDDLE),
        tag("circle", cx=at(seen.effect), cy=f"{_MIDDLE:g}", r=3),
        class_=f"effect {tone}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        aria_hidden="true",
    )


def _line(name: str, x1: str, x2: str, y1: float, y2: float) -> Html:
    return text(tag("line", class_=name, x1=x1, x2=x2, y1=f"{y1:g}", y2=f"{y2:g}"))
