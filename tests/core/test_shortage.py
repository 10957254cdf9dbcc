"""Shortage within the turn: the lower gives what the higher lacks, softly, and gets it back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.taints import parse_taint
from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import shortage
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    ApplyService,
    CordonNode,
    InventoryLearned,
    PauseService,
    ResumeService,
    ScaleService,
)
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.world import World

P, D = Role.PREFILL, Role.DECODE


def service(
    priority: int,
    *,
    types: tuple[str, ...] = (),
    essential: int = 2,
    hourly: float = 1.0,
    **more: Any,
) -> ServiceSpec:
    role = {"gpuTypes": list(types), "target": 1000}
    return ServiceSpec.model_validate(
        {
            "roles": {
                "prefill": {**role, "template": "prefill", "min": 1, "max": 8},
                "decode": {
                    **role,
                    "template": "decode",
                    "min": 2,
                    "max": 16,
                    "essential": essential,
                },
            },
            "ratio": "1:2",
            "priority": priority,
            # Idle services would shrink by their own law: here they change for each other alone.
            "policy": {"cooldownIn": "1h", "shortage": {"hourly": hourly}},
            **more,
        }
    )


def world_of(high: ServiceSpec, *low: ServiceSpec, types: tuple[str, ...] = ("H20",) * 3) -> World:
    """Return a world whose GPUs are all taken: ``chat`` has 1 + 2, each of ``low`` the rest, 3 + 6."""
    world = World()
    for index, kind in enumerate(types):
        world.join(f"n{index}", {"s1": "pod"}, [kind] * 4)
    world.send(ApplyService("r", "chat", high, ""))
    for number, spec in enumerate(low):
        world.send(ApplyService("r", f"batch-{number}", spec, ""))
    world.run(60)
    for number in range(len(low)):
        world.send(ScaleService("r", f"batch-{number}", {P: 3, D: 6}))
    world.run(60)
    return world


def serving(world: World, name: str) -> tuple[int, int]:
    found = [i.role for i in world.state.of_service(name) if i.state is S.IN_SERVICE]
    return found.count(P), found.count(D)


def decided(world: World, name: str, action: Action) -> list[str]:
    return [d.reason for d in world.decisions if d.service == name and d.action is action]


def grow(world: World, prefill: int, decode: int, seconds: float) -> World:
    world.send(ScaleService("r", "chat", {P: prefill, D: decode}))
    world.run(seconds)
    return world


def test_the_lower_gives_what_the_higher_lacks_after_its_patience() -> None:
    world = world_of(service(10), service(0))
    assert (serving(world, "chat"), serving(world, "batch-0")) == ((1, 2), (3, 6))
    grow(world, 2, 4, 50)
    assert not decided(world, "batch-0", Action.SCALE_IN), "the higher one is patient first"
    world.run(120)
    assert (serving(world, "chat"), serving(world, "batch-0")) == ((2, 4), (2, 4))
    (why,) = decided(world, "batch-0", Action.SCALE_IN)
    assert why.startswith("Chat of higher priority needs 3 GPUs: 1 prefill, 2 decode withdrawn")
    states = [i.state for i in world.state.of_service("batch-0")]
    assert (states.count(S.TERMINATED), states.count(S.FAILED)) == (3, 0), "softly"


def test_it_gives_no_more_than_its_essential_counts_leave() -> None:
    world = grow(world_of(service(10), service(0, essential=4)), 4, 8, 300)
    assert serving(world, "batch-0") == (2, 4)
    assert serving(world, "chat") == (2, 4)


@pytest.mark.parametrize(
    "low",
    [
        service(10),
        service(11),
        service(0, hourly=0.0),
        service(0, advisory=True),
    ],
    ids=["an equal", "a higher", "one without a budget", "an advisory"],
)
def test_who_never_gives(low: ServiceSpec) -> None:
    world = world_of(service(10), low) if not low.advisory else world_of(service(10), service(0))
    if low.advisory:
        world.send(ApplyService("r", "batch-0", low, ""))
    grow(world, 2, 4, 300)
    assert not [i for i in world.state.of_service("batch-0") if i.state is not S.IN_SERVICE]


def test_the_lowest_is_asked_first() -> None:
    world = world_of(service(10), service(5), service(0), types=("H20",) * 6)
    grow(world, 4, 7, 200)
    assert serving(world, "batch-0") == (3, 6)
    assert serving(world, "batch-1") != (3, 6)


def test_only_gpus_that_the_higher_can_use_are_asked_for() -> None:
    high, low = service(10, types=("H20",)), service(0, types=("L20",))
    world = world_of(high, low, types=("H20", "L20", "L20", "L20"))
    grow(world, 2, 4, 300)
    assert serving(world, "batch-0") == (3, 6)
    assert not decided(world, "batch-0", Action.SCALE_IN)


def test_who_is_paused_neither_takes_nor_gives() -> None:
    world = world_of(service(10), service(0))
    world.send(PauseService("r", "batch-0", "by hand"))
    grow(world, 2, 4, 200)
    assert serving(world, "batch-0") == (3, 6)
    world.send(ResumeService("r", "batch-0"))
    world.send(PauseService("r", "chat", "by hand"))
    world.run(200)
    assert serving(world, "batch-0") == (3, 6)


def test_a_lower_one_takes_nothing_that_a_higher_one_waits_for() -> None:
    world = world_of(service(10), service(0), types=("H20", "H20", "H20"))
    grow(world, 4, 8, 20)
    world.send(ScaleService("r", "batch-0", {P: 4, D: 8}))
    world.run(10)
    world.join("n9", {"s1": "pod"}, ["H20"] * 2)
    world.run(60)
    assert not [i for i in world.state.of_service("batch-0") if i.agent_id == "n9"]
    assert [i for i in world.state.of_service("chat") if i.agent_id == "n9"]


def test_when_it_is_over_they_grow_again_by_their_own_need() -> None:
    world = grow(world_of(service(10), service(0)), 2, 4, 200)
    world.send(ScaleService("r", "batch-0", {P: 3, D: 6}))
    world.run(60)
    assert serving(world, "batch-0") == (2, 4), "there is no room"
    world.join("n9", {"s1": "pod"}, ["H20"] * 4)
    world.run(60)
    assert serving(world, "batch-0") == (3, 6)


def test_without_anybody_in_need_nothing_is_looked_at() -> None:
    world = world_of(service(10), service(0))
    assert shortage.lacks(Draft(world.state, world.now, world._mint)) == ()


def test_what_is_cordoned_is_not_asked_for_it_would_help_nobody() -> None:
    world = world_of(service(10), service(0))
    for node in ("n0", "n1", "n2"):
        world.send(CordonNode("r", node))
    grow(world, 2, 4, 300)
    assert serving(world, "batch-0") == (3, 6)
    assert not decided(world, "batch-0", Action.SCALE_IN)


@pytest.mark.parametrize("tolerated", [False, True])
def test_what_it_does_not_tolerate_is_not_asked_for(tolerated: bool) -> None:
    bears = {"tolerations": [{"operator": "Exists"}]} if tolerated else {}
    world = world_of(service(10, placement=bears), service(0))
    for name in ("n0", "n1", "n2"):
        agent = world.agents[name]
        taints = (parse_taint("dedicated=train:NoSchedule"),)
        agent.inventory = replace(agent.inventory, hash="tainted", taints=taints)
        world.send(InventoryLearned(name, agent.inventory))
    grow(world, 2, 4, 300)
    assert bool(decided(world, "batch-0", Action.SCALE_IN)) is tolerated
    assert serving(world, "chat") == ((2, 4) if tolerated else (1, 2))


def test_nobody_gives_what_a_quota_forbids_to_take() -> None:
    """Two sub-clusters; the one in need has its quota in the one and is left out of the other."""
    quotas = {
        "subClusters": {
            "east": {"serviceQuotas": {"chat": 3}},
            "west": {"serviceQuotas": {"chat": 0}},
        }
    }
    world = sited(Rules.model_validate(quotas))
    grow(world, 2, 4, 300)
    assert serving(world, "chat") == (1, 2)
    assert not decided(world, "batch-0", Action.SCALE_IN)


def test_as_much_is_given_as_a_quota_lets_in() -> None:
    quotas = {
        "subClusters": {
            "east": {"serviceQuotas": {"chat": 6}},
            "west": {"serviceQuotas": {"chat": 0}},
        }
    }
    world = sited(Rules.model_validate(quotas))
    grow(world, 3, 6, 300)
    assert serving(world, "chat") == (2, 4)
    (why,) = decided(world, "batch-0", Action.SCALE_IN)
    assert why.startswith("Chat of higher priority needs 3 GPUs")


def test_who_holds_a_shared_quota_gives_of_it() -> None:
    """There are GPUs free, but the quota of their type is used up by others."""
    told = {"east": {"quotas": {"H20": 9}}, "west": {"serviceQuotas": {"chat": 0}}}
    world = sited(Rules.model_validate({"subClusters": told}), batch=(2, 4))
    grow(world, 2, 4, 300)
    assert serving(world, "chat") == (2, 4)
    (why,) = decided(world, "batch-0", Action.SCALE_IN)
    assert why.startswith("Chat of higher priority needs 3 GPUs")


def sited(rules: Rules, batch: tuple[int, int] = (3, 6)) -> World:
    """Return ``world_of`` in two sub-clusters, all GPUs taken: east of twelve, west of four."""
    world = World(rules)
    for index, site in enumerate(("east", "east", "east", "west")):
        levels = {"s1": f"pod-{site}", "physical_cluster": site}
        world.join(f"n{index}", levels, ["H20"] * 4)
    here = {"subCluster": {"require": ["east"]}}
    world.send(ApplyService("r", "chat", service(10), ""))
    world.run(60)
    for name, spec, counts in (
        ("batch-0", service(0, placement=here), batch),
        ("filler", service(0, placement={"subCluster": {"require": ["west"]}}), (1, 3)),
    ):
        world.send(ApplyService("r", name, spec, ""))
        world.run(60)
        world.send(ScaleService("r", name, {P: counts[0], D: counts[1]}))
        world.run(60)
    assert sum(one.state is S.IN_SERVICE for one in world.state.instances.values()) == 7 + sum(
        batch
    )
    return world
