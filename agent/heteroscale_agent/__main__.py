"""Wires the rooms of the agent and runs them until it is told to stop.

Stopping the agent stops nothing else: engines run on, and the next agent on the same state directory
finds them again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import structlog

from heteroscale import __version__, logs
from heteroscale.channel import ChannelError, require_trust
from heteroscale.documents import DocumentError
from heteroscale_agent.body import AgentBody
from heteroscale_agent.config import AgentSpec, load
from heteroscale_agent.experimental import notes
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.hands.host import host_hands
from heteroscale_agent.identity import Identity, IdentityError, StateDirectory
from heteroscale_agent.journal import JournalError
from heteroscale_agent.link import Link, LinkSettings, Wiring
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.patience import Patience
from heteroscale_agent.probes.topology import TopologyError

log = structlog.get_logger("agent")

USAGE, FAILED = 2, 1
_MISTAKES = (DocumentError, ChannelError, IdentityError, JournalError, TopologyError, OSError)


class Pace:
    """How often to sample: as often as reports are wanted, never slower than configured."""

    def __init__(self, configured: float) -> None:
        self._configured = configured
        self.report_interval = configured

    @property
    def sample_interval(self) -> float:
        """Seconds between samples."""
        return min(self._configured, self.report_interval)

    def wanted(self, report_interval: float) -> None:
        """Take note of what the coordinator asks for."""
        self.report_interval = report_interval


async def sample(eyes: HostEyes, outbox: Outbox, pace: Pace) -> None:
    """Sample for ever; each report leaves when it is due, with the samples since the last in it."""
    clock = asyncio.get_running_loop().time
    due = report_due = clock()
    while True:
        report = await eyes.sample()
        now = clock()
        outbox.put_report(report, ready=now >= report_due)
        if now >= report_due:
            report_due = max(report_due + pace.report_interval, now)
        due = max(due + pace.sample_interval, now)
        await asyncio.sleep(max(0.0, due - clock()))


async def serve(spec: AgentSpec, identity: Identity) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    outbox, pace = Outbox(), Pace(spec.sample_interval)
    eyes = await HostEyes.open(spec)
    hands = host_hands(spec, time.monotonic)
    body = AgentBody(spec, eyes, outbox.put, hands, agent_id=identity.agent_id)
    settings = LinkSettings(
        spec.coordinator,
        spec.tls.files(),
        spec.insecure,
        spec.cluster_id,
        spec.advertise_host,
        __version__,
    )
    wiring = Wiring(settings, identity, eyes, body, outbox, time.monotonic, pace.wanted)
    link = Link(wiring, Patience(max_backoff=spec.reconnect_within))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await body.start()
    for note in notes(spec):
        log.warning("experimental", note=note)
    log.info(
        "started",
        agent=identity.agent_id,
        incarnation=identity.incarnation,
        version=__version__,
    )
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(body.run()),
                group.create_task(sample(eyes, outbox, pace)),
                group.create_task(link.run()),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        await eyes.close()
        log.info("stopped; engines go on")


def parser() -> argparse.ArgumentParser:
    """Return the command line of the agent."""
    result = argparse.ArgumentParser(
        prog="heteroscale agent",
        description="The sidecar of a GPU host: it reports GPUs, RDMA ports and engines to the "
        "coordinator, and carries out its commands. It starts only what its configuration names.",
        epilog="The configuration is a YAML document of kind Agent; see docs/agent.md. What of this "
        "host can be read, reached and done: heteroscale-agent doctor.",
    )
    result.add_argument(
        "verb",
        nargs="?",
        choices=("run", "check"),
        default="run",
        help="run (when nothing is said): serve until TERM; check: say what is wrong with the "
        "document and its TLS files, and start nothing",
    )
    result.add_argument("--version", action="version", version=f"heteroscale {__version__}")
    result.add_argument("-c", "--config", type=Path, required=True, help="the Agent document")
    result.add_argument("--coordinator", help="host:port; overrides the document")
    result.add_argument("--state-dir", type=Path, help="overrides the document")
    result.add_argument("--insecure", action="store_true", help="dial without TLS, knowingly")
    result.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    result.add_argument("--log-format", default="auto", choices=("auto", "json", "console"))
    return result


def settings_of(arguments: argparse.Namespace) -> AgentSpec:
    """Read the document and lay the command line's own words over it."""
    spec = load(arguments.config)
    changes: dict[str, object] = {}
    if arguments.coordinator:
        changes["coordinator"] = arguments.coordinator
    if arguments.state_dir:
        changes["state_dir"] = arguments.state_dir
    if arguments.insecure:
        changes["insecure"] = True
    spec = spec.model_copy(update=changes)
    tls = spec.tls.files()
    tls.read()  # now, while somebody looks; the link itself tries again and again
    require_trust(spec.coordinator, tls=tls.enabled, insecure=spec.insecure, verb="dialling")
    return spec


def run(argv: list[str]) -> int:
    """Run ``heteroscale agent …`` and return the exit status."""
    # Engines are started by fork; gRPC's handlers for it would hang them (design: spawn, not fork).
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if argv[:1] == ["doctor"]:
        from heteroscale_agent.doctor import command  # noqa: PLC0415  (an agent never needs it)

        return command.run(argv[1:])
    arguments = parser().parse_args(argv)
    logs.configure(arguments.log_level, arguments.log_format)
    try:
        spec = settings_of(arguments)
        if arguments.verb == "check":
            print(f"{arguments.config}: valid")
            for note in notes(spec):
                print(f"note: {note}")
            return 0
        with StateDirectory(spec.state_dir) as directory:
            asyncio.run(serve(spec, directory.identify(spec.agent_id)))
    except _MISTAKES as error:
        print(f"heteroscale agent: {error}", file=sys.stderr)
        return USAGE if isinstance(error, DocumentError | ChannelError) else FAILED
    return 0


def main() -> None:
    """Run as the script ``heteroscale-agent``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
