"""`modelexperiment status`: what is true of an experiment now, for whoever is on call."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from modelexperiment.commands.cluster import Experiments, Refusal, add_options, on_cluster
from modelexperiment.commands.files import InputError
from modelexperiment.commands.page import Page, listing

_CLEAR = "\033[H\033[2J"
_EVERY = 2.0


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "status", help="phase, split, decision, metrics and guardrails of an experiment"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="left out: all of the namespace")
    add_options(parser)
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="without NAME: those of every namespace"
    )
    parser.add_argument(
        "-o", "--output", choices=("page", "json", "yaml"), default="page", help="the raw status"
    )
    parser.add_argument("-w", "--watch", action="store_true", help="show it again as it changes")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status; Refusal where there is no such experiment."""
    if arguments.name and arguments.all_namespaces:
        raise InputError(f"--all-namespaces: goes without NAME, got {arguments.name}")

    async def work(experiments: Experiments) -> int:
        async def look() -> tuple[object, str]:
            return await _look(experiments, arguments)

        if not arguments.watch:
            print((await look())[1])
            return 0
        return await _watch(look)

    try:
        return on_cluster(arguments, work)
    except KeyboardInterrupt:
        # How a watch ends.
        return 0


async def _look(experiments: Experiments, arguments: argparse.Namespace) -> tuple[object, str]:
    """What was seen, without what changes by itself, and the text that shows it."""
    if arguments.name:
        seen = await experiments.get(arguments.name)
        status = dict(seen.get("status") or {})
        if arguments.output != "page":
            return status, _raw(status, arguments.output)
        colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        page = Page(seen, datetime.now(UTC), colours=colours)
        return [status, seen["metadata"].get("generation")], page.text()
    items = await experiments.list(everywhere=arguments.all_namespaces)
    statuses = [_named(item) for item in items]
    if arguments.output != "page":
        return statuses, _raw(statuses, arguments.output)
    if not items:
        where = (
            "any namespace" if arguments.all_namespaces else f"namespace {experiments.namespace}"
        )
        raise Refusal(f"there is no ModelExperiment in {where}")
    return statuses, listing(items, datetime.now(UTC), namespaces=arguments.all_namespaces)


def _named(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = item["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "status": item.get("status") or {},
    }


def _raw(document: object, output: str) -> str:
    if output == "json":
        return json.dumps(document)
    return yaml.safe_dump(document, sort_keys=False, width=100).rstrip()


async def _watch(look: Callable[[], Awaitable[tuple[object, str]]]) -> int:
    """Show it until interrupted: on a terminal in place, else whenever something has changed."""
    before: object = None
    terminal = sys.stdout.isatty()
    while True:
        seen, text = await look()
        if terminal or seen != before:
            print(f"{_CLEAR}{text}" if terminal else text, flush=True)
        before = seen
        await asyncio.sleep(_EVERY)
