"""Selectors, and values in queries that no value can break out of."""

from __future__ import annotations

import re

import pytest

from modelexperiment.core.promql import any_of, fill, joined, parse_selector, quote


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("hits_total", "hits_total"),
        ("  hits_total  ", "hits_total"),
        ("job:hits:total", "job:hits:total"),
        ("hits_total{}", "hits_total"),
        ('hits_total{job="fraud"}', 'hits_total{job="fraud"}'),
        ('hits_total { job = "fraud" , code!~"5.." , }', 'hits_total{job="fraud", code!~"5.."}'),
        ("hits_total{job='fraud'}", "hits_total{job='fraud'}"),
        (r'hits_total{path="/a\"}b"}', r'hits_total{path="/a\"}b"}'),
        ('{__name__=~"hits|misses"}', '{__name__=~"hits|misses"}'),
        ('hits_total{job="a,b{c}"}', 'hits_total{job="a,b{c}"}'),
    ],
)
def test_a_selector_comes_back_as_it_was_meant(text: str, written: str) -> None:
    assert parse_selector(text).select() == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "sum(hits_total)",
        "sum by (version) (hits_total)",
        "rate(hits_total[5m])",
        "hits_total[5m]",
        "hits_total offset 5m",
        "hits_total + 1",
        "3",
    ],
)
def test_anything_that_is_not_a_plain_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a plain selector of counters"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("hits_total{job}", "job"),
        ('hits_total{job="a" code="b"}', 'job="a" code="b"'),
        ('hits_total{job="a"} or up{job="b"}', 'job="a"} or up{job="b"'),
        ('hits_total{job="a}', 'job="a'),
        ("hits_total{job=`a`}", "job=`a`"),
    ],
)
def test_a_matcher_that_cannot_be_read_is_shown(text: str, rest: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"can't be read at: {rest}")):
        parse_selector(text)


def test_matchers_and_a_range_are_added_to_what_was_written() -> None:
    selector = parse_selector('hits_total{job="fraud"}')

    assert (
        selector.select(['version=~"v1"'], "90s") == 'hits_total{job="fraud", version=~"v1"}[90s]'
    )


def test_a_bare_name_takes_matchers_too() -> None:
    assert parse_selector("hits_total").select(['a="b"']) == 'hits_total{a="b"}'


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("v1", r'"v1"'),
        ('v1"} or up{a="', r'"v1\x22} or up{a=\x22"'),
        ("it's `so`", r'"it\x27s \x60so\x60"'),
        ("one\ntwo", r'"one\x0atwo"'),
        ("back\\slash", r'"back\\slash"'),
        ('\\"', r'"\\\x22"'),
    ],
)
def test_no_value_can_end_the_literal_that_it_stands_in(value: str, literal: str) -> None:
    assert quote(value) == literal


def test_any_of_takes_dots_and_bars_as_they_are() -> None:
    # In the regular expression `\.`, and the literal doubles the backslash.
    assert any_of(["v1.2", "v|3"]) == r'"v1\\.2|v\\|3"'


@pytest.mark.parametrize("placeholder", ["{{version}}", "{{ version }}"])
def test_a_placeholder_is_filled_in(placeholder: str) -> None:
    query = f'errors{{version="{placeholder}",namespace="{{{{namespace}}}}"}}'

    filled = fill(query, {"version": "v2", "namespace": "fraud"})

    assert filled == 'errors{version="v2",namespace="fraud"}'


@pytest.mark.parametrize("quotes", ['"', "'", "`"])
def test_a_filled_in_value_cannot_end_any_kind_of_literal(quotes: str) -> None:
    filled = fill(
        f"errors{{version={quotes}{{{{version}}}}{quotes}}}", {"version": "\"'`} or vector(1)"}
    )

    assert filled.count(quotes) == 2
    assert filled.endswith(f"vector(1){quotes}}}")


def test_braces_in_a_value_are_not_taken_for_another_placeholder() -> None:
    assert fill("{{version}}", {"version": "{{namespace}}"}) == "{{namespace}}"


def test_an_unknown_placeholder_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown placeholder {{ver}}; known are {{version}}"):
        fill('errors{version="{{ver}}"}', {"version": "v2"})


def test_selectors_that_differ_in_the_name_alone_are_joined() -> None:
    texts = ['b_total{job="x"}', 'a:total{job="x"}', 'c_total{job="y"}', "c_total", '{job="x"}']
    every = [parse_selector(text) for text in texts]

    assert [joined(one, every).select() for one in every] == [
        '{__name__=~"a:total|b_total", job="x"}',
        '{__name__=~"a:total|b_total", job="x"}',
        'c_total{job="y"}',
        "c_total",
        '{job="x"}',
    ]


def test_a_name_among_the_matchers_is_left_to_prometheus() -> None:
    twice = parse_selector('a_total{__name__="b_total"}')
    other = parse_selector('c_total{__name__="b_total"}')

    assert joined(twice, [twice, other]) == twice
