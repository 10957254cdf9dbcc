"""``heteroscale demo``: shows the main job, and says whether it was done."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.live import Live

from heteroscale_simulator.traffic.traces import TraceError
from heteroscale_workbench.cluster.processes import ProcessError
from heteroscale_workbench.demo import report, shortage, view
from heteroscale_workbench.demo.profile import DemoProfile
from heteroscale_workbench.demo.recording import Recording
from heteroscale_workbench.demo.run import Demo, DemoOptions
from heteroscale_workbench.nvml_stub import BuildError
from heteroscale_workbench.router import RouterError

EPILOG = """\
What you see: 8 agents with simulated GPUs of two types in two S1 domains, the real sglang-router, a
coordinator on SQLite. Traffic rises (both roles grow), falls (instances are withdrawn, softly), rises
again while they are watched (they are reinstated at once), and falls for good (they are drained and
stopped). Configured durations are divided by 20. It takes about two and a half minutes.

Exit status: 0 both roles grew and shrank together, something was withdrawn and something reinstated,
and no request failed or was retried; 1 otherwise (the reasons are printed); 3 a part did not start.

--scene shortage plays another story, without a live view and a report: `chat` (priority 10) and
`batch` (priority 0) on 5 agents, with GPUs for one and a half of them. `batch` fills the fleet, `chat`
needs more, `batch` shrinks softly to its essential counts, and grows again once `chat` is calm.

With --trace, sizes and arrival pattern are those of the trace's first 15 minutes, scaled to the slow
simulated engines; how fast they come follows the same story, so that any trace shows it.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale demo",
        description="Run the main job on this machine: scale both roles, lose nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add(
        "--scene",
        choices=("main", "shortage"),
        default="main",
        help="shortage: two services on too few GPUs; the one of lower priority gives (about a minute)",
    )
    add("--headless", action="store_true", help="no live view; one line a phase")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--report", type=Path, default=Path("demo-report.html"), help="default: %(default)s")
    add("--trace", type=Path, help="requests of this trace instead of generated ones")
    add("--no-load", action="store_true", help="bring your own client; the router's URL is printed")
    add("--seed", type=int, default=1, help="of the generated requests")
    add("--keep", type=Path, metavar="DIR", help="keep logs and state there")
    add(
        "--no-drain-wait",
        action="store_true",
        help="switch every wait before TERM off, to see requests being lost: it must fail",
    )
    return result


async def play(options: DemoOptions, *, headless: bool, console: Console) -> Recording:
    """Run the demo with its view."""
    told = ""

    def tell(recording: Recording) -> None:
        nonlocal told
        now = recording.samples[-1]
        if now.phase != told:
            told = now.phase
            console.print(f"{now.t:5.0f} s  {told}")

    if headless:
        return await Demo(options, tell).run()
    with Live(view.live(Recording(0.5)), console=console, refresh_per_second=4) as live:
        return await Demo(options, lambda recording: live.update(view.live(recording))).run()


def run(argv: list[str]) -> int:
    """Run ``heteroscale demo …`` and return the exit status."""
    arguments = parser().parse_args(argv)
    console = Console()
    with ExitStack() as stack:
        folder = arguments.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="heteroscale-demo-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        profile = DemoProfile(wait_for_requests=not arguments.no_drain_wait)
        options = DemoOptions(
            folder.resolve(), profile, arguments.trace, not arguments.no_load, arguments.seed
        )
        headless = arguments.headless or not console.is_terminal
        try:
            if arguments.scene == "shortage":
                scene = shortage.Scene(options, console.print)
                return conclude_shortage(*asyncio.run(scene.run()), arguments, console)
            recording = asyncio.run(play(options, headless=headless, console=console))
        except (ProcessError, RouterError, BuildError, TraceError, ValueError, OSError) as error:
            print(f"heteroscale demo: {error}", file=sys.stderr)
            return 3
    return conclude(recording, arguments, console)


def conclude_shortage(
    high: Recording, low: Recording, arguments: argparse.Namespace, console: Console
) -> int:
    """Write the figures, print the verdict, and return the exit status."""
    found = shortage.summary(high, low)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    for name, figures in found["services"].items():
        console.print(f"{name}: {figures['requests']} requests", *figures["decisions"], sep="\n  ")
    for complaint in found["complaints"]:
        console.print(f"[red]✗[/red] {complaint}")
    if found["ok"]:
        console.print(
            f"[green]✓[/green] {shortage.LOW} gave what {shortage.HIGH} lacked and got it back; "
            "nothing was lost or retried"
        )
    return 0 if found["ok"] else 1


def conclude(recording: Recording, arguments: argparse.Namespace, console: Console) -> int:
    """Write the report and the figures, print the verdict, and return the exit status."""
    arguments.report.write_text(report.page(recording), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps(recording.summary(), indent=2) + "\n", "utf-8")
    view.summary(console, recording)
    console.print(f"report: {arguments.report}")
    return 0 if recording.summary()["ok"] else 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
