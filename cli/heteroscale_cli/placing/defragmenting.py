"""What ``heteroscale plan --defragment`` does: moves that would empty nodes, and how to make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from heteroscale_cli.connection import Connection
from heteroscale_cli.output import Table, print_text
from heteroscale_cli.placing import live, planning, tree
from heteroscale_cli.placing.inventory import Holder, Inventory
from heteroscale_cli.placing.tree import Branch
from heteroscale_coordinator.core.placement.emptying import Emptied


def show(connection: Connection, *, as_json: bool) -> None:
    """Print what could be emptied; CliError: the coordinator cannot be asked."""
    known, holders = live.read(connection), live.holders(connection)
    found = planning.emptied(known, holders)
    before, after = tree.grow(known), tree.grow(planning.moved(known, found))
    who = {holder.tenant.instance_id: holder for holder in holders}
    if as_json:
        print_text(json.dumps(_plain(before, after, found, who), indent=1))
    elif not found:
        print_text(f"Nothing to move: no node can be emptied inside its S1. {_state(before)}")
    else:
        _print(known, found, who, before, after)


def _print(
    known: Inventory,
    found: Sequence[Emptied],
    who: Mapping[str, Holder],
    before: Branch,
    after: Branch,
) -> None:
    s1 = {node.view.agent_id: node.view.topology.get("s1", "?") for node in known.nodes}
    rows = [
        [
            shift.instance_id,
            who[shift.instance_id].service or "-",
            who[shift.instance_id].role,
            str(len(shift.gpus)),
            one.agent_id,
            shift.agent_id,
            s1[one.agent_id],
        ]
        for one in found
        for shift in one.shifts
    ]
    header = ["INSTANCE", "SERVICE", "ROLE", "GPUS", "FROM", "TO", "S1"]
    print_text("\n".join(Table(header).lines(rows)))
    print_text(f"\nNow:   {_state(before)}\nThen:  {_state(after)}")
    print_text(
        "\nTo make the moves, one node at a time (the coordinator chooses where they go anew):"
    )
    print_text("\n".join(f"  {line}" for line in commands(found)))


def commands(found: Sequence[Emptied]) -> list[str]:
    """Return the commands that make the moves: closed to new instances, a node is emptied by drains."""
    return [
        line
        for one in found
        for line in (
            f"heteroscale cordon {one.agent_id} --reason defragment",
            *(f"heteroscale drain {shift.instance_id} --wait" for shift in one.shifts),
            f"heteroscale uncordon {one.agent_id}",
        )
    ]


def _state(root: Branch) -> str:
    return f"{root.empty} of {root.nodes} nodes empty, {root.scattered} free GPUs on others."


def _plain(
    before: Branch, after: Branch, found: Sequence[Emptied], who: Mapping[str, Holder]
) -> dict[str, Any]:
    return {
        "empty_nodes": {"now": before.empty, "then": after.empty},
        "scattered_gpus": {"now": before.scattered, "then": after.scattered},
        "nodes": [
            {
                "agent_id": one.agent_id,
                "moves": [
                    {
                        "instance_id": shift.instance_id,
                        "service": who[shift.instance_id].service,
                        "role": who[shift.instance_id].role,
                        "to": shift.agent_id,
                        "gpus": list(shift.gpus),
                    }
                    for shift in one.shifts
                ],
            }
            for one in found
        ],
        "commands": commands(found),
    }
