"""`modelexperiment dashboard`: the dashboard on this machine, with the rights of a kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import webbrowser
from typing import Any

from modelexperiment.commands.cluster import Refusal, add_options
from modelexperiment.commands.files import InputError
from modelexperiment.commands.report import render


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "dashboard", help="a web page of all experiments, on this machine, until Ctrl-C"
    )
    add_options(parser)
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="those of every namespace"
    )
    parser.add_argument("--port", type=int, default=8090, help="default: 8090; 0: any free one")
    parser.add_argument("--open", action="store_true", help="open it in a browser")
    parser.set_defaults(do=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; Refusal where the experiments can't be read."""
    if arguments.namespace and arguments.all_namespaces:
        raise InputError(f"--all-namespaces: goes without --namespace, got {arguments.namespace}")
    if not 0 <= arguments.port <= 65535:
        raise InputError(f"--port: must be from 0 to 65535, got {arguments.port}")
    return asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> int:
    # Imported here: the other commands need neither a client of Kubernetes nor a web server.
    from modelexperiment.adapters.experiment_feed import ExperimentFeed
    from modelexperiment.adapters.kubernetes import connect, context_namespace
    from modelexperiment.dashboard.server import Binding, Dashboard
    from modelexperiment.ports import UnavailableError

    # What the client warns of is said again, in one line, by the error that follows.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    where = arguments.context, arguments.kubeconfig
    namespace = arguments.namespace or context_namespace(*where)
    namespaces = () if arguments.all_namespaces else (namespace,)
    client = await connect(*where)
    try:
        feed = ExperimentFeed(client)
        # Once here, so that who may not read them is told so at once.
        await feed.page(None if arguments.all_namespaces else namespace, "")
        dashboard = await Dashboard.start(Binding(arguments.port), feed, render, namespaces)
        try:
            await _until_told(f"http://127.0.0.1:{dashboard.port}/", arguments)
        finally:
            await dashboard.close()
    except UnavailableError as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        raise InputError(f"--port: {error.strerror}, got {arguments.port}") from None
    finally:
        await client.close()  # type: ignore[no-untyped-call]
    return 0


async def _until_told(url: str, arguments: argparse.Namespace) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if arguments.open:
        webbrowser.open(url)
    await stop.wait()
