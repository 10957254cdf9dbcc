"""Small random fleets, half used, and the steps of one cycle on them: what a solver can still solve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from benchmarks.placement.baseline import units, wall_of
from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, NodeView
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec
from heteroscale_coordinator.core.topology import SubgroupClass, Tree, paths_of
from heteroscale_simulator.fleet import hosts, parse_fleet, views
from heteroscale_simulator.inventory import Kind, Wish, build, fleet_text

TEMPLATE = "any"
MOST_NODES = 40
TYPES = ("H20", "H100", "L20")
LEVELS = ("s1", "s2", "cluster")
LOADS = {"light": 0.35, "full": 0.8, "over": 1.3}
"""GPUs that the steps want together, as a share of those that are free."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet, and steps in the order of their priority."""

    name: str
    nodes: tuple[NodeView, ...]
    asks: tuple[Ask, ...]

    def problem(self, *, ordered: bool, wishes: bool = False) -> dict[str, Any]:
        """Return it as the solver reads it: plain numbers and names.

        ``ordered``: no step may be left out for later ones, however many. ``wishes``: nor may what a step
        wishes, its domain and its first GPU types, be given up for them.
        """
        tree = Tree(self.nodes)
        return {
            "name": self.name,
            "ordered": ordered,
            "wishes": wishes,
            "nodes": [
                {
                    "free": len(node.free) if node.usable else 0,
                    "type": node.gpu_types[0],
                    "high": tree.class_of(node.agent_id) is SubgroupClass.HIGH,
                    **{level: str(getattr(paths_of(node.topology), level)) for level in LEVELS},
                }
                for node in self.nodes
            ],
            "steps": [_step(ask) for ask in self.asks],
        }


def _step(ask: Ask) -> dict[str, Any]:
    return {
        "level": ask.placement.affinity,
        "wall": wall_of(ask),
        "roles": {
            role: {
                "types": list(ask.roles[role].gpu_types),
                "gpus": ask.roles[role].gpus,
                "ranks": ask.roles[role].ranks,
                "count": count,
            }
            for role, count in ask.delta.items()
        },
        "units": [dict(unit) for unit in units(ask)],
    }


def fleet_of(wish: Wish) -> list[NodeView]:
    """Return an empty fleet as placement sees it."""
    return views(hosts(parse_fleet(fleet_text(build(wish), "a benchmark")).spec), [TEMPLATE])


def random_case(load: str, seed: int) -> Case:
    """Return one case; the same seed gives the same."""
    dice = np.random.default_rng([seed, list(LOADS).index(load)])
    types = TYPES[: int(dice.integers(2, 4))]
    total = int(dice.integers(8, MOST_NODES + 1))
    shares = dice.dirichlet([3.0] * len(types))
    counts = [max(1, int(total * share)) for share in shares]
    wish = Wish(
        tuple(Kind(name, count) for name, count in zip(types, counts, strict=True)),
        ports=int(dice.integers(2, 5)),
        s1_per_s2=int(dice.integers(2, 4)),
        s2_per_cluster=100,
        mixed_s1=0.2,
        mixed_s2=0.6,
        down=0.03,
        broken_gpus=0.01,
        seed=seed,
    )
    nodes = tuple(_used(node, dice) for node in fleet_of(wish))
    free = sum(len(node.free) for node in nodes if node.usable)
    asks: list[Ask] = []
    wanted = 0
    while wanted < LOADS[load] * free:
        ask = _ask(f"s{len(asks):02d}", types, dice)
        asks.append(ask)
        wanted += sum(ask.roles[r].gpus * ask.roles[r].ranks * n for r, n in ask.delta.items())
    return Case(f"{load}-{seed}", nodes, tuple(asks))


def _used(node: NodeView, dice: np.random.Generator) -> NodeView:
    """Give some GPUs of half the nodes to others."""
    if dice.random() < 0.5:
        return node
    kept = dice.permutation(len(node.free))[: int(dice.integers(0, len(node.free) + 1))]
    return replace(node, free=tuple(sorted(node.free[int(index)] for index in kept)))


def _ask(service: str, types: tuple[str, ...], dice: np.random.Generator) -> Ask:
    prefill, decode = (types[int(i)] for i in dice.choice(len(types), 2, replace=False))
    kind = dice.random()
    pairs: tuple[tuple[str, ...], tuple[str, ...]] = ((prefill,), (decode,))
    if kind < 0.3:
        pairs = ((prefill,), (prefill,))
    elif kind < 0.5:
        pairs = ((prefill, decode), (decode, prefill))
    roles = {}
    for role, names in zip((Role.PREFILL, Role.DECODE), pairs, strict=True):
        ranks = 2 if dice.random() < 0.1 else 1
        gpus = int(dice.choice([1, 1, 2, 2, 4, 8])) if ranks == 1 else int(dice.choice([4, 8]))
        roles[role] = RoleSpec(template=TEMPLATE, gpu_types=names, gpus=gpus, ranks=ranks)
    level = cast(Literal["s1", "s2", "cluster"], LEVELS[int(dice.choice(3, p=[0.4, 0.4, 0.2]))])
    placement = PlacementSpec(affinity=level, required=bool(dice.random() < 0.5))
    delta = {Role.PREFILL: int(dice.integers(1, 4)), Role.DECODE: int(dice.integers(1, 5))}
    return Ask(service, roles, delta, placement)
