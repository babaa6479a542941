"""`modelexperiment replay`: the status that the operator would have written."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tests.commands.conftest import FIRST, Desk, by_bucket, polls
from tests.core.builders import ACCURACY, ERRORS
from tests.core.shadowed import CHALLENGER

USERS = {"header": "x-user-id", "buckets": 32, "bucketLabel": "bucket"}
DEVICE = {"name": "device", "label": "device_type", "values": ["ios", "web"]}
REGION = {"name": "region", "label": "region", "values": ["eu", "us"]}
MANUAL = {"onWin": "Manual"}
BETTER: Any = {"v1": (200, 100), "v2": (200, 130)}


def replayed(desk: Desk, data: str, *options: str, **fields: Any) -> dict[str, Any]:
    arguments = ("--data", data, "-o", "json", *options)
    answer = desk.run("replay", "-f", desk.manifest(**fields), *arguments)
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_a_run_is_replayed_to_its_verdict(desk: Desk) -> None:
    status = replayed(desk, desk.rows(polls(40, **BETTER)))

    (entry,) = status["analysis"]
    assert status["verdict"] == "ChallengerBetter"
    assert status["decision"]["action"] == "FullRollout"
    assert status["phase"] == "Succeeded"
    assert entry["significant"]
    assert entry["pValue"] <= 0.05
    assert entry["absolute"]["effect"] == pytest.approx(0.15)
    assert entry["absolute"]["lower"] > 0
    assert status["routed"] == [
        {"modelVersion": "v1", "percent": 0.0},
        {"modelVersion": "v2", "percent": 100.0},
    ]


def test_without_a_difference_there_is_no_verdict_yet(desk: Desk) -> None:
    status = replayed(desk, desk.rows(polls(3, v1=(200, 100), v2=(200, 101))))

    assert (status["phase"], status["verdict"]) == ("Running", "Inconclusive")
    assert status["decision"]["action"] == "ExtendTest"
    assert status["analysis"][0]["champion"]["samples"] == 600


def test_nothing_of_the_washout_is_counted(desk: Desk) -> None:
    analysis = {"interval": "15s", "washout": "30s"}
    status = replayed(desk, desk.rows(polls(5)), analysis=analysis)

    everything = replayed(desk, desk.rows(polls(5)))["analysis"][0]["champion"]["samples"]
    assert status["analysis"][0]["champion"]["samples"] == everything * 3 / 5


def test_yaml_says_the_same_as_json(desk: Desk) -> None:
    data = desk.rows(polls(5))
    answer = desk.run("replay", "-f", desk.manifest(), "--data", data)

    assert yaml.safe_load(answer.out) == replayed(desk, data)


def test_times_may_be_in_rfc_3339(desk: Desk) -> None:
    rows = polls(5)
    seconds = replayed(desk, desk.rows(rows))
    for row in rows:
        moment = datetime.fromtimestamp(int(str(row["time"])), UTC)
        row["time"] = moment.isoformat().replace("+00:00", "Z")

    assert replayed(desk, desk.rows(rows)) == seconds


def test_the_start_is_one_interval_before_the_polls_or_as_it_is_given(desk: Desk) -> None:
    data = desk.rows(polls(2))

    assert replayed(desk, data)["startTime"] == "2026-03-01T11:59:45.000Z"
    given = replayed(desk, data, "--start", "2026-03-01T11:59:00Z")
    assert given["startTime"] == "2026-03-01T11:59:00.000Z"


def test_many_experiments_give_a_line_each_as_if_alone(desk: Desk) -> None:
    same, better = polls(20), polls(20, **BETTER)
    rows = [
        {"experiment": name, **row}
        for pair in zip(same, better, strict=True)
        for name, row in zip(("same", "better"), pair, strict=True)
    ]
    data = desk.rows(rows)
    answer = desk.run("replay", "-f", desk.manifest(), "--data", data, "-o", "json")

    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [line["experiment"] for line in found] == ["same", "better"]
    assert found[0]["status"] == replayed(desk, desk.rows(same))
    assert found[1]["status"] == replayed(desk, desk.rows(better))


def test_many_more_experiments_are_replayed_on_all_cores_in_their_order(desk: Desk) -> None:
    names = [f"e{number}" for number in range(24)]
    rows = [{"experiment": name, **row} for row in polls(4) for name in names]
    arguments = ("-f", desk.manifest(), "--data", desk.rows(rows), "-o", "json")

    answer = desk.run("replay", *arguments)

    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [line["experiment"] for line in found] == names
    alone = replayed(desk, desk.rows(polls(4)))
    assert all(line["status"] == alone for line in found)


def test_the_order_of_rows_within_a_poll_makes_no_difference(desk: Desk) -> None:
    draw = random.Random(3)
    amount = {"name": "accuracy", "role": "Primary"}
    amount["mean"] = {"sum": "a", "count": "b", "sumSquares": "c"}  # type: ignore[assignment]
    fields = {"metrics": [amount], "assignment": USERS, "segments": [DEVICE]}
    rows = []
    for poll in by_bucket(polls(12, v1=(20, 0), v2=(20, 0)), 32, lambda _: 0):
        for device in ("ios", "web", "tv"):
            total, squares = draw.uniform(10, 30), draw.uniform(60, 90)
            rows.append({**poll, "segment": device, "sum": total, "sumSquares": squares})
    ordered = replayed(desk, desk.rows(rows), **fields)
    shuffled = sorted(rows, key=lambda row: (row["time"], draw.random()))

    assert replayed(desk, desk.rows(shuffled), **fields) == ordered
    assert ordered["analysis"][0]["absolute"]


def test_users_are_compared_by_their_buckets(desk: Desk) -> None:
    rows = by_bucket(polls(60, v1=(20, 10), v2=(20, 12)), 32, lambda bucket: bucket % 5 - 2)

    status = replayed(desk, desk.rows(rows), assignment=USERS, rollout=MANUAL)

    (entry,) = status["analysis"]
    assert entry["method"] == "asymptotic confidence sequence, robust by hash bucket of users"
    assert entry["champion"]["samples"] == entry["challenger"]["samples"] > 0
    assert entry["absolute"]["effect"] == pytest.approx(0.1)
    ratio = status["sampleRatio"]
    assert (ratio["observed"], ratio["mismatch"]) == ({"v1": 0.5, "v2": 0.5}, False)


def test_a_plan_for_users_takes_their_design_effect_into_account(desk: Desk) -> None:
    rows = by_bucket(polls(5, v1=(20, 10), v2=(20, 10)), 32, lambda bucket: bucket % 9 - 4)

    users = replayed(desk, desk.rows(rows), assignment=USERS, rollout=MANUAL)
    requests = replayed(desk, desk.rows(rows), assignment=USERS, analysis={"unit": "Request"})

    effect = users["analysis"][0]["designEffect"]
    assert effect > 1
    assert "designEffect" not in requests["analysis"][0]
    needed = [status["plan"]["samplesNeeded"] for status in (users, requests)]
    assert needed[0] == pytest.approx(needed[1] * effect, rel=0.01)


def test_a_split_that_loses_users_is_seen_by_their_buckets(desk: Desk) -> None:
    rows = by_bucket(polls(100, v1=(20, 10), v2=(12, 6)), 32, lambda bucket: bucket % 3 - 1)
    for row in rows:
        row["count"] = int(str(row["count"])) + int(str(row["bucket"])) % 2

    status = replayed(desk, desk.rows(rows), assignment=USERS)

    assert status["sampleRatio"]["mismatch"]
    assert status["phase"] == "Running"
    assert status.get("verdict", "Inconclusive") == "Inconclusive"


def test_a_loss_of_users_is_warned_of_before_it_freezes(desk: Desk) -> None:
    seen = []
    for left in range(20, 3, -1):
        rows = by_bucket(polls(4, v1=(20, 2), v2=(left, 2)), 32, lambda bucket: bucket % 3 - 1)
        for row in rows:
            # Buckets differ in size, and in how they fall on the arms.
            factor = 7 if row["modelVersion"] == "v1" else 11
            row["count"] = int(str(row["count"])) + int(str(row["bucket"])) * factor % 5
        status = replayed(desk, desk.rows(rows), assignment=USERS, rollout=MANUAL)
        condition = next(c for c in status["conditions"] if c["type"] == "SampleRatioHealthy")
        seen.append((condition["reason"], condition["status"], status["sampleRatio"]["pValue"]))
    warned = [p for reason, _, p in seen if reason == "Suspicious"]

    assert list(dict.fromkeys((reason, state) for reason, state, _ in seen)) == [
        ("AsConfigured", "True"),
        ("Suspicious", "True"),
        ("Mismatch", "False"),
    ]
    assert all(0.001 < p <= 0.01 for p in warned)


@pytest.mark.parametrize(
    ("assignment", "reason", "says"),
    [
        (USERS, "NoBucketLabel", "spec.assignment.bucketLabel"),
        ({"header": "x-user-id"}, "NoBucketLabel", "spec.assignment.bucketLabel"),
        ({"header": "x-user-id", "buckets": 0}, "NoBuckets", "spec.assignment.buckets"),
    ],
)
def test_users_without_buckets_have_no_verdict_and_are_told_what_to_add(
    desk: Desk, assignment: dict[str, Any], reason: str, says: str
) -> None:
    status = replayed(desk, desk.rows(polls(40, **BETTER)), assignment=assignment)

    (entry,) = status["analysis"]
    conditions = {c["type"]: c for c in status["conditions"]}
    condition, ratio = conditions["VerdictReached"], conditions["SampleRatioHealthy"]
    assert status["verdict"] == "Inconclusive"
    assert "pValue" not in entry
    assert entry["champion"]["samples"] == 8_000
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert says in condition["message"]
    assert (ratio["status"], ratio["reason"]) == ("Unknown", "NoBucketLabel")


def test_requests_may_be_taken_as_the_unit_in_spite_of_users(desk: Desk) -> None:
    status = replayed(
        desk,
        desk.rows(polls(40, **BETTER)),
        assignment=USERS,
        analysis={"unit": "Request"},
    )

    assert status["verdict"] == "ChallengerBetter"


def in_segments(rows: list[dict[str, object]], effects: dict[str, int]) -> list[dict[str, object]]:
    """The rows once for each segment, with that much added to the challenger's successes."""
    return [
        {
            **row,
            "segment": name,
            "sum": int(str(row["sum"])) + (added if row["modelVersion"] == "v2" else 0),
        }
        for row in rows
        for name, added in effects.items()
    ]


def test_each_value_of_a_segment_has_its_own_numbers(desk: Desk) -> None:
    rows = in_segments(polls(12), {"ios": 20, "web": 0, "tv": 0})
    fields = {"segments": [DEVICE], "rollout": MANUAL}

    status = replayed(desk, desk.rows(rows), **fields)

    (entry,) = status["analysis"]
    (segment,) = entry["segments"]
    ios, web = segment["values"]
    assert segment["name"] == "device"
    assert entry["champion"]["samples"] == 3_600
    assert [v["champion"]["samples"] for v in (ios, web)] == [1_200, 1_200]
    assert ios["absolute"]["effect"] == pytest.approx(0.2)
    assert web["absolute"]["effect"] == pytest.approx(0)
    assert (ios["significant"], web["significant"]) == (True, False)
    assert ios["correctedPValue"] == pytest.approx(2 * ios["pValue"], rel=0.01)
    assert segment["heterogeneity"]["pValue"] < 0.001
    assert segment["heterogeneity"]["degrees"] == 1
    assert segment["overall"]["effect"] == pytest.approx(0.1)


def test_a_row_may_belong_to_several_segments(desk: Desk) -> None:
    effects = {"device=ios;region=eu": 20, "device=web;region=eu": 0, "device=web": 0}
    rows = in_segments(polls(6), effects)

    status = replayed(desk, desk.rows(rows), segments=[DEVICE, REGION])

    (entry,) = status["analysis"]
    samples = {
        f"{segment['name']}={value['value']}": value["champion"]["samples"]
        for segment in entry["segments"]
        for value in segment["values"]
    }
    assert samples == {
        "device=ios": 600,
        "device=web": 1_200,
        "region=eu": 1_200,
        "region=us": 0,
    }
    assert entry["champion"]["samples"] == 1_800


def test_events_are_held_against_the_split(desk: Desk) -> None:
    clicks = {"name": "accuracy", "role": "Primary", "rate": {"events": "clicks_total"}}
    rows = polls(80, v1=(0, 20), v2=(0, 30))

    status = replayed(desk, desk.rows(rows), metrics=[clicks], rollout=MANUAL)

    (entry,) = status["analysis"]
    # 20 events in 15 s at half of the traffic; the first poll is of two splits.
    assert entry["champion"]["estimate"] == pytest.approx(2.6667)
    assert entry["champion"]["samples"] == 79 * 7.5
    assert entry["relative"]["effect"] == pytest.approx(50)
    assert status["verdict"] == "ChallengerBetter"
    ratio = next(c for c in status["conditions"] if c["type"] == "SampleRatioHealthy")
    assert (ratio["status"], ratio["reason"]) == ("Unknown", "NothingCounted")


def test_an_exposure_in_the_data_is_taken(desk: Desk) -> None:
    clicks = {"name": "accuracy", "role": "Primary", "rate": {"events": "clicks_total"}}

    data = desk.rows(polls(10, v1=(100.5, 20), v2=(100.5, 21)))

    status = replayed(desk, data, metrics=[clicks])

    assert status["analysis"][0]["champion"]["samples"] == 1_005


def test_guardrails_are_left_out_and_that_is_said(desk: Desk) -> None:
    manifest = desk.manifest(guardrails=[ERRORS])

    answer = desk.run("replay", "-f", manifest, "--data", desk.rows(polls(3)), "-o", "json")

    assert answer.code == 0
    assert answer.err == "guardrails are not in the data and are not replayed\n"
    assert "guardrails" not in json.loads(answer.out) or not json.loads(answer.out)["guardrails"]


def test_a_gate_is_left_out_and_that_is_said(desk: Desk) -> None:
    manifest = desk.manifest(shadow=CHALLENGER)

    answer = desk.run("replay", "-f", manifest, "--data", desk.rows(polls(3)), "-o", "json")

    assert (answer.code, answer.err) == (0, "a shadow is not in the data and is not replayed\n")
    found = json.loads(answer.out)
    assert found["phase"] == "Running"
    assert found["analysis"][0]["champion"]["samples"] > 0


HEADER = "time,metric,modelVersion,segment,bucket,count,sum,sumSquares\n"
GOOD = f"{FIRST},accuracy,v1,,,10,5,\n"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (f"{FIRST},accuracy,v1,,,-1,0,", "column count: must not be negative, got -1"),
        (f"{FIRST},accuracy,v1,,,1.5,1,", "column count: must be a whole number, got 1.5"),
        (f"{FIRST},accuracy,v1,,,NaN,1,", "column count: must be a finite number, got NaN"),
        (f"{FIRST},accuracy,v1,,,inf,1,", "column count: must be a finite number, got inf"),
        (f"{FIRST},accuracy,v1,,,many,1,", "column count: must be a number, got many"),
        (f"{FIRST},accuracy,v1,,,,1,", "column count: must be a number, got nothing"),
        (f"{FIRST},accuracy,v1,,,10,11,", "column sum: must not be over the count of 10, got 11"),
        (f"{FIRST},accuracy,v1,,,10,-1,", "column sum: must not be negative, got -1"),
        (f"{FIRST},accuracy,v1,,,10,2.5,", "column sum: must be a whole number, got 2.5"),
        (f"{FIRST},accuracy,v1,,,10,5,-2", "column sumSquares: must not be negative, got -2"),
        (f"{FIRST},accuracy,v1", "column count: must be a number, got nothing"),
        (f"{FIRST},speed,v1,,,10,5,", "column metric: must be one of accuracy, got speed"),
        (f"{FIRST},accuracy,v9,,,10,5,", "column modelVersion: must be one of v1, v2, got v9"),
        (f"{FIRST - 15},accuracy,v1,,,10,5,", f"column time: goes backwards, got {FIRST - 15}"),
        ("now,accuracy,v1,,,10,5,", "column time: must be RFC 3339 or seconds since 1970, got now"),
        ("nan,accuracy,v1,,,10,5,", "column time: must be RFC 3339 or seconds since 1970, got nan"),
        (
            "2026-03-01T12:00:00,accuracy,v1,,,10,5,",
            "column time: must be RFC 3339 or seconds since 1970, got 2026-03-01T12:00:00",
        ),
        (f"{FIRST},accuracy,v1,,32,10,5,", "column bucket: must be a whole number below 32, got 3"),
        (f"{FIRST},accuracy,v1,,-1,10,5,", "column bucket: must not be negative, got -1"),
        (f"{FIRST},accuracy,v1,,x,10,5,", "column bucket: must be a number, got x"),
        (f"{FIRST},accuracy,v1,ios,,10,5,", "column segment: must be NAME=VALUE, NAME one of d"),
        (f"{FIRST},accuracy,v1,a=b,,10,5,", "column segment: must be NAME=VALUE, NAME one of d"),
    ],
)
def test_bad_rows_are_refused_by_row_and_column(desk: Desk, row: str, says: str) -> None:
    data = desk.text(HEADER + GOOD + row + "\n")
    manifest = desk.manifest(assignment=USERS, segments=[DEVICE, REGION])

    line = desk.refused("replay", "-f", manifest, "--data", data)

    assert line.startswith(f"modelexperiment: {data}: row 3, {says}")


AMOUNT = {"name": "amount", "mean": {"sum": "a", "count": "b"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; it must begin with a header"),
        (HEADER + "x" * 200_000 + GOOD, "row 2: field larger than field limit"),
        (HEADER, "has no polls"),
        (GOOD, "row 1, column time: the header has no such column, got 1772366400,accuracy,v1,,"),
        ("time,metric,count,sum\n", "row 1, column modelVersion: the header has no such column"),
        ("colour," + HEADER + "\n", "row 1, column colour: is not a known column"),
        ("time," + HEADER, "row 1, column time: stands in the header twice"),
        (HEADER + GOOD.replace("\n", ",1\n"), "row 2: has more values than the header has col"),
        (HEADER + f"{FIRST},amount,v1,,,0,5,\n", "row 2, column sum: must be 0 where the count i"),
        (
            HEADER + f"{FIRST},accuracy,v1,,3,10,5,\n",
            "row 2, column bucket: must be empty: the spec has no assignment with buckets, got 3",
        ),
    ],
)
def test_files_that_are_no_polls_are_refused(desk: Desk, text: str, says: str) -> None:
    data = desk.text(text)

    line = desk.refused("replay", "-f", desk.manifest(metrics=[ACCURACY, AMOUNT]), "--data", data)

    assert line.startswith(f"modelexperiment: {data}: {says}")


def test_a_sum_of_a_mean_may_be_negative_and_broken(desk: Desk) -> None:
    amount = {**AMOUNT, "role": "Primary"}
    data = desk.text(HEADER + f"{FIRST},amount,v1,,,10,-2.5,7\n{FIRST},amount,v2,,,10,3.5,7\n")

    (entry,) = replayed(desk, data, metrics=[amount])["analysis"]

    assert entry["champion"]["estimate"] == -0.25


def test_blank_lines_spaces_and_a_byte_order_mark_are_no_matter(desk: Desk) -> None:
    plain = replayed(desk, desk.text(HEADER + GOOD))
    untidy = "\ufeff" + HEADER.replace(",", " , ") + "\n" + GOOD.replace(",", ", ") + "\n\n"

    assert replayed(desk, desk.text(untidy)) == plain


def test_a_file_that_is_not_there_is_refused_by_its_name(desk: Desk) -> None:
    line = desk.refused("replay", "-f", desk.manifest(), "--data", "none.csv")

    assert line == "modelexperiment: none.csv: No such file or directory"


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("soon", "--start: must be RFC 3339 or seconds since 1970, got soon"),
        ("2026-03-01T13:00:00Z", "--start: must not be after the first poll, got 2026-03-01T13"),
    ],
)
def test_a_start_that_is_none_is_refused(desk: Desk, start: str, says: str) -> None:
    data = desk.rows(polls(2))

    line = desk.refused("replay", "-f", desk.manifest(), "--data", data, "--start", start)

    assert line.startswith(f"modelexperiment: {says}")


def test_an_analysis_that_can_not_be_made_is_refused(desk: Desk) -> None:
    manifest = desk.manifest(analysis={"baseline": 15})

    line = desk.refused("replay", "-f", manifest, "--data", desk.rows(polls(2)))

    assert line.startswith("modelexperiment: spec.analysis: baseline is 15.0, not between 0 and 1")
