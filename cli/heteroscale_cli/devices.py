"""A node's devices as tables: GPUs, RDMA ports, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_cli import text
from heteroscale_cli.output import Cell, Row, Table

_GIB = 1 << 30
_MIB_PER_GIB = 1024
_THROTTLE = ((1, "power"), (2, "heat"), (4, "hardware"), (8, "other"))
_FAR = ("pix", "pxb", "phb", "node", "sys")
_HEALTH_COLOURS = {"ok": "green", "lost": "red", "error": "red", "active": "green", "down": "red"}


def topology(node: pb.Node) -> list[str]:
    """Return where it stands, from the nearest domain outward, and who says so."""
    rows: list[Row] = [
        [level, node.topology[level], node.topology_sources.get(level, text.UNKNOWN)]
        for level in TOPOLOGY_LEVELS
        if level in node.topology
    ]
    return Table(["LEVEL", "DOMAIN", "FROM"]).lines(rows) if rows else [text.UNKNOWN]


def gpus(node: pb.Node) -> list[str]:
    """Return the GPUs: how busy, how hot, what is wrong, who holds them, which port is near."""
    return _table(node.gpus, _GPU_COLUMNS)


def nics(node: pb.Node) -> list[str]:
    """Return the RDMA ports: rate and share, what went wrong on them since the agent saw them."""
    return _table(node.nics, _NIC_COLUMNS)


def _table(
    items: Sequence[Any], columns: Sequence[tuple[str, Callable[[Any], Cell | str]]]
) -> list[str]:
    """Return a table without the columns of which nothing is known of any item."""
    cells = [[cell(item) for _, cell in columns] for item in items]
    known = [
        place
        for place in range(len(columns))
        if any(_plain(row[place]) not in (text.UNKNOWN, text.NONE) for row in cells)
    ]
    if not cells or not known:
        return ["none"]
    header = [columns[place][0] for place in known]
    return Table(header).lines([[row[place] for place in known] for row in cells])


def _plain(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def _value(field: str) -> Callable[[Any], str]:
    return lambda item: text.measured(item, field)


def _memory(gpu: pb.NodeGpu) -> str:
    used = gpu.memory_used_mib / _MIB_PER_GIB if gpu.HasField("memory_used_mib") else None
    size = gpu.memory_bytes / _GIB or None
    return text.UNKNOWN if used is None else f"{used:.0f}/{text.number(size and round(size))}"


def _throttle(gpu: pb.NodeGpu) -> str:
    if not gpu.HasField("throttle"):
        return text.UNKNOWN
    return ",".join(word for bit, word in _THROTTLE if gpu.throttle & bit) or "none"


def _pair(one: str, other: str) -> Callable[[Any], str]:
    def cell(item: Any) -> str:
        values = [text.measured(item, field) for field in (one, other)]
        return text.UNKNOWN if values == [text.UNKNOWN] * 2 else "/".join(values)

    return cell


def _xid(gpu: pb.NodeGpu) -> str:
    if not gpu.HasField("xid_count"):
        return text.UNKNOWN
    return f"{gpu.last_xid} (×{gpu.xid_count})" if gpu.xid_count else "none"


def _near(gpu: pb.NodeGpu) -> str:
    """Return the ports that are nearest, with how near."""
    ranks = {name: _FAR.index(far) for name, far in gpu.nic_distances.items() if far in _FAR}
    if not ranks:
        return text.UNKNOWN
    least = min(ranks.values())
    return f"{','.join(sorted(name for name, far in ranks.items() if far == least))} {_FAR[least]}"


def _health(gpu: pb.NodeGpu) -> Cell | str:
    return Cell(gpu.health, _HEALTH_COLOURS.get(gpu.health)) if gpu.health else text.UNKNOWN


def _link(nic: pb.NodeNic) -> Cell | str:
    if not nic.HasField("active"):
        return text.UNKNOWN
    word = "active" if nic.active else "down"
    return Cell(word, _HEALTH_COLOURS[word])


def _rate(nic: pb.NodeNic) -> str:
    best, now = text.measured(nic, "best_rate_gbps"), text.measured(nic, "rate_gbps")
    return best if now in (best, text.UNKNOWN) else f"{now} of {best}"


_GPU_COLUMNS: tuple[tuple[str, Callable[[Any], Cell | str]], ...] = (
    ("GPU", lambda gpu: str(gpu.index)),
    ("TYPE", lambda gpu: gpu.type or text.UNKNOWN),
    ("NUMA", _value("numa_node")),
    ("NVLINK", _value("nvlink_group")),
    ("UTIL%", _value("utilization_percent")),
    ("SM%", _value("sm_activity_percent")),
    ("MEM-GIB", _memory),
    ("WATT", _value("power_watts")),
    ("°C", _value("temperature_celsius")),
    ("MHZ", _value("sm_clock_mhz")),
    ("THROTTLE", _throttle),
    ("ECC", _value("ecc_uncorrected")),
    ("XID", _xid),
    ("PCIE-MIB/S", _pair("pcie_received_mib_per_s", "pcie_sent_mib_per_s")),
    ("NVLINK-MIB/S", _pair("nvlink_received_mib_per_s", "nvlink_sent_mib_per_s")),
    ("HEALTH", _health),
    ("INSTANCE", lambda gpu: gpu.instance_id or text.NONE),
    ("STRANGERS", _value("foreign_process_count")),
    ("NEAREST-PORT", _near),
)
_NIC_COLUMNS: tuple[tuple[str, Callable[[Any], Cell | str]], ...] = (
    ("PORT", lambda nic: nic.name),
    ("LINK", _link),
    ("LAYER", lambda nic: nic.link_layer or text.UNKNOWN),
    ("NETDEV", lambda nic: nic.netdev or text.NONE),
    ("RAIL", _value("rail")),
    ("NUMA", _value("numa_node")),
    ("GBIT/S", _rate),
    ("SHARE%", _value("share_percent")),
    ("FLAPS", _value("link_flaps")),
    ("ERRORS", _value("errors")),
    ("CONGESTION", _value("congestion_marks")),
    ("WAIT-TICKS", _value("xmit_wait")),
    ("RESENT", _value("retransmissions")),
)
