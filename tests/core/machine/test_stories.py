"""Fixed lives of a service in which every claim is at stake: what the search finds by chance, each time.

The claims are those of the state machine. ``tests.mutants`` names for each the mistake that breaks it.
"""

from __future__ import annotations

from typing import Any

from heteroscale.taints import TaintEffect
from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.machine.claims import named
from tests.core.machine.services import BY_SLO, POLICY, TIERS
from tests.core.machine.test_machine import Federated, Machine

P, D = Role.PREFILL, Role.DECODE


def begun(
    *,
    prefill: tuple[int, int] = (1, 5),
    decode: tuple[int, int] = (2, 8),
    agents: int = 6,
    gpus: int = 4,
    more: dict[str, Any] | None = None,
    kind: type[Machine] = Machine,
    **policy: Any,
) -> Machine:
    """Return a service in its twentieth second; (min, max) of its roles."""
    roles = {
        role: {"template": role, "min": least, "max": most, "target": target}
        for role, (least, most), target in (("prefill", prefill, 5000), ("decode", decode, 1000))
    }
    hasty = POLICY | {"hold": "0s", "reserve": {"deviations": 0}}
    spec = {"roles": roles, "policy": hasty | policy, "drain": {"lease": "10s"}} | (more or {})
    machine = kind()
    machine.begin(agents, gpus, ServiceSpec.model_validate(spec))
    return machine


def waves(machine: Machine, *arrivals: float, seconds: float = 120) -> None:
    """Let traffic come and go, and all of it end well."""
    for each in arrivals:
        machine.traffic_changes(each, seconds)


def test_rises_and_falls() -> None:
    machine = begun()
    waves(machine, 30, 0, 20, 0.5)
    machine.teardown()
    assert len(machine.world.instances(D, S.TERMINATED)) > 2, "it shrank by more than one step"


def test_a_load_beyond_the_maximum() -> None:
    machine = begun(decode=(1, 3), more={"ratio": {"min": 0.1, "max": 2}})
    waves(machine, 60, 0)
    machine.teardown()


def test_nodes_are_tainted_while_it_grows() -> None:
    machine = begun()
    for which in range(3):
        machine.taint(which, TaintEffect.NO_EXECUTE if which else TaintEffect.NO_SCHEDULE)
    waves(machine, 30, 60)
    for which in range(3):
        machine.taint(which, None)
    waves(machine, 0, 60)
    machine.teardown()


def test_a_step_of_which_a_part_finds_a_place() -> None:
    """The rest is asked for again at once, so growth does not cool; what came is given its time."""
    machine = begun(
        prefill=(1, 8), decode=(2, 16), agents=2, more={"ratio": {"min": 0.1, "max": 2}}
    )
    waves(machine, 12, seconds=60)
    waves(machine, 60, seconds=8)
    assert any(one.bound_by == "placement" and one.delta for one in machine.world.decisions)
    waves(machine, 0)
    machine.teardown()


def test_a_load_beyond_the_budget() -> None:
    machine = begun(more={"maxGpus": 6, "ratio": {"min": 0.1, "max": 2}})
    waves(machine, 60, 0)
    machine.teardown()


def test_a_prefill_that_cannot_follow() -> None:
    """Decode alone would leave the ratio's band."""
    machine = begun(prefill=(1, 2), more={"ratio": "1:2"})
    waves(machine, 60, 0)
    machine.teardown()


def test_a_breach_that_lasts() -> None:
    machine = begun(prefill=(4, 8), decode=(8, 16), more={"slo": BY_SLO}, guard=TIERS)
    machine.world.traffic.tbt = 3.0
    machine.world.run(240)
    machine.world.traffic.tbt = 0.02
    machine.teardown()


def test_a_third_is_not_heard_at_low_demand() -> None:
    machine = begun(decode=(1, 8), gpus=1, agents=12)
    waves(machine, 30)
    serving = machine.world.instances(D, S.IN_SERVICE)
    homes = [machine.world.state.instances[one].agent_id for one in serving]
    assert len(homes) > 4
    for name in homes[: len(homes) // 3]:
        machine.world.agents[name].blind = True
    waves(machine, 6)
    machine.teardown()


def test_half_the_agents_are_cut_off() -> None:
    """And an engine dies at one of those that are heard: that is not replaced either."""
    machine = begun(gpus=2)
    waves(machine, 20)
    used = [n for n, agent in enumerate(machine.world.agents.values()) if agent.engines]
    machine.agents_fall_silent({*used[:3]}, 60, lasts=True)
    machine.world.kill(next(iter(machine.agent(used[3]).engines)))
    machine.world.run(30)
    with named("a partition replaces nothing"):
        assert not machine.world.instances(D, S.LOST)
        assert not machine.world.instances(P, S.LOST)
    waves(machine, 20)
    machine.teardown()


def test_a_load_beyond_the_quotas_of_a_sub_cluster() -> None:
    machine = begun(kind=Limited)
    waves(machine, 60, 0)
    machine.teardown()
    assert any("quota" in one.reason for one in machine.world.decisions)


def test_most_of_a_sub_cluster_is_silent() -> None:
    """The service stands in the other, which becomes too small for it."""
    machine = begun(kind=Federated, agents=7, gpus=2, more={"placement": WEST_FIRST})
    for agent in [a for a in machine.world.agents.values() if a.agent_id not in WEST][1:]:
        agent.silent = True
    machine.world.run(12)
    waves(machine, 60, seconds=60)
    assert any("east: silent: 3 of 4" in one.reason for one in machine.world.decisions)
    machine.teardown()


def test_prefill_and_decode_have_room_only_in_two_sub_clusters() -> None:
    machine = begun(kind=Apart, gpus=4)
    machine.world.run(60)
    assert not machine.world.commands
    machine.teardown()


WEST_FIRST = {"subCluster": {"prefer": ["west"]}}
WEST = {"n2", "n3", "n6"}


class Limited(Federated):
    """East has a quota from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.limit(2)


class Apart(Federated):
    """East has no GPUs that decode may use, and west none that prefill may."""

    def begin(self, agents: int, gpus: int, spec: ServiceSpec) -> None:
        """Let prefill want L20 alone, and decode H20."""
        kinds = {P: ("L20",), D: ("H20",)}
        roles = {
            role: one.model_copy(update={"gpu_types": kinds[role]})
            for role, one in spec.roles.items()
        }
        for index in range(agents):
            site = "east" if index % 2 else "west"
            levels = {"s1": f"{site}-a", "s2": site, "physical_cluster": site}
            self.world.join(f"n{index}", levels, ["L20" if index % 2 else "H20"] * gpus)
        self.apply(spec.model_copy(update={"roles": roles}))
        self.world.run(20)
