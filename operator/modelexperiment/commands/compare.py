"""`modelexperiment compare`, the comparer, and `modelexperiment compare-send`, a log for it.

`compare` serves until it is told to stop. `compare-send` reads lines of JSON from standard input,
posts those that have the fields of a prediction, and passes over all others.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from modelexperiment.commands.files import InputError
from modelexperiment.core.fields import parse_duration

_LONGEST_WINDOW = 3600.0


def add(commands: Any) -> None:
    """Add both commands to the parser."""
    parser = commands.add_parser(
        "compare", help="the comparer: pairs of versions' predictions for the same request"
    )
    parser.add_argument("--port", default="8080", help="of /v1/predictions and /metrics")
    parser.add_argument(
        "--window", default="60s", help="in which all versions' predictions for a request come"
    )
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--tolerance", default="0", help="by which numbers may differ and agree")
    rule.add_argument(
        "--threshold", help="compare classes: whether numbers are at or above this, or below"
    )
    parser.add_argument(
        "--max-pending", default="100000", metavar="N", help="requests that are remembered at once"
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        default=os.environ.get("COMPARER_REDIS_URL", ""),
        help="share the work with other processes through this Redis; default: COMPARER_REDIS_URL",
    )
    parser.add_argument(
        "--partitions", default="8", metavar="N", help="streams in Redis, the same for all of them"
    )
    parser.add_argument(
        "--stream-length", default="100000", metavar="N", help="predictions kept in each stream"
    )
    parser.add_argument("--log-format", choices=("json", "text"), default="json")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    parser.set_defaults(do=compare)
    send = commands.add_parser(
        "compare-send", help="post the predictions in lines of JSON on standard input"
    )
    send.add_argument("url", metavar="URL", help="the comparer's, such as http://comparer:8080")
    send.set_defaults(do=send_lines)


def compare(arguments: argparse.Namespace) -> int:
    """Run the comparer."""
    # Imported here: the other commands need none of it.
    from modelexperiment.comparer.agreement import Rule
    from modelexperiment.comparer.service import Options, run_service
    from modelexperiment.logs import configure_logs

    threshold = arguments.threshold
    options = Options(
        port=_whole("--port", arguments.port, 65535),
        window=_window(arguments.window),
        most=_whole("--max-pending", arguments.max_pending, 10_000_000),
        rule=Rule(
            tolerance=_number("--tolerance", arguments.tolerance, least=0.0),
            threshold=None if threshold is None else _number("--threshold", threshold),
        ),
        redis=_redis(arguments.redis),
        partitions=_whole("--partitions", arguments.partitions, 64),
        stream_length=_whole("--stream-length", arguments.stream_length, 10_000_000),
    )
    configure_logs(arguments.log_format, arguments.log_level)
    run_service(options)
    return 0


def send_lines(arguments: argparse.Namespace) -> int:
    """Post what stands on standard input; exit code 1 where something could not be posted."""
    from modelexperiment.comparer.middleware import Sender

    try:
        sender = Sender(arguments.url)
    except ValueError as why:
        raise InputError(str(why)) from None
    passed_over = sum(not sender.put_line(line) for line in sys.stdin.buffer)
    sender.close()
    counts = sender.counts
    lost = counts["failed"]
    print(f"{counts['sent']} posted, {passed_over} lines passed over, {lost} lost", file=sys.stderr)
    return 1 if lost else 0


def _whole(option: str, text: str, most: int) -> int:
    # Longer ones are no numbers that anybody means.
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise InputError(f"{option}: must be a whole number from 1 to {most}, got {text}")
    return int(text)


def _number(option: str, text: str, least: float = -math.inf) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < least:
        bound = f" from {least:g} up" if least > -math.inf else ""
        raise InputError(f"{option}: must be a number{bound}, got {text}")
    return found


def _window(text: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as why:
        raise InputError(f"--window: {why}, got {text}") from None
    if not 0 < seconds <= _LONGEST_WINDOW:
        raise InputError(f"--window: must be over 0s and at most 1h, got {text}")
    return seconds


def _redis(url: str) -> str:
    """The URL may hold a password, so it is never shown whole."""
    if url and find_spec("redis") is None:
        raise InputError("--redis: needs pip install 'modelexperiment[comparer]'")
    parts = urlsplit(url)
    if url and (parts.scheme not in ("redis", "rediss") or not parts.hostname):
        raise InputError(f"--redis: must be redis://HOST:PORT or rediss://..., got {parts.scheme}:")
    return url
