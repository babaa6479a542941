"""Building blocks of a Grafana dashboard: panels, targets, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def lines(
    title: str,
    targets: dict[str, str],
    *,
    unit: str = "short",
    width: int = 12,
    stacked: bool = False,
    logarithmic: bool = False,
    dashed: str = "",
) -> Json:
    """Lines over time: `targets` are queries by legend; legends that match `dashed` are dashed."""
    custom: Json = {"lineWidth": 2, "fillOpacity": 40 if stacked else 0, "spanNulls": False}
    custom["stacking"] = {"mode": "normal" if stacked else "none"}
    if logarithmic:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    overrides = []
    if dashed:
        style = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}}
        overrides.append({"matcher": {"id": "byRegexp", "options": dashed}, "properties": [style]})
    panel = _panel("timeseries", title, width, 8, _targets(targets))
    panel["fieldConfig"] = {
        "defaults": {"unit": unit, "custom": custom},
        "overrides": overrides,
    }
    panel["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    return panel


def override(name: str, **custom: object) -> Json:
    """How the line of that legend looks."""
    properties = [{"id": f"custom.{key}", "value": value} for key, value in custom.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def states(title: str, query: str, legend: str, values: dict[int, tuple[str, str]]) -> Json:
    """A band per series; `values` gives the text and the color of each value."""
    options = {
        str(value): {"text": text, "color": color} for value, (text, color) in values.items()
    }
    panel = _panel("state-timeline", title, 12, 8, _targets({legend: query}))
    mapping = {"type": "value", "options": options}
    panel["fieldConfig"] = {"defaults": {"mappings": [mapping]}, "overrides": []}
    return panel


def table(title: str, columns: dict[str, str]) -> Json:
    """A row per experiment: `columns` are queries by title, joined by their common labels.

    Of the first two the label says it, and the value, always 1, is hidden.
    """
    targets = [
        {**target, "format": "table", "instant": True, "range": False, "refId": chr(ord("A") + i)}
        for i, target in enumerate(_targets(columns))
    ]
    panel = _panel("table", title, 16, 8, targets)
    names = {f"Value #{chr(ord('A') + i)}": name for i, name in enumerate(columns)}
    hidden = {"Time": True, "Value #A": True, "Value #B": True}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names}},
    ]
    percents = {"id": "byRegexp", "options": "Lift|Lower|Upper"}
    unit = {"matcher": percents, "properties": [{"id": "unit", "value": "percentunit"}]}
    panel["fieldConfig"] = {"defaults": {}, "overrides": [unit]}
    return panel


def _targets(queries: dict[str, str]) -> list[Json]:
    return [
        {
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend,
            "refId": chr(ord("A") + number),
        }
        for number, (legend, query) in enumerate(queries.items())
    ]


def _panel(kind: str, title: str, width: int, height: int, targets: list[Json]) -> Json:
    return {
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
    }


def laid_out(rows: Sequence[tuple[str, Iterator[Json]]]) -> Iterator[Json]:
    """Place the panels from left to right, and number them."""
    number, top = 1, 0
    for title, panels in rows:
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place}
        number, top, left, height = number + 1, top + 1, 0, 0
        for panel in panels:
            size = panel["gridPos"]
            if left + size["w"] > 24:
                top, left, height = top + height, 0, 0
            yield {"id": number, **panel, "gridPos": {"x": left, "y": top, **size}}
            number, left, height = number + 1, left + size["w"], max(height, size["h"])
        top += height
