"""Which experiments are listed, in which order, and that nobody's words become markup."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelexperiment.dashboard.attention import Attention, Level
from modelexperiment.dashboard.listing import Filter, in_order, row
from modelexperiment.dashboard.markup import Html, tag
from modelexperiment.dashboard.pages import Freshness, experiment_page, list_page, text_page
from modelexperiment.dashboard.summary import Summary, summarize
from tests.dashboard.objects import CREATED, condition, made, of
from tests.report import examples

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
ROUGH = "<script>alert('1')</script>\" onload=\"alert(2)"
COMPLETE = Freshness(True)


def summary(name: str, level: Level, changed: str = CREATED, namespace: str = "fraud") -> Summary:
    return Summary(namespace, name, "Running", Attention(level), changed, CREATED)


def names(found: list[Summary]) -> list[str]:
    return [s.name for s in found]


def test_what_asks_stands_first_then_what_turned_last_then_the_name() -> None:
    given = [
        summary("runs-b", Level.RUNNING),
        summary("runs-a", Level.RUNNING),
        summary("ended", Level.ENDED, "2026-03-08T12:00:00Z"),
        summary("just-turned", Level.RUNNING, "2026-03-08T12:00:00Z"),
        summary("waits", Level.WAITING),
        summary("burns", Level.URGENT),
        summary("not-well", Level.WARNING),
    ]
    expected = ["burns", "not-well", "waits", "just-turned", "runs-a", "runs-b", "ended"]
    assert names(in_order(given, NOW)) == expected


def chosen(**query: str) -> list[str]:
    won = summarize(of(examples.won(), "won", "search"))
    pending = summarize(made("new", "fraud", status={"phase": "Pending"}))
    ill = condition("MetricsReady", "False", "NoSeries", "Nothing is counted.")
    warned = summarize(made("ill", "fraud", status={"phase": "Running", "conditions": [ill]}))
    asked = Filter.read(query)
    return [s.name for s in (won, pending, warned) if asked.takes(s, NOW)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["won", "new", "ill"]),
        ({"namespace": "fraud"}, ["new", "ill"]),
        ({"namespace": "frau"}, []),
        ({"phase": "Succeeded"}, ["won"]),
        ({"phase": "active"}, ["new", "ill"]),
        ({"phase": "attention"}, ["ill"]),
        ({"q": " ACCURACY counted "}, ["ill"]),
        ({"q": "challengerbetter"}, ["won"]),
        ({"q": "search/won"}, []),
        ({"q": "w" * 100_000}, []),
        ({"other": "x"}, ["won", "new", "ill"]),
    ],
)
def test_a_filter(query: dict[str, str], expected: list[str]) -> None:
    assert chosen(**query) == expected


def test_words_of_users_are_text() -> None:
    ill = condition("MetricsReady", "False", ROUGH, ROUGH)
    seen = made(status={"phase": "Running", "conditions": [ill], "summary": {"eta": ROUGH}})
    found = replace(summarize(seen), metric=ROUGH, split=ROUGH, guardrails=ROUGH, namespace=ROUGH)
    html = list_page([found], Filter(ROUGH, ROUGH, ROUGH), Freshness(True, ROUGH), NOW)
    html += list_page([found], Filter(), COMPLETE, NOW)
    html += experiment_page(ROUGH, ROUGH, Freshness(True, ROUGH)) + text_page(ROUGH, ROUGH, ROUGH)

    assert "&lt;script&gt;alert(" in html
    assert "<script>" not in html and "alert('" not in html
    tags = re.findall(r"<[a-z][^>]*>", html)
    assert not [t for t in tags if " onload" in t.replace("&quot; onload", "")]


def test_markup_is_escaped_unless_it_is_markup() -> None:
    inner = tag("b", "1 < 2")
    assert tag("p", inner, " & ", None, 3) == "<p><b>1 &lt; 2</b> &amp; 3</p>"
    assert tag("input", name='a"b', required=True, checked=False) == (
        '<input name="a&quot;b" required>'
    )
    assert isinstance(inner, Html)


def test_the_same_experiment_gives_the_same_row_and_another_state_another() -> None:
    def revision(found: Summary) -> str:
        (seen,) = re.findall(r'data-rev="(\w+)"', row(found, Level.RUNNING))
        return str(seen)

    one = summarize(of(examples.undecided()))
    assert revision(one) == revision(summarize(of(examples.undecided())))
    assert revision(one) != revision(replace(one, lift="+3 %"))


@pytest.mark.parametrize(
    ("everything", "query", "says"),
    [
        ([], Filter(), "There is no ModelExperiment here yet."),
        ([summary("a", Level.RUNNING)], Filter(phase="Stopped"), "None of them is like that."),
        ([summary("a", Level.RUNNING)], Filter(), "1 experiment; none needs attention"),
        (
            [summary("a", Level.RUNNING), summary("b", Level.URGENT)],
            Filter(phase="attention"),
            "1 of 2 experiments; 1 needs attention",
        ),
    ],
)
def test_how_many_there_are_is_said(everything: list[Summary], query: Filter, says: str) -> None:
    assert says in list_page(everything, query, COMPLETE, NOW)


def test_what_is_not_known_is_said() -> None:
    assert "The experiments are being read." in list_page([], Filter(), Freshness(False), NOW)
    said = list_page([], Filter(), Freshness(True, "API server: 403 no"), NOW)
    assert "Not up to date: API server: 403 no" in said and "Up to date" not in said


def test_it_is_html_without_an_error() -> None:
    html5lib = pytest.importorskip("html5lib")
    all_ = [summarize(of(make(), name)) for name, make in examples.ALL.items()]
    for html in (
        list_page(all_, Filter(), COMPLETE, NOW),
        experiment_page("fraud", "fraud-v2", COMPLETE),
        text_page("fraud/fraud-v2", "why", "text"),
    ):
        html5lib.HTMLParser(strict=True).parse(html)
        assert "style=" not in html and "onclick" not in html
