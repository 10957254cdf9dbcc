"""``describe`` and ``explain``: one thing at length, in words and aligned fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heteroscale.convert import seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli import devices, tables, text
from heteroscale_cli.output import Table
from heteroscale_cli.vocabulary import Kind

_INDENT = "  "


def fields(pairs: Sequence[tuple[str, str]], indent: str = "") -> list[str]:
    """Return ``Name:   value`` lines with the values aligned."""
    width = max((len(name) for name, _ in pairs), default=0) + 1
    return [f"{indent}{name + ':':<{width}}  {text.clean(value)}".rstrip() for name, value in pairs]


def service(
    item: pb.Service,
    instances: Iterable[pb.Instance],
    decisions: Iterable[pb.Decision],
    now: float,
) -> list[str]:
    """Return everything known of a service: roles, load, instances, decisions, specification."""
    head = [
        ("Name", item.name),
        ("Condition", text.condition(item)),
        ("Mode", text.mode(item)),
        ("Ratio", text.ratio(item)),
    ]
    if item.signals_from:
        head.append(("Signals", item.signals_from))
    if item.quarantine:
        head.append(("Quarantine", item.quarantine))
    return [
        *fields(head),
        *_section("Roles", _roles(item)),
        *_section("Load", _signals(item)),
        *(_section("Routers", _routers(item)) if item.routers else ()),
        *_section("Instances", _table(Kind.INSTANCE, instances, now)),
        *_section("Decisions", _table(Kind.DECISION, decisions, now)),
        *_section("Specification", item.document.rstrip().splitlines()),
    ]


def instance(item: pb.Instance, now: float) -> list[str]:
    """Return everything known of an instance."""
    return fields(
        [
            ("Id", item.instance_id),
            ("Service", item.service or text.NONE),
            ("Role", text.role_word(item.role)),
            ("State", f"{text.state(item)} for {text.since(item.state_time, now)}"),
            ("Message", item.message or text.NONE),
            ("Started by", item.origin or "the coordinator"),
            ("Generation", str(item.generation)),
            ("Created", f"{text.since(item.create_time, now)} ago"),
            ("Ends", text.ends(item, now)),
            ("Agents", ", ".join(item.agent_ids) or text.NONE),
            ("GPU type", item.gpu_type or text.UNKNOWN),
            ("GPUs", ", ".join(map(str, item.gpu_indices)) or text.NONE),
            ("Group", item.group or text.NONE),
            ("Endpoint", item.endpoint or text.NONE),
            ("Running", text.measured(item, "running")),
            ("Waiting", text.measured(item, "waiting")),
            ("Tokens/s", text.measured(item, "tokens_per_second")),
        ]
    )


def node(item: pb.Node, instances: Iterable[pb.Instance], now: float) -> list[str]:
    """Return everything known of a node, and the instances that have a rank on it."""
    silent = text.age(seconds(item.silent)) if item.HasField("silent") else text.UNKNOWN
    head = [
        ("Id", item.agent_id),
        ("Host", item.hostname or text.UNKNOWN),
        ("State", tables.node_state(item)),
        ("Cordon", item.cordon or text.NONE),
        ("Taints", ", ".join(item.taints) or text.NONE),
        ("Heard", f"{silent} ago"),
        ("Message", item.message or text.NONE),
        ("Agent version", item.agent_version or text.UNKNOWN),
        ("Engine versions", _versions(item)),
        ("GPUs", f"{item.gpus_used} of {item.gpu_count} used, {item.gpu_type or text.UNKNOWN}"),
        ("GPU utilisation", f"{text.measured(item, 'gpu_utilization_percent')} %"),
        ("SM activity", f"{text.measured(item, 'gpu_sm_activity_percent')} %"),
        ("RDMA ports", _ports(item)),
    ]
    here = [i for i in instances if item.agent_id in i.agent_ids]
    return [
        *fields(head),
        *(_section("Troubles", map(text.clean, item.troubles)) if item.troubles else []),
        *_section("Topology", devices.topology(item)),
        *_section("GPUs", devices.gpus(item)),
        *_section("RDMA ports", devices.nics(item)),
        *_section("Instances", _table(Kind.INSTANCE, here, now)),
    ]


def cluster(item: pb.Cluster, now: float) -> list[str]:
    """Return everything known of a sub-cluster, with its notes one by one."""
    since = f" for {text.since(item.state_time, now)}" if item.HasField("state_time") else ""
    prices = ", ".join(f"{kind} {price:g}" for kind, price in sorted(item.gpu_prices.items()))
    counts = ", ".join(f"{name} {number}" for name, number in sorted(item.instances.items()))
    head = [
        ("Name", tables.cluster_name(item)),
        ("Shown by", "its adapter" if item.adapter else "agents on its hosts"),
        ("State", f"{item.state}{since}"),
        ("Message", item.message or text.NONE),
        ("Nodes", f"{item.nodes - item.silent_nodes} of {item.nodes} heard"),
        ("GPUs", f"{item.gpus_used} of {item.gpu_count} used"),
        ("Quotas", text.quotas(item)),
        ("Prices", prices or text.NONE),
        ("Instances", counts or text.NONE),
    ]
    return [
        *fields(head),
        *_section("Notes", map(text.clean, item.notes) if item.notes else ["none"]),
    ]


def _versions(item: pb.Node) -> str:
    """Return the version of each launch template of which one is told."""
    told = [f"{name} {version}" for name, version in sorted(item.engine_versions.items())]
    return ", ".join(told) or text.UNKNOWN


def _ports(item: pb.Node) -> str:
    if not item.nic_count:
        return text.NONE
    return f"{tables.nics(item)} active, busiest at {text.measured(item, 'nic_share_percent')} %"


def explanation(answer: pb.ExplainServiceResponse) -> list[str]:
    """Return the coordinator's own explanation, line by line."""
    if not answer.lines:
        return [f"{answer.service.name}: nothing has been decided yet"]
    return [_indented(line) for line in answer.lines]


def _indented(line: str) -> str:
    """Return a line made clean, where it began."""
    return " " * (len(line) - len(line.lstrip(" "))) + text.clean(line)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"{title}:", *(f"{_INDENT}{line}" for line in lines)]


def _table(kind: Kind, items: Iterable[object], now: float) -> list[str]:
    rows = [tables.row(kind, item, now, wide=False) for item in items]
    return Table(tables.header(kind, wide=False)).lines(rows) if rows else ["none"]


def _roles(item: pb.Service) -> list[str]:
    names = ("wanted", "pending", "in_service", "withdrawn", "draining", "unknown", "min", "max")
    rows = [
        [text.role_word(role.role), *(str(getattr(role, name)) for name in names)]
        for role in item.roles
    ]
    titles = [name.upper().replace("_", "-") for name in names]
    return Table(["ROLE", *titles]).lines(rows) if rows else ["none"]


def _routers(item: pb.Service) -> list[str]:
    rows = [
        [
            one.name,
            one.url,
            one.quality or text.UNKNOWN,
            text.age(seconds(one.age)) if one.HasField("age") else text.UNKNOWN,
            one.agent_id or text.NONE,
        ]
        for one in item.routers
    ]
    return Table(["NAME", "URL", "QUALITY", "AGE", "TOLD BY"]).lines(rows)


def _signals(item: pb.Service) -> list[str]:
    rows = [
        [s.name, text.measured(s, "value"), s.unit, s.quality or text.UNKNOWN, f"{s.coverage:.0%}"]
        for s in item.signals
    ]
    titles = ["SIGNAL", "VALUE", "UNIT", "QUALITY", "COVERAGE"]
    return Table(titles).lines(rows) if rows else ["unknown"]
