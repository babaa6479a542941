"""Drawings as SVG that takes its colours and its font from the page that it stands in.

matplotlib draws with placeholder colours; each is then replaced by a CSS variable, so that one
drawing does for a light page, a dark page and paper.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from threading import Lock
from typing import Any
from zlib import crc32

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
GOOD, BAD = "#000005", "#000006"
ARMS = tuple(f"#0000{number:02d}" for number in range(10, 18))
"""By version, the champion's first."""
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    **{color: f"--arm-{number}" for number, color in enumerate(ARMS)},
}
WIDE, NARROW = 9.4, 4.8
"""Widths in inches of 72 px: of a desktop's page, and of a phone's."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "modelexperiment",
    # A dollar sign in a segment's value is no formula.
    "text.parse_math": False,
    "font.size": 11.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# matplotlib's settings are the process', and more than one thread may make a report.
_LOCK = Lock()
Draw = Callable[[Any, float], None]
"""Draws into the axes (one, or an array of them) for a width in inches."""


def drawings(draw: Draw, label: str, height: float, panels: int = 1) -> Markup:
    """The drawing twice, for wide and for narrow screens; the page shows one of the two.

    `label` is what a screen reader says of it; `height` is in inches, of each panel.
    """
    both = [
        Markup('<div class="{}">{}</div>').format(name, _drawing(draw, label, size, height, panels))
        for name, size in (("wide", WIDE), ("narrow", NARROW))
    ]
    return Markup("").join(both)


def _drawing(draw: Draw, label: str, width: float, height: float, panels: int) -> Markup:
    with _LOCK, mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height * panels), layout="constrained")
        axes = figure.subplots(panels, 1, sharex=panels > 1, squeeze=False)[:, 0]
        draw(axes, width)
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_inlined(out.getvalue(), label, f"d{crc32(f'{label}{width}'.encode()):x}-"))


def _inlined(text: str, label: str, prefix: str) -> str:
    """The SVG as a part of an HTML page: no prolog, ids of its own, the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    head = f'<svg role="img" aria-label="{Markup.escape(label)}" {view[0]}>'
    text = head + text[text.index(">") + 1 :]
    # Nothing refers to a group by its id, only to what is defined.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{prefix}", text)
    text = re.sub(r"font: ([^'\";]*?)(?: |)'[^;\"]*", r"font: \1 var(--font)", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text.strip()


def time_axis(axes: Axes, seconds: float) -> float:
    """Label a time axis that reaches so many seconds; gives the seconds of its unit."""
    units = ((172_800, 86_400, "days"), (7_200, 3_600, "hours"), (180, 60, "minutes"))
    size, name = next(((s, n) for least, s, n in units if seconds >= least), (1, "seconds"))
    axes.set_xlabel(f"{name} since the start")
    return float(size)
