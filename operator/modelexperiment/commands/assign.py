"""`modelexperiment assign`: the version that Envoy picks for a user.

Standard input is read and answered block by block, so any number of users takes little memory. An
input error ends the command; what was printed before it stands, and JSON then stays unfinished.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from modelexperiment.commands.files import InputError, read_experiment
from modelexperiment.core.allocation import SLOTS, SegmentTable
from modelexperiment.core.assignment import trimmed, user_slots
from modelexperiment.core.manifest import Experiment

_BLOCK = 1 << 20
"""Bytes of standard input that are answered at once."""
# An encoder once, for json.dumps would make one for every user.
_encoded = json.JSONEncoder(ensure_ascii=False).encode
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Block(NamedTuple):
    """Some of the users. `unit` and the number of the first one say where a bad one stands."""

    unit: str
    first: int
    users: list[bytes]


class Assigned(NamedTuple):
    """Where a user falls."""

    user: bytes
    model_version: str
    bucket: int
    """The slot within the user's hash bucket, 0 to 9999, which decides the version."""
    hash_bucket: int | None
    """The bucket that the route stamps; None where it stamps none."""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("assign", help="the version that each user gets")
    parser.add_argument("-f", "--file", required=True, help="the manifest; - for standard input")
    parser.add_argument(
        "user", nargs="*", metavar="USER", help="default: standard input, one user a line"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument(
        "--wide", action="store_true", help="add the hash bucket, as in x-experiment-bucket"
    )
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line or an object for each user."""
    if arguments.file == "-" and not arguments.user:
        raise InputError("-f -: the manifest and the users can't both be on standard input")
    experiment = read_experiment(arguments.file)
    if experiment.spec.assignment is None:
        raise InputError(
            f"{arguments.file}: spec.assignment: is needed; without it every request is routed at "
            "random and no user has a version"
        )
    as_json = arguments.output == "json"
    blocks = _given(arguments.user) if arguments.user else _read()
    answers = (assign(experiment, _users(block, as_json)) for block in blocks)
    for part in _json(answers, arguments.wide) if as_json else _lines(answers, arguments.wide):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
    return 0


def assign(experiment: Experiment, users: Sequence[bytes]) -> list[Assigned]:
    """Where each user falls, in the table that the manifest's split starts with."""
    spec = experiment.spec
    assert spec.assignment is not None
    buckets = spec.assignment.buckets
    table = SegmentTable.initial(spec.split, spec.champion_version, buckets)
    slots = user_slots(users, experiment.salt, table.total)
    versions = table.versions_of(slots).tolist()
    in_bucket = (slots % SLOTS).tolist()
    of_bucket = table.buckets_of(slots).tolist() if buckets else [None] * len(users)
    return [Assigned(*one) for one in zip(users, versions, in_bucket, of_bucket, strict=True)]


def _users(block: Block, as_json: bool) -> list[bytes]:
    """The users of a block as Envoy hashes them; InputError at the first that is none."""
    users = [trimmed(user) for user in block.users]
    for number, user in enumerate(users, block.first):
        why = None
        if not user:
            why = "is empty, which is no user"
        elif _CONTROL.search(user):
            why = "has a control character, which no header can carry"
        elif as_json and not _is_text(user):
            why = "is not UTF-8, which JSON can't hold; the text output can"
        if why:
            got = f", got {ascii(user)[1:80]}" if user else ""
            raise InputError(f"{block.unit} {number}: {why}{got}")
    return users


def _is_text(user: bytes) -> bool:
    try:
        user.decode()
    except UnicodeDecodeError:
        return False
    return True


def _given(users: Sequence[str]) -> Iterator[Block]:
    yield Block("USER", 1, [os.fsencode(user) for user in users])


def _read() -> Iterator[Block]:
    first = 1
    while lines := sys.stdin.buffer.readlines(_BLOCK):
        yield Block("standard input, line", first, [line.rstrip(b"\r\n") for line in lines])
        first += len(lines)


def _lines(answers: Iterator[list[Assigned]], wide: bool) -> Iterator[bytes]:
    for block in answers:
        lines = []
        for user, version, bucket, hash_bucket in block:
            column = f"\t{'-' if hash_bucket is None else hash_bucket}" if wide else ""
            lines.append(user + f"\t{version}\t{bucket}{column}\n".encode())
        yield b"".join(lines)


def _json(answers: Iterator[list[Assigned]], wide: bool) -> Iterator[bytes]:
    start = "["
    for block in answers:
        yield (start + ",\n ".join(_object(user, wide) for user in block)).encode()
        start = ",\n "
    yield b"[]\n" if start == "[" else b"]\n"


def _object(user: Assigned, wide: bool) -> str:
    shown: dict[str, Any] = {
        "user": user.user.decode(),
        "bucket": user.bucket,
        "modelVersion": user.model_version,
    }
    if wide:
        shown["hashBucket"] = user.hash_bucket
    return _encoded(shown)
