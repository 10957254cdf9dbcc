"""The place of a node in Slurm's topology, from the text of ``scontrol show topology``.

A tree prints a line for each switch, ``SwitchName=leaf1 Level=0 … Nodes=node[1-2]``; blocks print
``BlockName=b1 BlockIndex=0 Nodes=node[1-18]``, and larger ones that are made of them. A newer Slurm
prints more fields; what is used has been there since topology exists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from heteroscale_agent.config.places import SlurmLevels
from heteroscale_agent.probes.hostlist import contains, size
from heteroscale_agent.probes.source import SourceError, run

_FIELD = re.compile(r"(\w+)=(\S*)")
MAX_LINE = 256 * 1024


def node_name(configured: str, environ: Mapping[str, str]) -> str:
    """Return this node's name in Slurm."""
    return configured or environ.get("SLURMD_NODENAME", "") or os.uname().nodename.partition(".")[0]


def ask(node: str, deadline: float) -> str:
    """Return what Slurm prints of the topology of ``node``; blocks. Raises SourceError."""
    # Only this node's lines: ten thousand agents must not make the controller print all of them.
    return run(["scontrol", "show", "topology", node], deadline)


def domains(text: str, node: str, levels: SlurmLevels) -> tuple[dict[str, str], dict[str, str]]:
    """Return names and words of where they came from, by level.

    Raises:
        SourceError: no switch and no block of the text holds ``node``.

    """
    switches: list[tuple[int, str]] = []
    blocks: list[tuple[int, str]] = []
    for line in text.splitlines():
        fields = dict(_FIELD.findall(line[:MAX_LINE]))
        nodes = fields.get("Nodes", "")
        if not nodes or not contains(nodes, node):
            continue
        if name := fields.get("SwitchName"):
            switches.append((_number(fields.get("Level", "")), name))
        elif name := fields.get("BlockName") or fields.get("AggregatedBlock"):
            blocks.append((size(nodes), name))
    if not switches and not blocks:
        raise SourceError(
            f"Slurm's topology has no node {node!r}; set slurm.nodeName if it is called otherwise"
        )
    names: dict[str, str] = {}
    words: dict[str, str] = {}
    # Of a block cluster that prints switches too, the switches name what both can.
    for kind, found, into in (
        ("block", sorted(blocks), levels.blocks),
        ("switch", sorted(switches), levels.switches),
    ):
        for level, (_, name) in zip(_listed(into), found, strict=False):
            names[level], words[level] = name, f"slurm {kind} {name} of node {node}"
    return names, words


def _listed(levels: Sequence[str]) -> list[str]:
    return [str(level) for level in levels]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < len("100000") else 0
