"""The pages around list and report: everything that a browser is sent as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from modelexperiment.dashboard.listing import (
    Filter,
    choices,
    counted,
    in_order,
    row,
)
from modelexperiment.dashboard.markup import Html, tag, text
from modelexperiment.dashboard.summary import Summary

_COLUMNS = (
    *(("name", "Experiment"), ("phase", "Phase"), ("split", "Split"), ("lift", "Effect")),
    *(("verdict", "Verdict and decision"), ("eta", "ETA"), ("guardrails", "Guardrails")),
    ("age", "Age"),
)


class Freshness(NamedTuple):
    """Whether what is shown is what the API server has."""

    complete: bool
    """Whether all experiments have been read once."""
    trouble: str = ""
    """What keeps it from being up to date."""


def list_page(
    everything: Sequence[Summary], chosen: Filter, freshness: Freshness, now: datetime
) -> Html:
    """The list, filtered."""
    shown = in_order((s for s in everything if chosen.takes(s, now)), now)
    head = tag(
        "tr",
        *(tag("th", label, scope="col", class_=name) for name, label in _COLUMNS),
    )
    rows = text(*(row(s, s.attention.at(now)) for s in shown))
    count = counted(shown, everything, now) if freshness.complete else "reading the experiments"
    body = text(
        tag("header", tag("h1", "Experiments"), _status(freshness)),
        tag(
            "main",
            _filters(everything, chosen, now),
            tag("p", count, id="count", role="status"),
            tag(
                "table",
                tag("caption", "Experiments, what needs attention first", class_="hidden"),
                tag("thead", head),
                tag("tbody", rows, id="rows"),
            ),
            None if shown else tag("p", _nothing(everything, freshness), id="nothing"),
        ),
    )
    return _document("Experiments", body, "", "list")


def _nothing(everything: Sequence[Summary], freshness: Freshness) -> str:
    if not freshness.complete:
        return "The experiments are being read."
    return "None of them is like that." if everything else "There is no ModelExperiment here yet."


def _status(freshness: Freshness) -> Html:
    said = f"Not up to date: {freshness.trouble}" if freshness.trouble else "Up to date"
    return tag("p", said, id="live", role="status", class_="bad" if freshness.trouble else "good")


def _filters(everything: Sequence[Summary], chosen: Filter, now: datetime) -> Html:
    of_namespaces, of_phases = choices(everything, chosen, now)
    search = tag(
        "input", type="search", id="q", name="q", value=chosen.words, autocomplete="off",
        placeholder="name, metric, reason", maxlength=200,
    )  # fmt: skip
    return tag(
        "form",
        tag("p", tag("label", "Search", for_="q"), search),
        tag(
            "p",
            tag("label", "Namespace", for_="namespace"),
            tag("select", of_namespaces, id="namespace", name="namespace"),
        ),
        tag(
            "p",
            tag("label", "Phase", for_="phase"),
            tag("select", of_phases, id="phase", name="phase"),
        ),
        tag("noscript", tag("button", "Filter")),
        id="filter",
        role="search",
        method="get",
    )


def experiment_page(namespace: str, name: str, freshness: Freshness) -> Html:
    """The frame around an experiment's report."""
    title = f"{namespace}/{name}"
    body = text(
        tag(
            "header",
            tag("p", tag("a", "← All experiments", href="../../", id="back"), class_="back"),
            tag("h1", title, class_="hidden"),
            _status(freshness),
        ),
        tag(
            "main",
            tag(
                "iframe",
                src=f"{name}/report",
                title=f"Report of {title}",
                id="report",
                # No script runs in it; its own size is what the page around it reads.
                sandbox="allow-same-origin",
            ),
        ),
    )
    return _document(title, body, "../../", "experiment")


def message_page(title: str, sentence: str, root: str) -> Html:
    """A page that only says something: an error, for people."""
    body = text(
        tag("header", tag("p", tag("a", "← All experiments", href=root or "./"), class_="back")),
        tag("main", tag("h1", title), tag("p", sentence)),
    )
    return _document(title, body, root, "message")


def text_page(title: str, why: str, page: str) -> Html:
    """What stands in place of the report where that can't be drawn."""
    body = tag(
        "main",
        tag("h1", title),
        tag("p", why, class_="warn"),
        tag("pre", page, tabindex="0", aria_label="Status as text"),
    )
    return _document(title, body, "../../../", "text")


def _document(title: str, body: Html, root: str, kind: str) -> Html:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href=f"{root}static/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href=f"{root}static/style.css"),
        tag("script", src=f"{root}static/script.js", defer=True) if kind in _LIVE else None,
    )
    page = tag("html", head, tag("body", body, data_page=kind), lang="en")
    return text(Html("<!DOCTYPE html>\n"), page)


_LIVE = ("list", "experiment")
