"""Slurm's JSON read into records: the old form (22.05) and that of the data parsers (23.02 and later).

The old one has texts and plain numbers; the new one has lists of states, and numbers as
``{"set": true, "infinite": false, "number": 60}``. Both come from ``--json`` and from slurmrestd alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heteroscale_scheduler_adapters.port import UnavailableError
from heteroscale_scheduler_adapters.slurm.hostlist import expand
from heteroscale_scheduler_adapters.slurm.records import JobRecord, NodeRecord, ReservationRecord

YEAR = 525_600
"""Minutes; Slurm says this where there is no limit."""
_FLAGS = frozenset(
    [
        "COMPLETING",
        "CONFIGURING",
        "RESIZING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "SPECIAL_EXIT",
        "STOPPED",
        "REVOKED",
        "SIGNALING",
        "STAGE_OUT",
        "LAUNCH_FAILED",
        "UPDATE_DB",
        "RECONFIG_FAIL",
        "POWER_UP_NODE",
        "EXPEDITING",
    ]
)


def document(text: bytes | str, key: str) -> list[Mapping[str, Any]]:
    """Return the list under ``key`` of a document.

    Raises:
        UnavailableError: it is no such document, or says itself that it is not the whole.

    """
    try:
        data = json.loads(text)
        found = data[key]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UnavailableError(f"Slurm's answer is no document with {key!r}") from error
    if said := errors(data):
        raise UnavailableError(f"Slurm says of {key}: {said}")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnavailableError(f"{key!r} of Slurm's answer is no list of objects")
    return found


def errors(data: Any) -> str:
    """Return what a document says that went wrong, in words; empty: nothing."""
    listed = data.get("errors") if isinstance(data, dict) else None
    words: list[str] = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            said = [str(one.get(k)) for k in ("error", "description") if one.get(k)]
            words.append(": ".join(said) or str(one))
        else:
            words.append(str(one))
    return "; ".join(words)


def nodes(text: bytes | str) -> list[NodeRecord]:
    """Return the nodes of a document. Raises UnavailableError."""
    return [_node(one) for one in document(text, "nodes") if _text(one.get("name"))]


def nodes_unless_groups(text: bytes | str) -> list[NodeRecord] | None:
    """Return the nodes; None: groups of nodes alone are told, as by ``sinfo`` since 23.02."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    groups = isinstance(data, dict) and "sinfo" in data and "nodes" not in data
    return None if groups else nodes(text)


def jobs(text: bytes | str) -> list[JobRecord]:
    """Return the jobs of a document. Raises UnavailableError."""
    return [_job(one) for one in document(text, "jobs") if number(one.get("job_id"))]


def reservations(text: bytes | str) -> list[ReservationRecord]:
    """Return the reservations of a document. Raises UnavailableError."""
    return [
        ReservationRecord(
            name=_text(one.get("name")),
            nodes=expand(_text(one.get("node_list"))),
            start=float(number(one.get("start_time")) or 0),
            end=float(number(one.get("end_time")) or 0),
            who=who(_text(one.get("users")), _text(one.get("accounts"))),
        )
        for one in document(text, "reservations")
    ]


def who(users: str, accounts: str) -> str:
    """Return for whom something is, in words."""
    said = [
        f"{what} {names}" for what, names in (("users", users), ("accounts", accounts)) if names
    ]
    return ", ".join(said)


def number(value: Any) -> int | None:
    """Return a number of either form; None: it is not set, or without end."""
    if isinstance(value, dict):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _node(one: Mapping[str, Any]) -> NodeRecord:
    states = [*_words(one.get("state")), *_words(one.get("state_flags"))]
    features = one.get("active_features") or one.get("features")
    return NodeRecord(
        name=_text(one.get("name")),
        address=_text(one.get("address")),
        gres=_text(one.get("gres")),
        gres_used=_text(one.get("gres_used")),
        states=frozenset(states),
        reason=_text(one.get("reason")),
        reason_by=_text(one.get("reason_set_by_user")),
        features=tuple(_listed(features)),
        partitions=tuple(_listed(one.get("partitions"))),
        cpus=number(one.get("effective_cpus")) or number(one.get("cpus")) or 0,
        cpus_used=number(one.get("alloc_cpus")) or 0,
    )


def _job(one: Mapping[str, Any]) -> JobRecord:
    limit = number(one.get("time_limit"))
    comment = one.get("comment")
    comments: Iterable[Any] = (
        (comment.get("job"), comment.get("administrator"))
        if isinstance(comment, dict)
        else (comment, one.get("admin_comment"))
    )
    resources = one.get("job_resources")
    placed = _text(one.get("nodes")) or (_placed(resources) if isinstance(resources, dict) else "")
    return JobRecord(
        job_id=number(one.get("job_id")) or 0,
        name=_text(one.get("name")),
        user=_text(one.get("user_name")) or str(number(one.get("user_id")) or 0),
        states=_states(_words(one.get("job_state"))),
        reason="" if one.get("state_reason") == "None" else _text(one.get("state_reason")),
        comments=tuple(_text(said) for said in comments if said),
        nodes=expand(placed),
        gres=tuple(_listed(one.get("gres_detail"))),
        gres_asked=_text(one.get("tres_per_node")),
        partition=_text(one.get("partition")),
        submitted=float(number(one.get("submit_time")) or 0),
        started=float(number(one.get("start_time")) or 0),
        ended=float(number(one.get("end_time")) or 0),
        limited=limit is not None and 0 < limit < YEAR,
        exit=_exit(one.get("exit_code")),
        restarts=number(one.get("restart_cnt")) or 0,
    )


def _placed(resources: Mapping[str, Any]) -> str:
    found = resources.get("nodes")
    if isinstance(found, dict):
        return _text(found.get("list"))
    return found if isinstance(found, str) else ""


def _states(words: Sequence[str]) -> tuple[str, ...]:
    """Return the state before its flags; a flag that stands alone stays alone."""
    return (*(w for w in words if w not in _FLAGS), *(w for w in words if w in _FLAGS))


def _exit(value: Any) -> str:
    if isinstance(value, dict) and ("return_code" in value or "number" not in value):
        code = number(value.get("return_code")) or 0
        signal = value.get("signal")
        caught = (
            number(signal.get("id", signal.get("signal_id"))) if isinstance(signal, dict) else 0
        )
        return _ended(code, caught or 0)
    status = number(value) or 0
    return _ended(status >> 8 & 0xFF, status & 0x7F)


def _ended(code: int, signal: int) -> str:
    if signal:
        return f"signal {signal}"
    return f"exit status {code}" if code else ""


def _words(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else str(value or "").replace("+", " ").split()
    return [str(word).upper().rstrip("*~#!%$@^-") for word in listed]


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    return [str(one) for one in value if one] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value != "(null)" else ""
