"""The page says what the status says, holds what it shows, and takes no name for markup."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="pip install modelexperiment[report]")

from modelexperiment import report
from modelexperiment.core.entries import NoveltyReport
from modelexperiment.report import words
from tests.report import examples

STYLE = Path(report.__file__).with_name("style.css").read_text()


@cache
def page(name: str) -> str:
    life = examples.ALL[name]()
    return report.page(life.experiment, life.status, {"modelexperiment": "1.2.3"})


def text(name: str) -> str:
    """What a reader sees, drawings left out."""
    plain = re.sub(r"<(style|svg).*?</\1>", " ", page(name), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", plain).split())


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("pending", "Not started yet"),
        ("started", "No verdict yet: keep testing"),
        ("undecided", "No verdict yet: keep testing"),
        ("won", "v2 won and serves everybody"),
        ("broken", "Rolled back: v1 serves everybody"),
        ("mismatch", "No verdict: the versions did not get their shares"),
        ("shadowing", "Not live yet: v2 gets copies only"),
        ("never_live", "Keep v1: v2 never went live"),
    ],
)
def test_the_decision_stands_first(name: str, title: str) -> None:
    html = page(name)
    assert f"</span> {title}</h1>" in html
    assert f"<title>fraud/fraud-v2: {title}</title>" in html


def test_a_shadow_is_shown_with_its_bounds_and_the_limit() -> None:
    said = "v2 is still being compared: 1 of 40 comparisons disagree, 2.5 % (at every look "
    assert said in text("shadowing")
    assert "limit 5 %." in text("shadowing")
    assert "Jensen-Shannon divergence" in text("shadowing")
    assert "v2 differs too often from the champion: 61 of 240 comparisons" in text("never_live")
    assert "Shadow" not in re.findall(r"<h2[^>]*>([^<]*)</h2>", page("started"))


@pytest.mark.parametrize("name", examples.ALL)
def test_it_is_html_without_an_error(name: str) -> None:
    html5lib = pytest.importorskip("html5lib")
    parser = html5lib.HTMLParser(strict=True)
    parser.parse(page(name))
    found = re.findall(r' id="([^"]+)"', page(name))
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", examples.ALL)
def test_it_loads_nothing(name: str) -> None:
    html = page(name)
    assert "<script" not in html and "<link" not in html and "@import" not in html
    links = re.findall(r'(?:src|href)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert all(link.startswith("#") for link in links)
    for link in links:
        assert f'id="{link[1:]}"' in html


def test_the_same_status_gives_the_same_page() -> None:
    life = examples.won()
    one, other = (report.page(life.experiment, life.status) for _ in range(2))
    assert one == other


def test_names_are_text_everywhere() -> None:
    html = page("three")
    assert "<b title" not in html
    # In a drawing, where a dollar sign is no formula either, and in the manifest.
    assert re.search(r"<text[^>]*>device = android &lt;b tit…</text>", html)
    assert "$1$" in html


def test_it_says_the_numbers_of_the_status() -> None:
    life = examples.won()
    entry = life.status.analysis[0]
    assert entry.relative and entry.corrected_p_value is not None
    said = text("won")
    assert words.size(entry.relative.effect, True) in said
    assert words.reach(entry.relative, True) in said
    assert f"{entry.champion.samples:,.0f} / {entry.challenger.samples:,.0f}" in said
    assert "an improvement" in said
    assert "made by modelexperiment 1.2.3" in said
    assert "alpha = 0.05" in said
    assert "exact e-process, anytime-valid interval" in said


def test_a_breach_is_named_with_value_and_limit() -> None:
    said = text("broken")
    assert "guardrail errors broke for v2" in said
    assert re.search(r"errors v2 Breach 0\.0\d+ 0\.02 ", said)


def test_a_mismatch_is_explained() -> None:
    said = text("mismatch")
    assert "The versions did not get the shares that the split gives them" in said
    assert "SampleRatioHealthy is False (Mismatch)" in said


def test_what_merely_goes_on_is_no_trouble() -> None:
    assert "What is open or not well" not in text("undecided")


def test_users_moved_are_those_of_the_changes_of_the_split() -> None:
    assert "no user was moved" in text("undecided")
    assert "routed at random" in text("won")
    spec = examples.undecided().experiment.spec
    shares: dict[str, list[float | None]] = {"v1": [90, 75, 100], "v2": [10, 25, 0]}
    assert "moved 40 % of the users" in words.users_moved(spec, shares)


def test_novelty_is_told() -> None:
    assert "shows no change over 7 days" in text("three")
    falling = NoveltyReport(block="day", blocks=9, drift="falling", p_value=0.001)
    assert words.novelty("v2", falling).startswith("The effect of v2 is falling over 9 days")


def test_drawings_are_described_and_take_the_pages_colours() -> None:
    html = page("three")
    drawings = re.findall(r"<svg [^>]*>", html)
    assert len(drawings) == 2 * 5  # effect, two forests, guardrails, split; wide and narrow
    assert all('role="img"' in head and "aria-label=" in head for head in drawings)
    assert "#0000" not in html
    assert "var(--arm-2)" in html


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_enough(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for name in ("ink", "muted", "good", "bad", "warn"):
        for ground in ("paper", "panel"):
            assert _contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    for number in range(8):
        assert _contrast(colors[f"arm-{number}"], colors["paper"]) >= 3, number


@pytest.mark.parametrize(("value", "said"), [(0.034, "p = 0.034"), (1e-9, "p < 0.0001")])
def test_a_p_value_reads_as_a_sentence_says_it(value: float, said: str) -> None:
    assert words.p_is(value) == said
