"""A plan as plain data, for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from heteroscale_cli.placing import costs
from heteroscale_cli.placing.inventory import Inventory
from heteroscale_cli.placing.planning import Plan, Planned
from heteroscale_coordinator.core.model import Rank
from heteroscale_coordinator.core.placement import Infeasible, Placed, Spot, Standing
from heteroscale_coordinator.core.topology import Tree


def plan(made: Plan) -> dict[str, Any]:
    """Return the plan as plain data."""
    return {
        "fleet": made.fleet,
        "feasible": made.feasible,
        "cost_per_hour": costs.of_plan(made).per_hour,
        "services": [_service(one, made.after) for one in made.services],
    }


def _service(one: Planned, after: Inventory) -> dict[str, Any]:
    wished = one.asked.spec.placement
    data: dict[str, Any] = {
        "service": one.asked.name,
        "priority": one.asked.spec.priority,
        "asked": {role.value: n for role, n in one.counts.items()},
        "standing": _counted(one.standing),
        "feasible": isinstance(one.found, Placed),
        "affinity": {"wished": wished.affinity, "required": wished.required},
        "notes": list(one.notes),
    }
    if isinstance(one.found, Infeasible):
        helpful = [{"kind": remedy.kind, "text": remedy.text} for remedy in one.remedies]
        return data | {"reasons": list(one.found.reasons), "remedies": helpful}
    data["affinity"]["met"] = one.found.affinity_met
    views = [node.view for node in one.before]
    classes, by_id = Tree(views), {view.agent_id: view for view in views}

    def homes(rank: Rank) -> dict[str, list[int]]:
        view = by_id[rank.agent_id]
        told = {"numa_nodes": view.neighbourhoods, "nvlink_groups": view.links}
        return {
            name: sorted({near[i] for i in rank.gpu_indices if i in near})
            for name, near in told.items()
            if near
        }

    def instance(spot: Spot) -> dict[str, Any]:
        ranks = [
            {
                "agent_id": rank.agent_id,
                "gpus": list(rank.gpu_indices),
                **homes(rank),
                "topology": dict(by_id[rank.agent_id].topology),
                "class": classes.class_of(rank.agent_id).name.lower(),
            }
            for rank in spot.ranks
        ]
        return {
            "role": spot.role.value,
            "gpu_type": spot.gpu_type,
            "group": spot.group,
            "ranks": ranks,
        }

    cost = costs.of_spots(one.spots, after)
    return data | {
        "reason": one.found.reason,
        "cost": {
            "per_hour": cost.per_hour,
            "gpus": [line._asdict() for line in cost.lines],
        },
        "instances": [instance(spot) for spot in one.found.spots],
        "rejected": list(one.found.rejected),
    }


def _counted(standing: Sequence[Standing]) -> dict[str, int]:
    return dict(Counter(one.role.value for one in standing if not one.withdrawn))
