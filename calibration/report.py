"""A measured number beside its bar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelexperiment.core.stats.simulation import clopper_pearson


@dataclass(frozen=True)
class Row:
    """One question, its bar, and what was measured.

    Attributes:
        study: the situation.
        question: what is measured.
        measured: the number.
        at_most: the bar from above; None for none.
        at_least: the bar from below; None for none.
        runs: from how many experiments; 0 where the number is no rate.
    """

    study: str
    question: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None
    runs: int = 0

    @property
    def bar(self) -> str:
        """The bar in words; a number without one stands there for comparison."""
        if self.at_most is not None:
            return f"at most {self.at_most:,g}"
        return "for comparison" if self.at_least is None else f"at least {self.at_least:,g}"

    @property
    def kept(self) -> bool:
        """Whether the bar is kept."""
        high = self.at_most is not None and self.measured > self.at_most
        low = self.at_least is not None and self.measured < self.at_least
        return not (high or low)

    @property
    def value(self) -> str:
        """The number, with the 95 % interval of a rate."""
        if not self.runs:
            return f"{self.measured:,.6g}"
        low, high = clopper_pearson(round(self.measured * self.runs), self.runs)
        return f"{self.measured:.4f} ({low:.4f} to {high:.4f})"


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| situation | measured is | bar | result (95 % interval) | runs | kept |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "" if row.bar == "for comparison" else "yes" if row.kept else "**no**"
        cells = (row.study, row.question, row.bar, row.value, f"{row.runs or ''}", verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
