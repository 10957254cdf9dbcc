"""What is told of clusters that schedulers run: holdings, closed nodes, quotas, agents within nodes."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import WITHIN, InstanceState, Role
from heteroscale_coordinator.core import sites, subclusters
from heteroscale_coordinator.core.breaker import NOTHING_BARRED
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    AgentConnected,
    ClusterTold,
    Event,
    InventoryLearned,
    NodeGone,
    NodeTold,
    RankChanged,
    Tick,
)
from heteroscale_coordinator.core.holdings import Held, not_offered
from heteroscale_coordinator.core.model import Inventory, RankFact
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.rules import Rules, SubClusterRules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step

NOW = 1_000_000.0
EAST = {"physical_cluster": "east"}
GPUS = tuple(GpuFact(index, "H20") for index in range(4))


def _mint(kind: str) -> str:
    return f"{kind}-1"


def told(state: State, *events: Event) -> None:
    state.apply(step(state, [*events, Tick()], NOW, _mint))


def fleet(rules: Rules | None = None) -> State:
    state = State(rules=rules or Rules())
    state.begin(NOW)
    for name in ("east/n0", "east/n1"):
        told(state, InventoryLearned(name, Inventory(gpus=GPUS, topology=EAST)))
        told(state, AgentConnected(name, 1, name))
    return state


def seen(state: State, agent_id: str) -> NodeView | None:
    return sites.view(Draft(state, NOW, _mint)).node(agent_id)


def free(state: State, agent_id: str) -> tuple[int, ...]:
    node = seen(state, agent_id)
    assert node is not None
    return tuple(node.free)


def fact(state: InstanceState = InstanceState.IN_SERVICE) -> RankFact:
    return RankFact("i-1", "chat", Role.DECODE, state, 1, gpu_indices=(0,))


def test_indices_that_are_told_are_held_and_numbers_take_the_highest() -> None:
    held = [Held("b", 1, (0,)), Held("a", 2)]
    found = not_offered(held, range(4), (), ())
    assert {index: one.holder for index, one in found.items()} == {0: "b", 3: "a", 2: "a"}


def test_an_index_that_is_taken_already_costs_another_one() -> None:
    found = not_offered([Held("b", 1, (0,))], range(4), {0}, ())
    assert list(found) == [3]


def test_more_than_there_is_holds_all_that_is_left() -> None:
    assert sorted(not_offered([Held("a", 9)], range(4), {1}, ())) == [0, 2, 3]


def test_who_is_counted_already_holds_nothing_more() -> None:
    assert not not_offered([Held("mine", 1, (), "i-1")], range(4), {0}, {"i-1"})


def test_others_gpus_are_not_offered_and_it_is_said_who_has_them() -> None:
    state = fleet()
    told(state, NodeTold("east/n0", (Held("job/7", 3),)))
    assert free(state, "east/n0") == (0,)
    node = seen(state, "east/n0")
    assert node is not None
    assert node.closed[3] == "held by job/7"
    told(state, NodeTold("east/n0"))
    assert free(state, "east/n0") == (0, 1, 2, 3)


def test_a_closed_node_is_not_usable_and_says_why() -> None:
    state = fleet()
    told(state, NodeTold("east/n0", (), "drained: disk"))
    node = seen(state, "east/n0")
    assert node is not None
    assert (node.usable, node.why_not) == (False, "drained: disk")


def test_a_node_that_left_is_forgotten_and_what_stood_there_is_lost() -> None:
    state = fleet()
    told(state, RankChanged("east/n0", fact()))
    told(state, NodeGone("east/n0"), NodeGone("east/never"))
    assert "east/n0" not in state.agents
    assert state.instances["i-1"].state is InstanceState.LOST
    assert seen(state, "east/n0") is None


def test_gpus_of_an_agent_within_a_node_are_offered_once_and_held_once() -> None:
    state = fleet()
    inner = Inventory(gpus=GPUS[:1], labels={WITHIN: "east/n0"})
    told(state, InventoryLearned("job-1", inner), AgentConnected("job-1", 1, "job-1"))
    assert seen(state, "job-1") is None
    told(state, RankChanged("job-1", fact()), NodeTold("east/n0", (Held("j", 1, (), "i-1"),)))
    assert len(free(state, "east/n0")) == 3
    assert not seen(state, "east/n0").closed  # type: ignore[union-attr]
    assert state.sub_cluster("job-1") == "east"
    assert state.place_of("job-1") == "east/n0"
    assert state.place_of("nobody") == "nobody"
    draft = Draft(state, NOW, _mint)
    assert [one.agent_id for one in sites.nodes(draft)] == ["east/n0", "east/n1"]


def test_the_lower_of_the_operators_and_the_clusters_quota_holds() -> None:
    own = {"east": SubClusterRules.model_validate({"quotas": {"H20": 3, "L20": 9}})}
    state = fleet(Rules(sub_clusters=own))
    quotas = {"H20": 5, "L20": 2, "H800": 1}
    told(state, ClusterTold("east", quotas))
    limits = subclusters.outlook(state, NOTHING_BARRED)["east"].quotas
    assert limits == {"H20": 3, "L20": 2, "H800": 1}


def test_a_quota_of_any_type_holds_for_each() -> None:
    state = fleet()
    told(state, ClusterTold("east", {"": 2}))
    seen(state, "east/n0")
    assert subclusters.outlook(state, NOTHING_BARRED)["east"].quotas == {"H20": 2}
    told(state, replace(state.clusters["east"], quotas={}))
    assert not subclusters.outlook(state, NOTHING_BARRED)
