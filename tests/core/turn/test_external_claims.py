"""Whatever load comes, whoever follows or not, dies or falls silent: what is asked for stays sane."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.model import Action
from tests.core.turn.replicas import Cluster, settled
from tests.core.world import World

P, D = Role.PREFILL, Role.DECODE

loads = st.tuples(st.just("load"), st.integers(0, 70))
follows = st.tuples(st.just("follow"), st.integers(0, 1))
deaths = st.tuples(st.just("die"), st.integers(0, 20))
silences = st.tuples(st.just("silence"), st.integers(0, 3))
steps = st.lists(st.one_of(loads, loads, follows, deaths, silences), min_size=3, max_size=8)


class Witness:
    """Looks at every turn."""

    def __init__(self, cluster: Cluster) -> None:
        self.before: ExternalMemory = cluster.asked
        self._decided = len(cluster.world.decisions)

    def __call__(self, world: World) -> None:
        service = world.state.services["chat"]
        known, before, self.before = service.memory.external, self.before, service.memory.external
        new = world.decisions[self._decided :]
        self._decided = len(world.decisions)
        assert not world.commands
        for role, count in known.counts.items():
            bounds = service.spec.roles[role]
            assert bounds.min <= count <= bounds.max
        assert abs(known.counts[P] - known.counts[D] / 2) < 1, (
            "the ratio is held in what is asked for"
        )
        assert (known.generation == before.generation) == (known.counts == before.counts)
        assert known.generation >= before.generation
        actions = {one.action for one in new}
        if any(known.counts[role] < before.counts[role] for role in (P, D)):
            assert actions == {Action.SCALE_IN}, "nothing is shrunk but by a decision to"
        if any(known.counts[role] > before.counts[role] for role in (P, D)):
            assert actions <= {Action.SCALE_OUT, Action.REPAIR}


def played(cluster: Cluster, script: list[tuple[str, int]]) -> None:
    following = True
    for what, number in script:
        agents = list(cluster.world.agents.values())
        pods = [pod for role in (P, D) for pod in cluster.pods(role)]
        match what:
            case "load":
                cluster.world.traffic.arrivals = float(number)
            case "follow":
                following = bool(number)
            case "die" if pods:
                cluster.world.kill(pods[number % len(pods)][1])
            case "silence":
                agents[number].silent = not agents[number].silent
                if not agents[number].silent:
                    cluster.world.hello(agents[number])
        for _ in range(8):
            cluster.world.run(15)
            if following:
                cluster.follow()


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(script=steps)
def test_what_is_asked_for_is_whole_bounded_and_never_shrunk_by_silence(
    script: list[tuple[str, int]],
) -> None:
    cluster = settled(1, 2)
    cluster.world.on_turn = Witness(cluster)
    played(cluster, script)


def test_the_witness_sees_a_count_that_falls_without_a_decision() -> None:
    cluster = settled(2, 4)
    cluster.world.on_turn = Witness(cluster)
    cluster.world.run(10)
    service = cluster.world.state.services["chat"]
    wrong = ExternalMemory({P: 1, D: 2}, cluster.asked.generation + 1)
    object.__setattr__(service.memory, "external", wrong)
    with pytest.raises(AssertionError, match="nothing is shrunk"):
        cluster.world.on_turn(cluster.world)
