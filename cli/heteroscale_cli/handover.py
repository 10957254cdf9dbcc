"""Programs of other packages behind the one name: ``heteroscale agent …``, ``heteroscale demo …``.

They are found by entry point (group ``heteroscale.commands``) and get the rest of the line before
typer or rich is imported: an agent runs for months on a GPU host and must not hold a command line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from heteroscale_cli.errors import EXIT_REFUSED

GROUP = "heteroscale.commands"

OWN_COMMANDS = frozenset(
    {
        *("apply", "cordon", "delete", "describe", "drain", "explain", "get", "pause", "plan"),
        *("reinstate", "resume", "scale", "switch-role", "topology", "uncordon"),
        *("version", "watch"),
    }
)
"""Commands of this package; known here so that they start without a search for entry points."""

DESCRIPTIONS = {
    "agent": "Run the agent of this host (sees, says, does).",
    "doctor": "Say what of this host can be read, reached and done.",
    "coordinator": "Run the coordinator (decides).",
    "schema": "Print the JSON Schema of what people write.",
    "advise": "Say from a Prometheus what the policy would do with a service's traffic.",
    "simulate": "Play a trace against a fleet in virtual time, and compare policies.",
    "fleet": "Make a fleet file for it from counts of nodes.",
    "engine-sim": "Serve completions like a real engine, without a GPU.",
    "load": "Send open-loop load, and judge every answer.",
    "demo": "Run a small fleet on this machine and watch it scale.",
    "profile": "Measure what an instance carries within its SLO: the service's targets.",
}
_EXTRAS = {
    "heteroscale_coordinator": "coordinator",
    "heteroscale_simulator": "simulator",
    "heteroscale_advisor": "advisor",
    "heteroscale_workbench": "workbench",
}


def programs() -> dict[str, EntryPoint]:
    """Return every program that is installed, by name; names of our own commands are ours."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    known = [name for name in DESCRIPTIONS if name in found]
    names = known + sorted(found.keys() - DESCRIPTIONS.keys() - OWN_COMMANDS)
    return {name: found[name] for name in names}


def describe(point: EntryPoint) -> str:
    """Return one line for the help; a program of another distribution is named by it."""
    if (line := DESCRIPTIONS.get(point.name)) is not None:
        return line
    return f"Provided by {point.dist.name if point.dist else point.module}."


def find(name: str) -> EntryPoint | None:
    """Return the program called ``name``, if it is one."""
    if name.startswith("-") or name in OWN_COMMANDS:
        return None
    return programs().get(name)


def run(point: EntryPoint, argv: list[str]) -> int:
    """Load the program and give it the rest of the line; return its exit code."""
    try:
        program: Callable[[list[str]], int] = point.load()
    except ModuleNotFoundError as error:
        print(missing(point.name, point.module, error), file=sys.stderr)  # noqa: T201
        return EXIT_REFUSED
    return program(argv)


def missing(command: str, module: str, error: ModuleNotFoundError) -> str:
    """Return the line that says which extra brings the module that was not found."""
    if (error.name or "").startswith("heteroscale"):
        return f"error: `heteroscale {command}` is not part of this installation ({error.name})"
    extra = _EXTRAS.get(module.partition(".")[0], "")
    package = f"heteroscale[{extra}]" if extra else "heteroscale"
    what = error.name or str(error)
    return f"error: `heteroscale {command}` needs {what}: pip install '{package}'"
