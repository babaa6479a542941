"""The report's drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from modelexperiment.core.entries import History, Interval, MetricAnalysis
from modelexperiment.core.spec import ExperimentSpec, Goal, Guardrail
from modelexperiment.core.status import ExperimentStatus, GuardrailState
from modelexperiment.report import svg, words

Series = list[float | None]


@dataclass(frozen=True)
class Timeline:
    """The history, ready to be drawn."""

    spec: ExperimentSpec
    history: History

    def series(self, name: str) -> Series:
        """The values by name; None where there are none."""
        return self.history.values.get(name, [None] * len(self.history.seconds))

    @property
    def shares(self) -> dict[str, Series]:
        """Percent by modelVersion, of the versions that it is known of."""
        return {v: self.series(f"{v}/percent") for v in self.spec.versions}

    @property
    def relative(self) -> bool:
        """Whether effects are in percent of the champion's value."""
        return self.history.scale == "relative"

    def times(self, axes: Axes) -> list[float]:
        """The points on an axis that is labelled for them."""
        unit = svg.time_axis(axes, self.history.seconds[-1])
        return [second / unit for second in self.history.seconds]

    def color(self, version: str) -> str:
        """The version's colour."""
        return svg.ARMS[self.spec.versions.index(version) % len(svg.ARMS)]


def effect_over_time(line: Timeline, entries: Sequence[MetricAnalysis]) -> Markup:
    """The effect of each challenger with its confidence sequence."""
    versions = [entry.model_version for entry in entries]

    def draw(axes: Any, width: float) -> None:
        for one, version in zip(axes, versions, strict=True):
            _effect(one, line, version)
            if len(versions) > 1:
                one.set_title(f"{version} against {line.spec.champion_version}")
        for one in axes[:-1]:
            one.set_xlabel("")
        named = axes[0].get_legend_handles_labels()
        style: dict[str, Any] = {"fontsize": 10, "handlelength": 1.5, "columnspacing": 1.2}
        axes[0].figure.legend(*named, loc="outside upper left", ncols=3, **style)

    told = " ".join(words.in_a_sentence(line.spec, entry) for entry in entries)
    height = 3.6 if len(versions) == 1 else 2.6
    return svg.drawings(draw, f"Effect over time. {told}", height, len(versions))


def _effect(axes: Axes, line: Timeline, version: str) -> None:
    names = ("effect", "lower", "upper")
    effect, lower, upper = (line.series(f"{version}/{name}") for name in names)
    times, color = line.times(axes), line.color(version)
    known = [i for i, value in enumerate(lower) if value is not None]
    at = [times[i] for i in known]
    axes.fill_between(
        at,
        [lower[i] or 0.0 for i in known],
        [upper[i] or 0.0 for i in known],
        color=color,
        alpha=0.22,
        linewidth=0,
        label="confidence sequence",
    )
    axes.plot(at, [effect[i] or 0.0 for i in known], color=color, linewidth=2, label="effect")
    axes.axhline(0, color=svg.INK, linewidth=1)
    _worth_acting_on(axes, line)
    axes.set_xlim(0, times[-1] * 1.02 or 1)
    axes.set_ylim(*_height(line, [(lower[i] or 0.0, upper[i] or 0.0) for i in known]))
    axes.set_ylabel(f"effect on {line.spec.primary.name}" + (", %" if line.relative else ""))


def _minimum(line: Timeline) -> float | None:
    smallest = line.spec.primary.minimum_effect
    if smallest is None:
        return None
    return smallest.relative if line.relative else smallest.absolute


def _worth_acting_on(axes: Axes, line: Timeline) -> None:
    minimum = _minimum(line)
    if minimum is None:
        return
    wanted = minimum if line.spec.primary.goal is Goal.INCREASE else -minimum
    axes.axhline(wanted, color=svg.GOOD, linewidth=1.4, linestyle="--", label="minimumEffect")
    axes.axhline(-wanted, color=svg.MUTED, linewidth=1, linestyle=":")


def _height(line: Timeline, reaches: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The axis' ends: what the later half of the intervals needs; the first are far wider."""
    later = reaches[len(reaches) // 2 :] or [(-1.0, 1.0)]
    minimum = _minimum(line) or 0.0
    bottom = min(-minimum, *(low for low, _ in later), 0.0)
    top = max(minimum, *(high for _, high in later), 0.0)
    margin = 0.15 * (top - bottom) or 1.0
    return bottom - margin, top + margin


def split_over_time(line: Timeline) -> Markup:
    """The split as it was routed."""

    def draw(axes: Any, width: float) -> None:
        one, below = axes[0], [0.0] * len(line.history.seconds)
        times = line.times(one)
        for version, shares in line.shares.items():
            above = [low + (share or 0.0) for low, share in zip(below, shares, strict=True)]
            color = line.color(version)
            one.fill_between(times, below, above, step="post", color=color, label=version)
            one.plot(times, above, drawstyle="steps-post", color=svg.PAPER, linewidth=1.5)
            below = above
        one.set_xlim(0, times[-1] * 1.02 or 1)
        one.set_ylim(0, 100)
        one.set_ylabel("share of traffic, %")
        one.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=10)

    last = ", ".join(
        f"{version} {share:g} %"
        for version, shares in line.shares.items()
        if (share := shares[-1]) is not None
    )
    return svg.drawings(draw, f"Split over time; at the end {last}.", 2.2)


def guardrails_over_time(line: Timeline, status: ExperimentStatus) -> Markup | None:
    """What each guardrail read for each challenger, against its limit."""
    specs = {g.name: g for g in line.spec.guardrails}
    names = [name for name in specs if any(g.name == name for g in status.guardrails)]
    if not names:
        return None

    def draw(axes: Any, width: float) -> None:
        for one, name in zip(axes, names, strict=True):
            _guardrail(one, line, specs[name], status)
        for one in axes[:-1]:
            one.set_xlabel("")

    states = "; ".join(f"{g.name} of {g.model_version}: {g.state}" for g in status.guardrails)
    return svg.drawings(draw, f"Guardrails over time. {states}.", 1.9, len(names))


def _guardrail(axes: Axes, line: Timeline, guardrail: Guardrail, status: ExperimentStatus) -> None:
    times = line.times(axes)
    for found in (g for g in status.guardrails if g.name == guardrail.name):
        series = line.series(f"{found.model_version}/guardrail/{guardrail.name}")
        at = [(t, v) for t, v in zip(times, series, strict=True) if v is not None]
        color = line.color(found.model_version)
        axes.plot(
            [t for t, _ in at], [v for _, v in at], color=color, label=found.model_version, lw=1.8
        )
        if found.state is GuardrailState.BREACH and at:
            axes.plot(*at[-1], marker="X", markersize=10, color=svg.BAD, linestyle="none")
        bounds = {guardrail.max, guardrail.min} - {None}
        if not bounds and found.limit is not None:
            bounds = {found.limit}
        for bound in bounds:
            axes.axhline(bound or 0.0, color=svg.BAD, linewidth=1.3, linestyle="--")
    axes.margins(y=0.2)
    axes.set_xlim(0, times[-1] * 1.02 or 1)
    challengers = line.spec.challengers
    whose = f" of {challengers[0]}" if len(challengers) == 1 else ""
    axes.set_title(f"{guardrail.name}{whose} (dashed: the limit)")
    if not whose:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=10)


def forest(line: Timeline, entry: MetricAnalysis, relative: bool) -> Markup:
    """A challenger's effect within every value of every segment, and as a whole."""
    rows: list[tuple[str, Interval | None, bool]] = []
    for segment in entry.segments:
        for value in segment.values:
            found = value.relative if relative else value.absolute
            rows.append((f"{segment.name} = {value.value}", found, value.significant))
    whole = entry.relative if relative else entry.absolute
    rows = [("all", whole, entry.significant), *rows]
    color = line.color(entry.model_version)

    def draw(axes: Any, width: float) -> None:
        one = axes[0]
        for height, (_, found, significant) in enumerate(rows):
            if found is None:
                one.text(0, height, "too few samples", va="center", ha="center", fontsize=10)
                continue
            one.plot([found.lower, found.upper], [height, height], color=color, linewidth=2)
            fill = color if significant else svg.PAPER
            marker = "D" if height == 0 else "o"
            one.plot(found.effect, height, marker, color=color, mfc=fill, mew=2, markersize=8)
        one.axvline(0, color=svg.INK, linewidth=1)
        one.set_yticks(range(len(rows)), [_shortened(name) for name, _, _ in rows])
        one.set_ylim(len(rows) - 0.5, -0.5)
        one.set_xlabel("effect" + (", %" if relative else ""))

    told = "; ".join(f"{name}: {words.reach(found, relative)}" for name, found, _ in rows)
    label = f"Effect of {entry.model_version} by segment. {told}."
    return svg.drawings(draw, label, 0.9 + 0.34 * len(rows))


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
