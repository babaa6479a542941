"""`modelexperiment assign`: the version that Envoy picks for a user.

Of an experiment that has started, the table in its status says so, whether it is read from the
cluster or stands in the manifest; of any other it is the table that the split starts with.

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

from modelexperiment.commands import cluster
from modelexperiment.commands.files import InputError, checked_experiment, read_manifest
from modelexperiment.core import placement
from modelexperiment.core.allocation import SLOTS, SegmentTable
from modelexperiment.core.assignment import trimmed, user_slots
from modelexperiment.core.status import ExperimentStatus

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


class Routed(NamedTuple):
    """What decides about users on a route."""

    table: SegmentTable
    salt: str


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("assign", help="the version that each user gets")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-f", "--file", help="the manifest; - for standard input")
    source.add_argument("--live", metavar="NAME", help="the experiment as it is in the cluster")
    cluster.add_options(parser)
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
    if arguments.live:
        found = _live(arguments)
    else:
        found = table_of(read_manifest(arguments.file), arguments.file)
    as_json = arguments.output == "json"
    blocks = _given(arguments.user) if arguments.user else _read()
    answers = (assign(found, _users(block, as_json)) for block in blocks)
    for part in _json(answers, arguments.wide) if as_json else _lines(answers, arguments.wide):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
    return 0


def _live(arguments: argparse.Namespace) -> Routed:
    name, manifest = arguments.live, dict[str, Any]()

    async def read(experiments: cluster.Experiments) -> int:
        manifest.update(await experiments.get(name))
        return 0

    cluster.on_cluster(arguments, read)
    if not (manifest.get("status") or {}).get("assignment"):
        phase = (manifest.get("status") or {}).get("phase", "Pending")
        raise InputError(
            f"{name}: status.assignment: is not there, in phase {phase}: nobody is kept on a "
            "version by this experiment now"
        )
    return table_of(manifest, name)


def table_of(manifest: Any, name: str) -> Routed:
    """What the route says of users: as its status tells, else as its split starts."""
    experiment = checked_experiment(name, manifest)
    first = placement.asked(experiment)
    if first is None:
        raise InputError(
            f"{name}: spec.assignment: is needed; without it every request is routed at "
            "random and no user has a version"
        )
    try:
        status = ExperimentStatus.model_validate(manifest.get("status") or {})
        known = status.assignment or first
        table = known.table
    except ValueError as why:
        raise InputError(f"{name}: status: {str(why).splitlines()[0]}") from None
    if status.assignment and status.phase.ended and status.routed:
        # The table is then what a restart goes back to; the route has one version for all.
        table = table.everything_to(max(status.routed, key=lambda arm: arm.percent).model_version)
    return Routed(table, known.salt)


def assign(routed: Routed, users: Sequence[bytes]) -> list[Assigned]:
    """Where each user falls."""
    table, buckets = routed.table, routed.table.buckets
    slots = user_slots(users, routed.salt, table.total)
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
