"""The command line of the doctor: settings, looks, and what is printed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

from heteroscale import __version__, logs
from heteroscale.documents import DocumentError
from heteroscale_agent.config import AgentSpec, load
from heteroscale_agent.doctor import (
    checkup,
    coordinator,
    discovered,
    engines,
    gates,
    gpus,
    host,
    permissions,
    rdma,
    routers,
    service,
    state,
    templates,
    topology,
)
from heteroscale_agent.doctor.finding import Case, Finding, Level, Look, note, ok, problem
from heteroscale_agent.doctor.show import Report, as_json, as_text

USAGE, PROBLEMS = 2, 1
DOCUMENT = Path("/etc/heteroscale/agent.yaml")
"""Where deploy/install.sh puts the configuration: taken when none is named."""
LONGEST = 600.0
"""Seconds that a look may be given."""

_LOOKS = (
    Look("host", "host", host.look),
    Look("GPUs", "GPUs", gpus.look),
    Look("GPUs", "device files", gpus.devices),
    Look("RDMA", "ports", rdma.look),
    Look("topology", "levels", topology.look),
    Look("engines", "templates", templates.look),
    Look("engines", "ports", templates.ports),
    Look("engines", "experimental", engines.unproven),
)
_AFTER_ENGINES = (
    Look("engines", "discovery", discovered.look),
    Look("routers", "routers", routers.look),
    Look("routers", "watched", routers.watched),
    Look("routers", "gates", gates.look),
    Look("state", "stateDir", state.look),
    Look("state", "logDir", state.logs),
    Look("coordinator", "identity", coordinator.identity),
    Look("coordinator", "reach", coordinator.look),
    Look("permissions", "user", permissions.look),
    Look("permissions", "engines' tags", permissions.engines),
    Look("service", "systemd", service.systemd),
    Look("service", "environment", service.environment),
    Look("service", "other agents", service.other_agents),
)


def parser() -> argparse.ArgumentParser:
    """Return the command line of the doctor."""
    result = argparse.ArgumentParser(
        prog="heteroscale doctor",
        description="Says what of this host the agent can read, reach and do, and what to do about "
        "the rest. It changes nothing, and ends even where a driver or a name server hangs.",
        epilog="Exit status: 0 no problem, 1 problems, 2 wrong usage. Run it as the agent's user.",
    )
    result.add_argument(
        "-c", "--config", type=Path, help=f"the Agent document; default {DOCUMENT} if it is there"
    )
    result.add_argument("--json", action="store_true", help="for programs; see docs/install.md")
    result.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="5s", help="how long any look may take"
    )
    return result


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 5s, at most {LONGEST:g}s")
    return value


def run(argv: list[str]) -> int:
    """Run ``heteroscale doctor …`` and return the exit status."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is told as a finding
    arguments = parser().parse_args(argv)
    path = arguments.config or (DOCUMENT if DOCUMENT.is_file() else None)
    try:
        case, first = _case(path, arguments.timeout)
    except OSError as error:
        sys.stderr.write(f"heteroscale doctor: {path}: {error.strerror}\n")
        return USAGE
    # Out of the way of what is printed: all that a look warns of is a finding too.
    logs.configure("error")
    report = Report(
        __version__,
        platform.node(),
        str(path or ""),
        [("document", first), *checkup.run(_looks(case), case)],
    )
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    told = as_json(report) if arguments.json else as_text(report, colour=colour)
    sys.stdout.write(f"{told}\n")
    return PROBLEMS if report.count(Level.PROBLEM) else 0


def _looks(case: Case) -> list[Look]:
    return [*_LOOKS, *engines.looks(case), *_AFTER_ENGINES]


def _case(path: Path | None, deadline: float) -> tuple[Case, Finding]:
    """Return the settings to look by, and what is to be said of them; raises OSError."""
    defaults = AgentSpec(coordinator="127.0.0.1:7070")
    if path is None:
        said = "none given: defaults, and nothing to start or to reach"
        todo = (
            "heteroscale doctor -c agent.yaml looks at that host's templates, engines, coordinator"
        )
        return Case(defaults, deadline, configured=False), note("document", said, todo)
    try:
        case = Case(load(path), deadline)
        # Its topology, its PATH and its secrets are what counts, not this shell's.
        pid, environ = service.agents_environment(case)
        whose = f"; environment of agent {pid}" if pid else ""
        return replace(case, environ=environ), ok("document", f"{path} is valid{whose}")
    except DocumentError as error:
        todo = "mend it (docs/agent.md); what follows was looked at with defaults"
        return Case(defaults, deadline, configured=False), problem("document", str(error), todo)
