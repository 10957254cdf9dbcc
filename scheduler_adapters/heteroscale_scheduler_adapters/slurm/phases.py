"""How far a job of ours has come, in the port's words, from Slurm's states and reasons."""

from __future__ import annotations

from heteroscale_scheduler_adapters.port import Phase
from heteroscale_scheduler_adapters.slurm.records import JobRecord
from heteroscale_scheduler_adapters.slurm.tag import Tag

_QUEUED = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_OVER = frozenset(
    [
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "REVOKED",
        "LAUNCH_FAILED",
        "RECONFIG_FAIL",
    ]
)
_HELD = frozenset({"JobHeldUser"})
# Reasons that no waiting mends; whoever submitted it has to.
_NEVER = frozenset(
    [
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "AssocMaxGRESPerJob",
        "AssocMaxGRESPerNode",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxGRESPerJob",
        "QOSMaxGRESPerNode",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMinGRES",
        "JobHoldMaxRequeue",
        "MaxRequeue",
        "JobLaunchFailure",
        "launch_failed_requeued_held",
    ]
)
# How the reasons of a limit of an account or a QOS begin: it is lifted only by others' leaving.
_LIMITS = ("Assoc", "QOS")
LIMIT_PATIENCE = 30.0
"""Seconds for which a job may wait at a limit: what is just leaving makes room."""
_SAID = {
    "TIMEOUT": "its time limit was reached",
    "NODE_FAIL": "a node of it failed",
    "PREEMPTED": "it was preempted",
    "BOOT_FAIL": "a node of it did not boot",
    "DEADLINE": "its deadline passed",
    "OUT_OF_MEMORY": "it was out of memory",
    "CANCELLED": "it was cancelled by somebody",
}


def held(job: JobRecord) -> bool:
    """Return whether a job waits for its release."""
    return job.state == "PENDING" and job.reason in _HELD


def waiting(job: JobRecord) -> bool:
    """Return whether a job is on no node yet."""
    return job.state in _QUEUED and "COMPLETING" not in job.states


def over(job: JobRecord) -> bool:
    """Return whether a job has ended, and has no node any more."""
    return job.state in _OVER and "COMPLETING" not in job.states


def never(job: JobRecord) -> bool:
    """Return whether a job waits for what will not come."""
    return job.state == "PENDING" and job.reason in _NEVER


def limited(job: JobRecord, now: float) -> bool:
    """Return whether a job waits at a limit of its account or QOS, and has for a while."""
    at_limit = job.state == "PENDING" and job.reason.startswith(_LIMITS)
    return at_limit and now - job.submitted >= LIMIT_PATIENCE


def hopeless(job: JobRecord, now: float) -> bool:
    """Return whether a job is to be taken back: it would wait for what does not come."""
    return never(job) or limited(job, now)


def began(job: JobRecord) -> bool:
    """Return whether a job that is over ever ran."""
    return bool(job.nodes) or 0 < job.started < job.ended


def phase(job: JobRecord, tag: Tag, *, agent: bool, now: float = 0.0) -> tuple[Phase, str]:
    """Return the phase at ``now``, and words for an operator."""
    if never(job):
        return Phase.FAILED, f"{_name(job)} can never start: {job.reason}"
    if limited(job, now):
        whose = "its QOS" if job.reason.startswith("QOS") else "its account"
        return Phase.FAILED, f"{_name(job)} cannot start: {job.reason}, a limit of {whose}"
    if waiting(job):
        return Phase.QUEUED, _waits(job)
    return _end(job, tag, agent=agent) if over(job) else _here(job, tag, agent=agent)


def _here(job: JobRecord, tag: Tag, *, agent: bool) -> tuple[Phase, str]:
    """Return the phase of a job that has its nodes."""
    if "COMPLETING" in job.states:
        return Phase.STOPPING, f"{_name(job)} is completing"
    if tag.stop:
        return Phase.STOPPING, f"{_name(job)} was told to end"
    if job.state == "RUNNING" and "CONFIGURING" not in job.states:
        # Whether the engine serves its agent knows; without one nobody does.
        return (Phase.STARTING if agent else Phase.READY), f"{_name(job)} runs"
    return Phase.STARTING, f"{_name(job)} is {'+'.join(job.states) or 'in no known state'}"


def _waits(job: JobRecord) -> str:
    if held(job):
        return f"{_name(job)} is held until its step is whole"
    again = f", requeued {job.restarts} times" if job.restarts else ""
    return f"{_name(job)} waits: {job.reason or 'no reason told'}{again}"


def _end(job: JobRecord, tag: Tag, *, agent: bool) -> tuple[Phase, str]:
    how = f" ({job.exit})" if job.exit else ""
    if tag.stop:
        return Phase.ENDED, f"{_name(job)} ended as it was told to{how}"
    # An agent's exit status 0 says that it was told to drain; of a script it says nothing.
    if job.state == "COMPLETED" and agent:
        return Phase.ENDED, f"{_name(job)}: its agent ended it"
    why = _SAID.get(job.state, "it ended by itself" if job.state == "COMPLETED" else job.reason)
    return Phase.FAILED, f"{_name(job)} is {job.state}: {why or 'no reason told'}{how}"


def _name(job: JobRecord) -> str:
    return f"job/{job.job_id}"
