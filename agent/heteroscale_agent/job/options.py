"""The command line of an agent within a job, what its scheduler's environment says, and what follows."""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Mapping

from heteroscale.documents.fields import parse_duration
from heteroscale.words import WITHIN
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.config.discovery import Discovery
from heteroscale_agent.hands.process import INSTANCE_ID
from heteroscale_agent.job.claim import Claim

_NODE = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)?"
)
_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_NOBODY = {"", "NoDevFiles", "-1"}


class JobError(ValueError):
    """An option of the job is missing or wrong; the text names it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an agent within a job."""
    group = parser.add_argument_group(
        "within a scheduler's job",
        "With --instance the agent stands for one rank of one instance, and ends with it. Each option "
        "has an environment variable, HETEROSCALE_JOB_… (docs/agent.md). A batch script ends with: "
        "exec heteroscale agent run -c agent.yaml --instance i-3f2a --within east/node-3",
    )
    group.add_argument("--instance", metavar="ID", help="the instance that the job is for")
    group.add_argument("--rank", metavar="N", help="which rank of it; default SLURM_PROCID, else 0")
    group.add_argument(
        "--within",
        metavar="CLUSTER[/NODE]",
        help="where it runs, by the coordinator's names; default node: SLURMD_NODENAME, else the host's",
    )
    group.add_argument(
        "--gpus", metavar="0,1", help="the job's GPUs; default CUDA_VISIBLE_DEVICES, else all seen"
    )
    group.add_argument(
        "--leave-within",
        metavar="110s",
        help="from TERM or USR1 until its engine is gone: drained, stopped, killed; default 110s",
    )
    group.add_argument("--wait", metavar="10m", help="so long for its launch; default 10m")
    group.add_argument("--agent-id", metavar="ID", help="overrides the document")
    group.add_argument("--advertise-host", metavar="HOST", help="overrides the document")


def claim_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Claim | None:
    """Return what the agent stands for; None: for its host.

    Raises:
        JobError: an option is missing, or wrong.

    """

    def said(name: str) -> str:
        given = getattr(arguments, name)
        return given if given is not None else environ.get(f"HETEROSCALE_JOB_{name.upper()}", "")

    instance_id = said("instance")
    if not instance_id:
        _nothing_else(arguments)
        return None
    if not INSTANCE_ID.fullmatch(instance_id):
        raise JobError(f"--instance {instance_id[:140]!r}: letters, digits, '.', '_' and '-' only")
    within = said("within")
    if not _NODE.fullmatch(within):
        raise JobError(
            f"--within {within[:140]!r}: say CLUSTER or CLUSTER/NODE, the cluster as the coordinator's "
            "`adapters` name it"
        )
    if "/" not in within:
        node = environ.get("SLURMD_NODENAME") or environ.get("NODE_NAME") or socket.gethostname()
        within = f"{within}/{node}"
    rank = said("rank") or environ.get("SLURM_PROCID", "0")
    if not rank.isdecimal():
        raise JobError(f"--rank {rank[:20]!r}: a number from 0")
    return Claim(
        instance_id=instance_id,
        rank=int(rank),
        within=within,
        devices=_devices(said("gpus"), environ),
        leave_within=_seconds("--leave-within", said("leave_within") or "110s"),
        wait=_seconds("--wait", said("wait") or "10m"),
    )


def agent_id_of(claim: Claim, arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Return the id of an agent within a job: of its cluster, its job and its rank."""
    given: str = arguments.agent_id or environ.get("HETEROSCALE_AGENT_ID", "")
    if given:
        return given
    cluster = claim.within.partition("/")[0]
    job = environ.get("SLURM_JOB_ID", "")
    return (
        f"{cluster}.job-{job}-{claim.rank}"
        if job
        else f"{cluster}.{claim.instance_id}-{claim.rank}"
    )


def incarnation_of(environ: Mapping[str, str]) -> int:
    """Return the least incarnation: a job that was requeued is the same agent, anew."""
    restarts = environ.get("SLURM_RESTART_COUNT", "0")
    return int(restarts) + 1 if restarts.isdecimal() else 1


def narrowed(spec: AgentSpec, claim: Claim, advertise_host: str) -> AgentSpec:
    """Return ``spec`` without what is the host's: others' engines, routers' metrics, taints."""
    host = advertise_host or spec.advertise_host
    if not advertise_host and "advertise_host" not in spec.model_fields_set:
        host = socket.gethostname()
    return spec.model_copy(
        update={
            "advertise_host": host,
            "labels": {**spec.labels, WITHIN: claim.within},
            "discovery": Discovery(),
            "engines": (),
            "routers": (),
            "taints": (),
        }
    )


def _devices(given: str, environ: Mapping[str, str]) -> tuple[str, ...] | None:
    said = given or next((environ[name] for name in _GPUS if environ.get(name)), "")
    if said in _NOBODY:
        return None
    return tuple(one.strip() for one in said.split(",") if one.strip())


def _seconds(option: str, text: str) -> float:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise JobError(f"{option}: {error}") from None
    if found <= 0:
        raise JobError(f"{option}: longer than 0s")
    return found


def _nothing_else(arguments: argparse.Namespace) -> None:
    for name in ("rank", "within", "gpus", "leave_within", "wait"):
        if getattr(arguments, name) is not None:
            raise JobError(
                f"--{name.replace('_', '-')} needs --instance: only a job's agent has it"
            )
