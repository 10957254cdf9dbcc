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
from pathlib import Path

import structlog

from heteroscale import __version__, logs
from heteroscale.channel import ChannelError, require_trust
from heteroscale.documents import DocumentError
from heteroscale_agent.config import AgentSpec, load
from heteroscale_agent.experimental import notes
from heteroscale_agent.identity import Identity, IdentityError, StateDirectory
from heteroscale_agent.job import Claim, End
from heteroscale_agent.job.ending import farewell, job_folder
from heteroscale_agent.job.options import (
    JobError,
    add_options,
    agent_id_of,
    claim_of,
    incarnation_of,
    narrowed,
)
from heteroscale_agent.job.signals import Signals, heard
from heteroscale_agent.journal import JournalError
from heteroscale_agent.probes.topology import TopologyError
from heteroscale_agent.rooms import alive, wired

log = structlog.get_logger("agent")

USAGE, FAILED = 2, 1
_USAGE = (DocumentError, ChannelError, JobError)
_MISTAKES = (*_USAGE, IdentityError, JournalError, TopologyError, OSError)


async def serve(spec: AgentSpec, identity: Identity) -> None:
    """Run the agent of a host until SIGTERM or SIGINT."""
    rooms = await wired(spec, identity, None)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await rooms.body.start()
    _say_started(spec, identity)
    async with alive(rooms):
        await stop.wait()
    log.info("stopped; engines go on")


async def serve_job(spec: AgentSpec, identity: Identity, claim: Claim, signals: Signals) -> End:
    """Run an agent within a job until its instance has ended."""
    rooms = await wired(spec, identity, claim)
    duty = rooms.body.duty
    assert duty is not None  # noqa: S101 - it was wired with a claim
    with signals.to(duty.told_to_end):
        await rooms.body.start()
        _say_started(spec, identity, instance=claim.instance_id, within=claim.within)
        async with alive(rooms):
            end = await duty.run()
            await farewell(duty, rooms.body, rooms.outbox)
    log.info("ended", why=end.why)
    return end


def _say_started(spec: AgentSpec, identity: Identity, **more: str) -> None:
    for note in notes(spec):
        log.warning("experimental", note=note)
    log.info(
        "started",
        agent=identity.agent_id,
        incarnation=identity.incarnation,
        version=__version__,
        **more,
    )


def parser() -> argparse.ArgumentParser:
    """Return the command line of the agent."""
    result = argparse.ArgumentParser(
        prog="heteroscale agent",
        description="The sidecar of a GPU host: it reports GPUs, RDMA ports and engines to the "
        "coordinator, and carries out its commands. It starts only what its configuration names.",
        epilog="The configuration is a YAML document of kind Agent; see docs/agent.md. What of this "
        "host can be read, reached and done: heteroscale doctor -c CONFIG.",
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
    add_options(result)
    result.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    result.add_argument("--log-format", default="auto", choices=("auto", "json", "console"))
    return result


def settings_of(arguments: argparse.Namespace, claim: Claim | None = None) -> AgentSpec:
    """Read the document and lay the command line's own words over it."""
    spec = load(arguments.config)
    changes: dict[str, object] = {}
    if arguments.agent_id:
        changes["agent_id"] = arguments.agent_id
    if arguments.advertise_host:
        changes["advertise_host"] = arguments.advertise_host
    if claim is not None:
        spec = narrowed(spec, claim, os.environ.get("HETEROSCALE_ADVERTISE_HOST", ""))
        changes["agent_id"] = agent_id_of(claim, arguments, os.environ)
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
        claim = claim_of(arguments, os.environ)
        if claim is not None and arguments.verb == "run":
            with heard() as signals:
                return run_job(arguments, claim, signals)
        spec = settings_of(arguments, claim)
        if arguments.verb == "check":
            print(f"{arguments.config}: valid")
            for note in notes(spec):
                print(f"note: {note}")
            return 0
        with StateDirectory(spec.state_dir) as directory:
            asyncio.run(serve(spec, directory.identify(spec.agent_id)))
    except _MISTAKES as error:
        print(f"heteroscale agent: {error}", file=sys.stderr)
        return USAGE if isinstance(error, _USAGE) else FAILED
    return 0


def run_job(arguments: argparse.Namespace, claim: Claim, signals: Signals) -> int:
    """Run an agent within a job and return the exit status."""
    spec = settings_of(arguments, claim)
    with job_folder(spec, own=arguments.state_dir is not None) as (folder, kept):
        spec = spec.model_copy(update={"state_dir": folder})
        with StateDirectory(folder) as directory:
            identity = directory.identify(spec.agent_id, at_least=incarnation_of(os.environ))
            end = asyncio.run(serve_job(spec, identity, claim, signals))
        kept.append(end.status)
    if end.status:
        print(f"heteroscale agent: {claim.instance_id}: {end.why}", file=sys.stderr)
    return end.status


def main() -> None:
    """Run as the script ``heteroscale-agent``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
