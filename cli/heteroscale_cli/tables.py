"""Columns and rows of every kind; ``wide`` adds columns, it never changes the first ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from heteroscale.convert import seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import TOPOLOGY_LEVELS, Role
from heteroscale_cli import text
from heteroscale_cli.output import Cell, Row
from heteroscale_cli.vocabulary import Kind

STATE_COLOURS = {
    "in_service": "green",
    "ready": "green",
    "connected": "green",
    "up": "green",
    "pending": "cyan",
    "launching": "cyan",
    "warming": "cyan",
    "covering": "cyan",
    "withdrawn": "yellow",
    "draining": "yellow",
    "deleting": "yellow",
    "unknown": "magenta",
    "partition": "red",
    "silent": "red",
    "down": "red",
    "failed": "red",
    "lost": "red",
    "quarantined": "red",
}
_ACTION_COLOURS = {
    "scale_out": "green",
    "reinstate": "green",
    "release": "green",
    "switch_role": "yellow",
    "scale_in": "yellow",
    "finish_scale_in": "yellow",
    "guard": "red",
    "repair": "red",
    "renew": "yellow",
}


def header(kind: Kind, *, wide: bool) -> list[str]:
    """Return the titles of the columns."""
    narrow, more, _ = _TABLES[kind]
    return [*narrow, *(more if wide else ())]


def row(kind: Kind, item: Any, now: float, *, wide: bool) -> Row:
    """Return the cells of one item, as many as ``header`` has; ``now`` in seconds since 1970."""
    narrow, _, cells = _TABLES[kind]
    every = cells(item, now)
    return every if wide else every[: len(narrow)]


def coloured(word: str, colours: dict[str, str]) -> Cell:
    """Return the word in the colour of its first part."""
    return Cell(word, colours.get(word.partition(" ")[0]))


def node_state(node: pb.Node) -> str:
    """Return whether the agent's stream is up."""
    state = "connected" if node.connected else "silent"
    if node.cordoned:
        return f"{state} (cordoned)"
    if count := len(node.cordoned_gpus):
        return f"{state} ({count} GPU{'s' * (count > 1)} cordoned)"
    return state


def node_health(node: pb.Node) -> Cell | str:
    """Return what is wrong with a node's devices, the first of it; unknown when they are unheard."""
    if node.troubles:
        more = f" (+{len(node.troubles) - 1})" if len(node.troubles) > 1 else ""
        return Cell(f"{node.troubles[0]}{more}", "red")
    heard = node.HasField("gpu_utilization_percent") or node.HasField("nics_active")
    return coloured("ok", {"ok": "green"}) if heard else text.UNKNOWN


def nics(node: pb.Node) -> str:
    """Return RDMA ports as *active/all*."""
    active = node.nics_active if node.HasField("nics_active") else text.UNKNOWN
    return f"{active}/{node.nic_count}" if node.nic_count else text.NONE


def cluster_name(item: pb.Cluster) -> str:
    """Return what a sub-cluster is called; hosts that name none are one more."""
    return item.name or "(without a name)"


def _service(item: pb.Service, now: float) -> Row:
    last = item.last_decision
    return [
        item.name,
        coloured(text.condition(item), STATE_COLOURS),
        text.mode(item),
        text.prefill(item),
        text.counts(text.role_of(item, Role.DECODE)),
        text.counts(text.role_of(item, Role.AGGREGATED)),
        text.ratio(item),
        coloured(text.action(last) or text.NONE, _ACTION_COLOURS),
        text.since(last.time, now) if last.action else text.NONE,
        *(
            str(sum(getattr(role, field) for role in item.roles))
            for field in ("pending", "withdrawn", "draining", "unknown")
        ),
        text.load(item),
        item.quarantine or last.reason or text.NONE,
    ]


def _instance(item: pb.Instance, now: float) -> Row:
    return [
        item.instance_id,
        item.service or text.NONE,
        text.role_word(item.role),
        coloured(text.state(item), STATE_COLOURS),
        item.gpu_type or text.UNKNOWN,
        ",".join(item.agent_ids) or text.NONE,
        text.measured(item, "running"),
        text.measured(item, "waiting"),
        text.measured(item, "tokens_per_second"),
        text.since(item.state_time, now),
        item.group or text.NONE,
        item.endpoint or text.NONE,
        ",".join(map(str, item.gpu_indices)) or text.NONE,
        str(item.generation),
        text.since(item.create_time, now),
        text.ends(item, now),
        item.origin or "coordinator",
        item.message or text.NONE,
    ]


def _node(item: pb.Node, now: float) -> Row:  # noqa: ARG001  (every kind's cells take the time)
    silent = text.age(seconds(item.silent)) if item.HasField("silent") else text.UNKNOWN
    others = [level for level in TOPOLOGY_LEVELS if level in item.topology]
    return [
        item.agent_id,
        item.hostname or text.UNKNOWN,
        coloured(node_state(item), STATE_COLOURS),
        item.gpu_type or text.UNKNOWN,
        f"{item.gpus_used}/{item.gpu_count}",
        text.measured(item, "gpu_utilization_percent"),
        item.topology.get("s1", text.UNKNOWN),
        item.topology.get("s2", text.UNKNOWN),
        silent,
        node_health(item),
        text.measured(item, "gpu_sm_activity_percent"),
        nics(item),
        text.measured(item, "nic_share_percent"),
        str(len(item.instance_ids)),
        item.agent_version or text.UNKNOWN,
        ",".join(f"{level}={item.topology[level]}" for level in others) or text.UNKNOWN,
        item.message or text.NONE,
    ]


def _group(item: pb.Group, now: float) -> Row:  # noqa: ARG001  (every kind's cells take the time)
    ratio = f"{item.prefill / item.decode:.2f}" if item.decode else text.UNKNOWN
    return [
        item.name,
        item.service,
        item.domain or text.UNKNOWN,
        *(str(count) for count in (item.prefill, item.decode, item.other)),
        ratio,
    ]


def _cluster(item: pb.Cluster, now: float) -> Row:
    since = text.since(item.state_time, now) if item.HasField("state_time") else text.UNKNOWN
    return [
        cluster_name(item),
        "adapter" if item.adapter else "agents",
        coloured(item.state, STATE_COLOURS),
        since,
        f"{item.nodes - item.silent_nodes}/{item.nodes}",
        f"{item.gpus_used}/{item.gpu_count}",
        str(sum(item.instances.values())),
        str(len(item.notes)),
        text.quotas(item),
        item.message or text.NONE,
    ]


def _decision(item: pb.Decision, now: float) -> Row:
    last = item.last_time if item.HasField("last_time") else item.time
    return [
        text.since(last, now),
        item.service,
        coloured(text.action(item), _ACTION_COLOURS),
        text.step(item),
        item.bound_by or text.NONE,
        str(max(1, item.repeat_count)),
        item.reason,
        item.decision_id,
        ",".join(item.instance_ids) or text.NONE,
    ]


_TABLES: dict[Kind, tuple[Sequence[str], Sequence[str], Callable[[Any, float], Row]]] = {
    Kind.SERVICE: (
        (
            "NAME",
            "CONDITION",
            "MODE",
            "PREFILL",
            "DECODE",
            "AGGREGATED",
            "RATIO",
            "LAST-ACTION",
            "AGE",
        ),
        ("PENDING", "WITHDRAWN", "DRAINING", "UNKNOWN", "LOAD", "REASON"),
        _service,
    ),
    Kind.INSTANCE: (
        ("ID", "SERVICE", "ROLE", "STATE", "GPU", "NODE", "RUNNING", "WAITING", "TOK/S", "AGE"),
        ("GROUP", "ENDPOINT", "GPUS", "GENERATION", "CREATED", "ENDS", "STARTED-BY", "MESSAGE"),
        _instance,
    ),
    Kind.NODE: (
        ("ID", "HOST", "STATE", "GPU", "USED", "UTIL%", "S1", "S2", "HEARD", "HEALTH"),
        ("SM%", "NICS", "NIC%", "INSTANCES", "VERSION", "TOPOLOGY", "MESSAGE"),
        _node,
    ),
    Kind.GROUP: (("NAME", "SERVICE", "DOMAIN", "PREFILL", "DECODE", "OTHER", "RATIO"), (), _group),
    Kind.CLUSTER: (
        ("NAME", "BY", "STATE", "SINCE", "NODES", "USED", "INSTANCES", "NOTES"),
        ("QUOTAS", "MESSAGE"),
        _cluster,
    ),
    Kind.DECISION: (
        ("AGE", "SERVICE", "ACTION", "STEP", "BOUND-BY", "TIMES", "REASON"),
        ("ID", "INSTANCES"),
        _decision,
    ),
}
