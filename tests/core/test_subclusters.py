"""Stories of several sub-clusters: one falls silent, or refuses; its work is placed elsewhere, once."""

from __future__ import annotations

from collections import Counter

import pytest

from heteroscale.documents import read_documents
from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_coordinator.core.events import (
    ApplyService,
    CommandAnswered,
    DrainInstance,
    ScaleService,
)
from heteroscale_coordinator.core.model import CommandState, Instance, Verb
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.world import World

S = InstanceState
SPEC = """
roles:
  prefill: {template: prefill, gpuTypes: [H20], min: 1, max: 10, target: 5000}
  decode: {template: decode, gpuTypes: [H20], min: 2, max: 20, target: 1000}
ratio: "1:2"
"""


def world(rules: Rules | None = None, sites: tuple[str, ...] = ("east", "west")) -> World:
    """Return sub-clusters of four agents with four GPUs each."""
    made = World(rules)
    for site in sites:
        for number in range(4):
            levels = {"s1": f"{site}-{number // 2}", "s2": site, "physical_cluster": site}
            made.join(f"{site}-{number}", levels, ["H20"] * 4)
    made.turn()
    return made


def apply(made: World, placement: str = "{}", name: str = "chat", more: str = "") -> None:
    document = f"{SPEC}placement: {placement}\n{more}"
    spec = ServiceSpec.model_validate(read_documents(document)[0].data)
    made.send(ApplyService("r", name, spec, document))


def silence(made: World, *names: str) -> None:
    for name in names or [agent for agent in made.agents if agent.startswith("east")]:
        made.agents[name].silent = True


def heard_again(made: World) -> None:
    for agent in made.agents.values():
        if agent.silent:
            agent.silent = False
            made.hello(agent)


def there(made: World, site: str, *states: InstanceState) -> list[Instance]:
    """Return the instances of a sub-cluster, in any of ``states`` if given."""
    return [
        one
        for one in made.state.instances.values()
        if one.agent_id.startswith(site) and (not states or one.state in states)
    ]


def launches(made: World, site: str) -> int:
    return sum(c.verb is Verb.LAUNCH and c.agent_id.startswith(site) for c in made.commands)


EAST_FIRST = "{subCluster: {prefer: [east]}}"


def deaf_east(made: World, *, started: bool) -> None:
    """East stops talking in the moment at which a step is ordered there; it may have started it."""
    apply(made, EAST_FIRST)
    if started:
        made.turn()
        made.turn()
        for agent in made.agents.values():
            made._inbox = [e for e in made._inbox if getattr(e, "agent_id", "") != agent.agent_id]
    else:
        silence(made)
        for agent in made.agents.values():
            agent.silent = agent.agent_id.startswith("east")
        made.turn()
        made.turn()
    silence(made)


@pytest.mark.parametrize("started", [False, True])
def test_pending_work_of_a_silent_sub_cluster_is_placed_elsewhere_once(started: bool) -> None:
    made = world()
    deaf_east(made, started=started)
    assert {one.state for one in there(made, "east")} == {S.PENDING}

    made.run(25)

    assert made.state.silent_sub_clusters == {"east": "silent: 4 of 4 agents are not heard"}
    assert {one.state for one in there(made, "east")} == {S.LOST}
    assert len(there(made, "west")) == 3
    placed = next(
        d
        for d in made.decisions
        if any(i.instance_id in d.instance_ids for i in there(made, "west"))
    )
    assert "left out: east (silent: 4 of 4 agents are not heard)" in placed.inputs["placement"]
    made.run(300)
    assert launches(made, "west") == 3
    assert launches(made, "east") == 3


def test_on_return_what_never_started_is_ended_and_nothing_is_sent_again() -> None:
    made = world()
    deaf_east(made, started=False)
    made.run(25)
    sent = launches(made, "east")

    heard_again(made)
    made.run(200)

    assert made.state.silent_sub_clusters == {}
    assert {one.state for one in there(made, "east")} == {S.TERMINATED}
    assert launches(made, "east") == sent
    assert Counter(one.role for one in there(made, "west", S.IN_SERVICE)) == {
        Role.PREFILL: 1,
        Role.DECODE: 2,
    }
    memory = made.state.services["chat"].memory
    assert not memory.launch_failures
    assert not memory.stability.sub_clusters


def test_on_return_what_did_start_counts_and_leaves_by_a_soft_scale_in() -> None:
    made = world()
    deaf_east(made, started=True)
    made.run(60)
    orphans = {one.instance_id for one in there(made, "east")}

    heard_again(made)
    made.run(1500)

    assert {
        made.state.instances[name].state for name in orphans if name in made.state.instances
    } <= {S.TERMINATED}
    orders = [c.verb for c in made.commands if c.instance_id in orphans]
    assert Counter(orders)[Verb.WITHDRAW] == 3
    assert orders.index(Verb.WITHDRAW) < orders.index(Verb.DRAIN)
    assert Verb.TERMINATE not in orders
    assert len(there(made, "west", S.IN_SERVICE)) == 3


def test_a_silent_stream_that_lives_on_ends_what_never_started_after_the_deadline() -> None:
    made = world()
    deaf_east(made, started=False)
    made.run(25)

    for agent in made.agents.values():
        agent.silent = False
    made.run(200)

    assert {one.state for one in there(made, "east")} == {S.TERMINATED}


def test_an_agents_late_no_to_what_was_placed_elsewhere_is_no_failure() -> None:
    made = world()
    deaf_east(made, started=False)
    made.run(25)
    orders = [c for c in made.state.commands.values() if c.agent_id.startswith("east")]

    for agent in made.agents.values():
        agent.silent = False
    for order in orders:
        answer = CommandAnswered(
            order.agent_id, order.command_id, Outcome.REFUSED, "too late", None
        )
        made.send(answer)
    made.run(30)

    assert {one.state for one in there(made, "east")} == {S.TERMINATED}
    assert not made.state.services["chat"].memory.stability.sub_clusters
    assert not made.state.services["chat"].memory.launch_failures


def test_a_new_coordinator_lets_agents_find_it_before_it_gives_up_what_is_pending() -> None:
    made = world()
    deaf_east(made, started=True)
    made.state.started_at = made.now
    for agent in made.state.agents.values():
        agent.heard = False

    made.run(40)
    assert "east" in made.state.silent_sub_clusters, "nothing new goes there at once"
    assert {one.state for one in there(made, "east")} == {S.UNKNOWN}
    made.run(30)
    assert {one.state for one in there(made, "east")} == {S.LOST}


def test_what_runs_in_a_silent_sub_cluster_stays_counted_and_is_not_replaced() -> None:
    made = world()
    apply(made, EAST_FIRST)
    made.run(60)
    assert len(there(made, "east", S.IN_SERVICE)) == 3

    silence(made)
    made.run(600)

    assert {one.state for one in there(made, "east")} == {S.UNKNOWN}
    assert there(made, "west") == []
    heard_again(made)
    made.run(60)
    assert len(there(made, "east", S.IN_SERVICE)) == 3


def test_what_is_missing_beside_a_silent_sub_cluster_is_launched_in_another() -> None:
    made = world()
    apply(made, EAST_FIRST)
    made.run(60)
    silence(made)
    made.run(60)
    assert "A sub-cluster is silent: its instances count" in made.decisions[-1].reason

    made.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    made.run(60)

    assert {one.state for one in there(made, "east")} == {S.UNKNOWN}
    assert len(there(made, "west", S.IN_SERVICE)) == 3
    heard_again(made)
    made.run(300)
    assert (len(there(made, "east")), len(there(made, "west"))) == (3, 3)


def test_in_a_partition_across_sub_clusters_nothing_is_launched() -> None:
    made = world()
    apply(made, "{subCluster: {require: [west]}, spread: {level: node, most: 1}}")
    made.run(60)
    silence(made, "east-0", "east-1", "east-2", "west-0", "west-1")
    made.run(60)
    assert made.state.silent_sub_clusters.keys() == {"east"}
    assert there(made, "west", S.UNKNOWN)

    made.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    made.run(60)

    assert len(there(made, "west")) == 3
    assert "a partition, not deaths" in made.decisions[-1].reason


def test_most_agents_silent_is_silent_and_the_rest_gets_nothing_new() -> None:
    made = world()
    silence(made, "east-0", "east-1", "east-2")
    made.run(20)
    apply(made, EAST_FIRST)
    made.run(60)

    assert there(made, "east") == []
    assert len(there(made, "west", S.IN_SERVICE)) == 3


def test_half_the_agents_silent_is_not() -> None:
    made = world()
    silence(made, "east-0", "east-1")
    made.run(20)
    apply(made, EAST_FIRST)
    made.run(60)

    assert made.state.silent_sub_clusters == {}
    assert len(there(made, "east", S.IN_SERVICE)) == 3


def test_where_there_is_no_other_sub_cluster_none_is_left_out() -> None:
    made = world(sites=("east",))
    silence(made, "east-0", "east-1", "east-2")
    made.run(20)
    apply(made)
    made.run(60)

    assert made.state.silent_sub_clusters == {}
    assert len(there(made, "east", S.IN_SERVICE)) == 3


def test_all_silent_takes_nothing_back_for_there_is_no_elsewhere() -> None:
    made = world()
    deaf_east(made, started=True)
    silence(made, *made.agents)
    made.run(30)

    assert {one.state for one in there(made, "east")} == {S.UNKNOWN}


def refusing(made: World, site: str, why: str) -> None:
    for agent in made.agents.values():
        if agent.agent_id.startswith(site):
            agent.refuses = why


def test_a_refusing_sub_cluster_is_left_out_tried_again_and_taken_back() -> None:
    made = world()
    refusing(made, "east", "quota exceeded")
    apply(made, EAST_FIRST)
    made.run(120)
    breakers = made.state.services["chat"].memory.stability.sub_clusters

    assert breakers["east"].until is not None
    assert len(there(made, "west", S.IN_SERVICE)) == 3
    placed = [
        d.inputs["placement"] for d in made.decisions if "left out" in d.inputs.get("placement", "")
    ]
    assert placed
    assert "left out: east (refusing: 3 launches failed in a row" in placed[0]

    refusing(made, "east", "")
    made.run(900)
    made.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    made.run(200)
    assert len(there(made, "east", S.IN_SERVICE)) == 3
    assert not made.state.services["chat"].memory.stability.sub_clusters


def test_a_refusing_one_closes_to_its_own_service_alone() -> None:
    made = world()
    refusing(made, "east", "no")
    apply(made, EAST_FIRST)
    made.run(120)
    refusing(made, "east", "")
    apply(made, EAST_FIRST, "other")
    made.run(60)

    assert len([one for one in there(made, "east", S.IN_SERVICE) if one.service == "other"]) == 3


def test_a_lone_sub_cluster_has_no_breaker() -> None:
    made = world(sites=("east",))
    refusing(made, "east", "no")
    apply(made)
    made.run(120)

    assert not made.state.services["chat"].memory.stability.sub_clusters


def rules(text: str) -> Rules:
    return Rules.model_validate(read_documents(text)[0].data)


def test_quotas_hold_over_services_and_over_a_long_time() -> None:
    made = world(
        rules("subClusters: {east: {quotas: {H20: 6}}, west: {serviceQuotas: {chat: 3, other: 0}}}")
    )
    most = Counter[str]()

    def watch(seen: World) -> None:
        for site in ("east", "west"):
            held = there(seen, site, *set(S) - {S.FAILED, S.TERMINATED})
            most[site] = max(most[site], len(held))

    made.on_turn = watch
    apply(made)
    apply(made, name="other")
    for name in ("chat", "other"):
        made.send(ScaleService("r", name, {Role.PREFILL: 3, Role.DECODE: 6}))
    made.run(300)

    assert most == {"east": 6, "west": 3}
    held = [d for d in made.decisions if d.bound_by == "placement" and "quota" in d.reason]
    assert held
    assert {one.service for one in there(made, "west", S.IN_SERVICE)} == {"chat"}


def test_the_cheapest_sub_cluster_is_taken() -> None:
    made = world(rules("{prices: {H20: 2}, subClusters: {west: {prices: {H20: 1}}}}"))
    apply(made)
    made.run(60)

    assert len(there(made, "west", S.IN_SERVICE)) == 3
    assert "sub-cluster west, east costs 6 an hour, not 3" in made.decisions[0].inputs["placement"]


def test_a_service_stands_in_two_sub_clusters_where_it_says_so() -> None:
    made = world()
    apply(made, "{spread: {level: subCluster, most: 0.5}}")
    made.send(ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 4}))
    made.run(100)

    assert len(there(made, "east", S.IN_SERVICE)) == len(there(made, "west", S.IN_SERVICE)) == 3
    assert made.groups_apart("physical_cluster") == []


def test_a_pending_launch_in_a_silent_sub_cluster_is_closed_and_not_sent_again() -> None:
    made = world()
    deaf_east(made, started=False)
    made.run(25)

    orders = [c for c in made.state.commands.values() if c.agent_id.startswith("east")]
    assert {c.state for c in orders} == {CommandState.EXPIRED}
    assert {c.message for c in orders} == {"placed elsewhere: its sub-cluster is silent"}


def test_an_operators_drain_goes_on_in_a_sub_cluster_that_is_left_out() -> None:
    made = world()
    apply(made, EAST_FIRST)
    made.run(60)
    silence(made, "east-1", "east-2", "east-3")
    made.run(20)
    assert "east" in made.state.silent_sub_clusters
    one = there(made, "east", S.IN_SERVICE)[0]

    made.send(DrainInstance("r", one.instance_id, "away"))
    made.run(60)

    assert made.state.instances[one.instance_id].state is S.TERMINATED
