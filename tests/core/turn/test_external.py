"""A service that others scale: decided jointly, asked for in one piece, and never touched by us."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role, WithdrawReason
from heteroscale_coordinator.core.events import (
    ApplyService,
    Changes,
    DeleteService,
    PauseService,
    ResumeService,
    ScaleService,
)
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.resume import moved_on
from tests.core.turn.replicas import Cluster, busy, laid_over, settled, spec
from tests.core.turn.rig import answer_to
from tests.core.world import World
from tests.hpa import Hpa

P, D = Role.PREFILL, Role.DECODE


def last(cluster: Cluster) -> str:
    return cluster.world.decisions[-1].reason


def loaded(cluster: Cluster, arrivals: float, seconds: float) -> None:
    cluster.world.traffic.arrivals = arrivals
    cluster.run(seconds)


# ---- the beginning ---------------------------------------------------------------------------


def test_what_runs_is_found_before_anything_is_asked_for() -> None:
    cluster = laid_over(2, 4)
    cluster.run(50)
    assert cluster.asked.counts == {}
    assert "2 prefill, 4 decode found; counts have to stand still for 60 s" in last(cluster)
    cluster.run(30)
    assert (cluster.asked.counts, cluster.asked.generation) == ({P: 2, D: 4}, 1)
    assert not cluster.world.commands


def test_agents_that_come_late_shrink_nothing() -> None:
    """Of nine replicas four are heard at first, and the others one by one: no count is too low."""
    cluster = laid_over(3, 1)
    for _ in range(5):
        cluster.run(30)
        assert cluster.asked.counts == {}
        cluster.start(D, ready=True)
    asked: list[dict[Role, int]] = []
    cluster.world.on_turn = lambda _: asked.append(dict(cluster.asked.counts))
    cluster.world.run(90)
    assert next(filter(None, asked)) == {P: 3, D: 6}


def test_a_role_that_is_not_heard_keeps_all_from_being_asked_for() -> None:
    cluster = laid_over(0, 4)
    cluster.run(300)
    assert cluster.asked.counts == {}
    assert "no prefill is heard. An agent beside each engine tells of it" in last(cluster)


def test_what_is_found_beyond_the_bounds_is_asked_for_within_them() -> None:
    cluster = laid_over(2, 14)
    cluster.run(90)
    assert cluster.asked.counts[D] == 12


def test_counts_by_hand_are_refused_as_long_as_nothing_is_asked_for() -> None:
    """They would be lost: what runs is taken over as it stands, whatever was wished before."""
    cluster = laid_over(2, 4)
    cluster.run(20)
    answer = answer_to(cluster.world, ScaleService("r", "chat", {P: 3, D: 6}))
    assert "nothing is asked for yet of 'chat'" in answer.error
    cluster.run(70)
    assert not answer_to(cluster.world, ScaleService("r", "chat", {P: 3, D: 6})).error
    cluster.run(10)
    assert cluster.asked.counts == {P: 3, D: 6}


def test_where_a_prometheus_tells_it_is_said_that_it_does_not() -> None:
    cluster = laid_over(0, 4)
    told = spec(signals={"source": "prometheus"})
    cluster.world.send(ApplyService("again", "chat", told, ""))
    cluster.run(20)
    assert "no prefill is found in the Prometheus" in last(cluster)


# ---- moving ----------------------------------------------------------------------------------


def test_both_roles_are_asked_for_in_one_generation_and_followed() -> None:
    cluster = settled(1, 2)
    seen: dict[int, dict[Role, int]] = {}

    def note(world: World) -> None:
        known = world.state.services["chat"].memory.external
        assert seen.setdefault(known.generation, dict(known.counts)) == known.counts

    cluster.world.on_turn = note
    loaded(cluster, 18, 900)
    assert cluster.replicas == cluster.asked.counts
    assert cluster.asked.counts[D] >= 4
    assert all(2 * counts[P] >= counts[D] for counts in seen.values())
    grown = [d for d in cluster.world.decisions if d.action is Action.SCALE_OUT]
    assert grown
    assert "Asked for 2 prefill, 4 decode, it was 1 prefill, 2 decode." in grown[0].reason
    most = cluster.asked.counts[D]
    loaded(cluster, 1, 1500)
    assert cluster.replicas == cluster.asked.counts
    assert cluster.asked.counts[D] < most
    shrunk = [d for d in cluster.world.decisions if d.action is Action.SCALE_IN]
    assert shrunk
    assert "withdrawn" not in shrunk[0].reason
    assert not cluster.world.commands


def test_what_is_on_its_way_is_not_asked_for_twice() -> None:
    """Nobody follows for ten minutes: the demand is the same, and so is what is asked for."""
    cluster = settled(1, 2)
    cluster.world.traffic.arrivals = 12
    cluster.world.run(120)
    assert cluster.asked.counts == {P: 2, D: 3}
    cluster.world.run(600)
    assert cluster.asked.counts == {P: 2, D: 3}
    cluster.world.traffic.arrivals = 22
    cluster.world.run(120)
    assert cluster.asked.counts[D] > 3, "more is asked for all the same when there is need"


def test_what_is_not_followed_is_said_with_what_to_look_at() -> None:
    cluster = settled(1, 2)
    cluster.hpas[D] = Hpa(most=2, tolerance=0.0)
    loaded(cluster, 18, 100)
    assert "Not followed" not in last(cluster)
    cluster.run(300)
    asked = cluster.asked.counts[D]
    assert f"asked for {asked} decode, 2 stand for" in last(cluster)
    assert "maxReplicaCount, quota, or pods that do not start" in last(cluster)
    assert "prefill, " not in last(cluster).partition("Not followed")[2]
    cluster.hpas[D] = Hpa(tolerance=0.0)
    cluster.run(60)
    assert "Not followed" not in last(cluster)


def test_a_surplus_is_no_supply_and_is_said() -> None:
    cluster = settled(2, 4)
    cluster.hpas[D] = Hpa(least=5)
    cluster.run(200)
    assert cluster.asked.counts == {P: 2, D: 4}
    assert "asked for 4 decode, 5 stand for" in last(cluster)
    assert "minReplicaCount" in last(cluster)
    cluster.world.traffic.arrivals = busy(5)
    cluster.run(60)
    assert cluster.asked.counts == {P: 3, D: 5}, (
        "what stands anyway is asked for where it is needed"
    )


def test_the_tolerance_of_an_hpa_is_named_where_it_is_the_reason() -> None:
    """Ten replicas and eleven differ by a tenth: an HPA as it comes leaves them alone."""
    cluster = settled(5, 10)
    cluster.hpas[D] = Hpa()
    assert not answer_to(cluster.world, ScaleService("r", "chat", {D: 11, P: 6})).error
    cluster.run(200)
    assert cluster.replicas == {P: 6, D: 10}
    assert "`tolerance: 0` in its behavior" in last(cluster)


def test_an_engine_that_dies_changes_nothing_of_what_is_asked_for() -> None:
    cluster = settled(2, 4)
    _agent_id, name = cluster.pods(D)[0]
    cluster.world.kill(name)
    cluster.world.run(30)
    assert cluster.replicas == {P: 2, D: 3}
    assert cluster.asked.counts == {P: 2, D: 4}
    cluster.follow()
    assert cluster.replicas == {P: 2, D: 4}


def test_a_silent_node_is_counted_as_standing() -> None:
    cluster = settled(2, 4)
    next(iter(cluster.world.agents.values())).silent = True
    cluster.world.run(60)
    assert cluster.world.instances(D, S.UNKNOWN) or cluster.world.instances(P, S.UNKNOWN)
    assert cluster.asked.counts == {P: 2, D: 4}


def test_one_out_of_service_is_coming_back_and_after_a_start_is_replaced() -> None:
    """As a pod that is not Ready: it stands, so one replica more is what brings one that serves."""
    cluster = settled(2, 4)
    agent_id, name = cluster.pods(D)[0]
    agent = cluster.world.agents[agent_id]
    cluster.world._become(agent, agent.engines[name], S.WITHDRAWN, WithdrawReason.SICK)
    cluster.world.traffic.arrivals = busy(3)
    cluster.run(120)
    assert cluster.asked.counts == {P: 2, D: 4}
    cluster.run(500)
    assert cluster.asked.counts == {P: 2, D: 5}
    assert cluster.replicas == cluster.asked.counts
    cluster.world._become(agent, agent.engines[name], S.IN_SERVICE)
    cluster.run(30)
    assert cluster.asked.counts == {P: 2, D: 4}
    assert not cluster.world.commands


# ---- the operator ----------------------------------------------------------------------------


def test_an_operator_scales_by_what_is_asked_for() -> None:
    cluster = settled(2, 4)
    assert not answer_to(cluster.world, ScaleService("r", "chat", {P: 3, D: 6})).error
    cluster.run(90)
    assert cluster.asked.generation == 2
    assert cluster.replicas == {P: 3, D: 6}
    assert not cluster.world.commands


def test_a_pause_keeps_what_is_asked_for() -> None:
    cluster = settled(1, 2)
    answer_to(cluster.world, PauseService("r", "chat", "a look"))
    loaded(cluster, 18, 400)
    assert cluster.asked.counts == {P: 1, D: 2}
    answer_to(cluster.world, ResumeService("r", "chat"))
    cluster.run(300)
    assert cluster.asked.counts[D] > 2


def test_a_service_taken_back_asks_nobody_any_more() -> None:
    cluster = settled(2, 4)
    ours = spec(actuation={"by": "coordinator"})
    cluster.world.send(ApplyService("r", "chat", ours, ""))
    cluster.world.run(10)
    assert cluster.asked == ExternalMemory()


def test_who_only_looked_on_for_a_while_begins_by_looking() -> None:
    """Replicas are moved by hand meanwhile: the old counts are not asked for again."""
    cluster = settled(2, 4)
    cluster.world.send(ApplyService("r", "chat", spec(advisory=True), ""))
    cluster.run(20)
    assert cluster.asked.counts == {}
    cluster.start(P, 2, ready=True)
    cluster.start(D, 4, ready=True)
    cluster.world.traffic.arrivals = busy(8)
    cluster.run(20)
    cluster.world.send(ApplyService("r", "chat", spec(), ""))
    cluster.run(90)
    assert cluster.asked.counts == {P: 4, D: 8}


def test_a_service_given_away_in_the_midst_of_a_scale_in_is_left_alone() -> None:
    """What we withdrew comes back when its lease ends, and is never drained."""
    cluster = settled(2, 4)
    agent_id, name = cluster.pods(D)[0]
    agent = cluster.world.agents[agent_id]
    agent.engines[name].lease_until = cluster.world.now + 30
    cluster.world._become(agent, agent.engines[name], S.WITHDRAWN, WithdrawReason.SOFT_SCALE_IN)
    cluster.run(120)
    assert cluster.world.serving(D) == 4
    assert not cluster.world.commands


def test_a_deleted_service_leaves_the_replicas_to_their_owner() -> None:
    cluster = settled(2, 4)
    answer_to(cluster.world, DeleteService("r", "chat", drain=True))
    cluster.world.run(30)
    assert "chat" not in cluster.world.state.services
    assert not cluster.world.commands


# ---- across a restart ------------------------------------------------------------------------


def test_a_new_coordinator_holds_what_was_asked_for_until_it_has_heard() -> None:
    cluster = settled(2, 4)
    before, old = cluster.asked, cluster.world
    after = World(start=old.now + 20.0)
    changes = Changes()
    changes.services.update(old.state.services)
    changes.instances.update(old.state.instances)
    after.state.apply(changes)
    after.state.begin(after.now)
    after.run(30)
    known = after.state.services["chat"].memory.external
    assert (known.counts, known.generation) == (before.counts, before.generation)
    for agent in old.agents.values():
        after.agents[agent.agent_id] = replace(agent, incarnation=2)
        after.hello(after.agents[agent.agent_id])
    after.plant.traffic = old.plant.traffic
    after.run(60)
    again = Cluster(after)
    again.run(60)
    assert (again.asked.counts, again.asked.generation) == (before.counts, before.generation)
    assert not after.commands


def test_a_time_in_which_nobody_looked_makes_nobody_late() -> None:
    known = ExternalMemory({P: 2, D: 4}, 3, 900.0, {P: 2, D: 3}, 1000.0, {D: 1000.0})
    later = moved_on(PolicyMemory(external=known), 3600.0).external
    assert later == replace(known, still_since=4600.0, apart={D: 4600.0})


# ---- the arithmetic of an HPA ----------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_an_hpa_arrives_at_the_count_or_stays_where_it_is(tolerance: float) -> None:
    """From every count to every count: exactly there without tolerance; with it, or not at all."""
    hpa = Hpa(most=200, tolerance=tolerance)
    for replicas in range(1, 121):
        for wanted in range(1, 121):
            reached = hpa.desired(replicas, float(wanted))
            close = abs(wanted / replicas - 1) <= tolerance + 1e-9
            assert reached == wanted or (close and reached == replicas), (replicas, wanted)
            assert not (close and tolerance == 0) or reached == wanted
