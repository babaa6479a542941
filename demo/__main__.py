"""``make demo``: two real models in an A/B test on real parts, from nothing to a verdict."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType

from demo import models, platforms
from demo.errors import DemoError
from demo.home import Home
from demo.platforms import Platform
from demo.run import Options, run
from demo.show import Screen
from localcluster import ClusterError, catalog
from localcluster.build import build

BREAKS = ("nothing", "errors")
REPORT = Path("flight-delays.html")
# Without one of these a browser would be one in this terminal.
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, or clean up after one; the exit code."""
    options = parser().parse_args(argv)
    if options.breaks not in BREAKS:
        print(f"demo: BREAK={options.breaks}: must be one of {', '.join(BREAKS)}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if options.down:
            Home.default().down()
            print("the demo is gone")
        else:
            demo(Home.default(), options)
    except (DemoError, ClusterError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; all that it had started has ended", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line. What breaks may also come as BREAK, which make hands on."""
    top = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    top.add_argument("--down", action="store_true", help="end what a killed demo has left behind")
    top.add_argument("--kubeconfig", type=Path, help="use this cluster, and start none")
    default = os.environ.get("BREAK") or "nothing"
    top.add_argument(
        "--break",
        dest="breaks",
        choices=BREAKS,
        default=default,
        help="errors: v2 fails and is rolled back",
    )
    top.add_argument("--rate", type=float, default=200.0, help="flights per second (200)")
    top.add_argument("--timeout", type=float, default=600.0, help="seconds to a decision (600)")
    top.add_argument("--report", type=Path, default=REPORT, help=f"where it goes ({REPORT})")
    return top


def demo(home: Home, options: argparse.Namespace) -> None:
    """Start everything, run the experiment, and end everything."""
    screen = Screen(sys.stdout, columns=shutil.get_terminal_size().columns)
    report = options.report.absolute()
    wanted = Options(options.rate, options.breaks == "errors", options.timeout, report)
    with ExitStack() as ends:
        try:
            processes = ends.enter_context(home.occupied())
            trained = models.trained(catalog.cache_root())
            screen.say("both models are trained on the flights of January to April")
            platform = ends.enter_context(_platform(home, options.kubeconfig))
            screen.say("the cluster is there: Kubernetes, Istio, Envoy, Prometheus")
            run(platform, processes, trained, screen, wanted)
        finally:
            # Whoever presses Ctrl-C twice gets an orderly end all the same.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    screen.write(f"  report     {report}")
    if sys.stdout.isatty() and any(os.environ.get(name) for name in DISPLAYS):
        webbrowser.open(report.as_uri())


def _platform(home: Home, kubeconfig: Path | None) -> AbstractContextManager[Platform]:
    """The given cluster, or one of the demo's own, whose parts are built where they are not yet."""
    if kubeconfig is not None:
        return home.on_given_cluster(kubeconfig, os.environ)
    if catalog.missing_parts():
        build(sys.stderr)
    return platforms.started(home.cluster)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
