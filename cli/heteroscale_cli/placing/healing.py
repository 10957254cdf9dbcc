"""What ``heteroscale plan --repair`` shows: which instance repair would move, where to, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heteroscale_cli.connection import Connection
from heteroscale_cli.output import print_text
from heteroscale_cli.placing import live, planning, terminal
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_cli.placing.planning import Asked
from heteroscale_coordinator.core.placement import Move


def show(
    connection: Connection, known: Inventory, services: Sequence[Asked], *, as_json: bool
) -> None:
    """Print what repair would do for each service; CliError: the coordinator cannot be asked."""
    told = live.repairs(connection, [one.name for one in services])
    found = {one.name: planning.healing(known, one) for one in services}
    if as_json:
        data = [_plain(one, found[one.name], told.get(one.name, "")) for one in services]
        print_text(json.dumps({"services": data}, indent=1, ensure_ascii=False))
        return
    for one in services:
        _print(one, found[one.name], told.get(one.name, ""))


def _print(one: Asked, found: Move | str, told: str) -> None:
    rules = one.spec.placement.repair
    if not found:
        print_text(f"{one.name}: nothing to heal")
    elif isinstance(found, str):
        terminal.show(f"{one.name}: nothing is moved: {found}")
    else:
        terminal.show(f"{one.name}: {found.leaves.role} {found.leaves.instance_id} {found.why}")
        where = ", ".join(
            f"{rank.agent_id} GPU {','.join(map(str, rank.gpu_indices))}"
            for rank in found.comes.spots[0].ranks
        )
        print_text(f"  first one is launched on {where}: {found.comes.reason}")
        print_text("  then the old one leaves, by a soft scale-in")
    if found and not rules.enabled:
        print_text("  not by itself: spec.placement.repair.enabled is false")
    elif isinstance(found, Move):
        print_text(f"  not before nothing of it has changed for {rules.pause:g} s")
    if told:
        terminal.show(f"  the coordinator's last word: {told}")


def _plain(one: Asked, found: Move | str, told: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "service": one.name,
        "enabled": one.spec.placement.repair.enabled,
        "pause_seconds": one.spec.placement.repair.pause,
        "coordinator_says": told,
        "move": None,
        "why_not": found if isinstance(found, str) else "",
    }
    if isinstance(found, Move):
        spot = found.comes.spots[0]
        data["move"] = {
            "leaves": found.leaves.instance_id,
            "role": found.leaves.role.value,
            "why": found.why,
            "gpu_type": spot.gpu_type,
            "group": spot.group,
            "ranks": [
                {"agent_id": rank.agent_id, "gpus": list(rank.gpu_indices)} for rank in spot.ranks
            ],
            "reason": found.comes.reason,
        }
    return data
