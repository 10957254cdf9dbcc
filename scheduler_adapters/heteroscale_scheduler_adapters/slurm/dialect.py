"""A job in the words of slurmrestd: v0.0.38, and the data parsers' (v0.0.40 and later)."""

from __future__ import annotations

import json
from typing import Any

from heteroscale_scheduler_adapters.slurm.parse import number
from heteroscale_scheduler_adapters.slurm.records import Order

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def old_job(order: Order) -> dict[str, Any]:
    """Return the body of v0.0.38; it knows no signal to the batch script alone."""
    said: dict[str, Any] = {
        **_common(order),
        "nodes": order.count,
        "nodelist": ",".join(order.nodes),
        "gres": order.gres,
        "constraints": order.constraint,
        "time_limit": order.limit,
        "memory_per_node": order.memory,
        "environment": {"PATH": PATH},
    }
    if order.exclusive:
        said["exclusive"] = "exclusive"
    if order.requeue:
        said["requeue"] = True
    else:
        said["no_requeue"] = True
    return {"script": order.script, "job": {**_said(said), **_more(order)}}


def new_job(order: Order) -> dict[str, Any]:
    """Return the body of v0.0.40 and later."""
    said: dict[str, Any] = {
        **_common(order),
        "minimum_nodes": order.count,
        "maximum_nodes": order.count,
        "required_nodes": list(order.nodes),
        "tres_per_node": f"gres/{order.gres}",
        "constraints": order.constraint,
        "time_limit": _number(order.limit) if order.limit else None,
        "memory_per_node": _number(order.memory) if order.memory else None,
        "environment": [f"PATH={PATH}"],
    }
    if order.exclusive:
        said["shared"] = ["none"]
    if order.warning:
        said["kill_warning_signal"] = "TERM"
        said["kill_warning_delay"] = _number(order.warning)
        said["kill_warning_flags"] = ["BATCH_JOB"] if order.warn_batch else []
    job = {**_said(said), **_more(order), "requeue": order.requeue}
    return {"script": order.script, "job": {**job, "script": order.script}}


def submitted(text: bytes) -> int:
    """Return the number of the job of an answer; 0: there is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(data, dict):
        return 0
    result = data.get("result")
    told = result.get("job_id") if isinstance(result, dict) else None
    return number(data.get("job_id")) or number(told) or 0


def _common(order: Order) -> dict[str, Any]:
    return {
        "name": order.name,
        "comment": order.comment,
        "tasks": order.count,
        "tasks_per_node": 1,
        "cpus_per_task": order.cpus,
        "partition": order.partition,
        "account": order.account,
        "qos": order.qos,
        "reservation": order.reservation,
        "current_working_directory": order.folder,
        "standard_output": order.output,
        "hold": True,
    }


def _more(order: Order) -> dict[str, Any]:
    return {key.replace("-", "_"): value or True for key, value in order.more}


def _number(value: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value}


def _said(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not said."""
    return {key: value for key, value in values.items() if value not in (None, "", 0, [])}
