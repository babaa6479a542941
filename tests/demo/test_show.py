"""What stands on the terminal, and what in a log."""

from __future__ import annotations

import io

from demo.show import Screen, compared, conclusion, headline, segments, without_age
from demo.traffic import Progress

TABLE = """NAME            PHASE     SPLIT           VERDICT        AGE
flight-delays   Running   v1 50 / v2 50   Inconclusive   12s
"""
STATUS = {
    "phase": "RollingOut",
    "verdict": "ChallengerBetter",
    "decision": {
        "action": "GradualRollout",
        "reason": "accuracy of v2 +8 %",
        "riskLevel": "low",
        "nextSteps": ["roll out", "watch the guardrails"],
    },
    "analysis": [
        {
            "metric": "accuracy",
            "modelVersion": "v2",
            "champion": {"samples": 5300, "estimate": 0.62345},
            "challenger": {"samples": 5250, "estimate": 0.673},
            "relative": {"effect": 8.08, "lower": 2.42, "upper": 14.0},
            "pValue": 0.0131,
        }
    ],
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_repeats_a_table_only_when_it_says_something_new() -> None:
    out = io.StringIO()
    screen = Screen(out, columns=80)
    screen.show("1 flight", TABLE)
    screen.show("2 flights", TABLE.replace("12s", "14s"))
    assert out.getvalue().count("Running") == 1
    screen.show("3 flights", TABLE.replace("Inconclusive", "Challenger"))
    text = out.getvalue()
    assert text.count("flight-delays") == 2
    assert "2 flights" not in text
    assert "\x1b" not in text


def test_a_terminal_draws_over_the_table() -> None:
    out = Terminal()
    screen = Screen(out, columns=40)
    screen.show("1 flight", TABLE)
    screen.show("2 flights", TABLE)
    before, _, after = out.getvalue().partition("\x1b[3F\x1b[J")
    assert before.startswith("1 flight\n")
    assert after.startswith("2 flights\n")
    # A line that wraps would count for two, and the next drawing would miss its place.
    assert max(map(len, after.splitlines())) == 39


def test_what_is_said_stands_above_the_table() -> None:
    out = Terminal()
    screen = Screen(out, columns=80)
    screen.show("1 flight", TABLE)
    screen.say("the operator runs")
    screen.write("the end")
    assert out.getvalue().count("\x1b[3F\x1b[J") == 1
    assert out.getvalue().endswith(" s] the operator runs\nthe end\n")


def test_the_age_is_no_news() -> None:
    assert without_age(TABLE) == without_age(TABLE.replace("12s", "3m4s"))
    assert without_age(TABLE) != without_age(TABLE.replace("Running", "Paused"))


def test_headline() -> None:
    progress = Progress(seconds=10.0, answers={"v2": 500, "v1": 1500}, errors={"v2": 30})
    assert headline(progress) == (
        "2,000 flights sent, 200 a second; answered by v1 1,500, v2 500; 0 in the air; "
        "failed: v2 30"
    )
    assert headline(Progress(lost_labels=50)).endswith("; outcomes lost: 50")
    assert headline(Progress(in_the_air=1234)).endswith("answered by nobody yet; 1,234 in the air")


def test_segments_without_an_interval_are_left_out() -> None:
    arms = {"champion": {"samples": 40}, "challenger": {"samples": 1200}}
    ua = {"value": "UA", **arms, "relative": {"effect": 12.34, "lower": -1.0, "upper": 25.7}}
    entry = {"modelVersion": "v2", "segments": [{"name": "carrier", "values": [ua]}]}
    (line,) = segments(entry)
    assert line.strip() == "UA    +12.3 % (-1.0 to +25.7) of 1,200 by v2"
    assert segments({**entry, "segments": [{"name": "carrier", "values": [{"value": "AA"}]}]}) == []
    assert segments({}) == []


def test_conclusion_tells_all_that_the_status_says() -> None:
    text = conclusion(STATUS)
    lines = text.splitlines()
    assert lines[1].split() == ["verdict", "ChallengerBetter"]
    assert "GradualRollout (risk: low)" in text
    assert [line.strip() for line in lines if "next step" in line] == [
        "next step  roll out",
        "next step  watch the guardrails",
    ]


def test_conclusion_of_an_empty_status() -> None:
    assert conclusion({}).split() == ["phase", "none", "yet", "verdict", "none", "yet"]


def test_compared_names_both_arms() -> None:
    assert compared(STATUS["analysis"][0]) == (  # type: ignore[arg-type]
        "0.623 of 5,300 flights by the champion, 0.673 of 5,250 by v2: +8.1 % (+2.4 to +14.0), "
        "anytime-valid p = 0.013"
    )


def test_compared_without_an_effect_yet() -> None:
    arms = {"champion": {"samples": 3}, "challenger": {"samples": 0}, "modelVersion": "v2"}
    assert compared(arms) == "unknown of 3 flights by the champion, unknown of 0 by v2"
