"""A state machine over the turn: whatever agents, operators, clients and the store do, the claims hold.

``HETEROSCALE_DEEP=1 pytest tests/core/machine`` searches longer; a number is the count of examples.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from heteroscale.taints import Taint, TaintEffect
from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.events import (
    ApplyService,
    CordonNode,
    DeleteService,
    DrainInstance,
    ForgetAgent,
    InventoryLearned,
    PauseService,
    ReinstateInstance,
    ResumeService,
    ScaleService,
    SwitchInstanceRole,
    UncordonNode,
    Wish,
)
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.machine.claims import check, check_the_end
from tests.core.machine.claims.facts import Ledger
from tests.core.machine.services import specs
from tests.core.machine.unruly import GARBAGE, UnrulyWorld
from tests.core.toy import TwinAgent

P, D = Role.PREFILL, Role.DECODE
WHICH, LASTS = st.integers(0, 6), st.sampled_from([False, False, True])
ARRIVALS = (0.0, 0.5, 3.0, 8.0, 12.0, 20.0, 30.0, 60.0)
QUIET = 200.0
KINDS = ("H20", "L20")
SITES = ("east", "west")
SHORT = settings(
    max_examples=15,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    # What fails is named by its claim; shrinking it is for the deep search, which may take its time.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
DEEP = os.environ.get("HETEROSCALE_DEEP", "")


class Machine(RuleBasedStateMachine):
    """One service on a small fleet, and all that happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = UnrulyWorld()
        self.ledger = Ledger()
        self.world.watchers.append(lambda turn: check(turn, self.ledger))
        self.wishes = 0

    # ---- the beginning ---------------------------------------------------------------------------

    @initialize(agents=st.integers(3, 7), gpus=st.integers(2, 4), spec=specs())
    def a_fleet_and_a_service(self, agents: int, gpus: int, spec: ServiceSpec) -> None:
        self.begin(agents, gpus, spec)

    def begin(self, agents: int, gpus: int, spec: ServiceSpec) -> None:
        """Let a fleet say hello, and a service begin on it."""
        for index in range(agents):
            half = "a" if index < agents / 2 else "b"
            self.world.join(f"n{index}", self.levels(index, half), [KINDS[index % 2]] * gpus)
        self.apply(spec)
        self.world.traffic.arrivals = 3.0
        self.world.run(20)

    def levels(self, _index: int, half: str) -> dict[str, str]:
        """Return where an agent stands."""
        return {"s1": half, "s2": "big"}

    # ---- time and traffic ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 5, 20, 60, 150]))
    def time_passes(self, seconds: int) -> None:
        self.world.run(seconds)

    @rule(arrivals=st.sampled_from(ARRIVALS), seconds=st.sampled_from([5, 20, 60]))
    def traffic_changes(self, arrivals: float, seconds: int) -> None:
        self.world.traffic.arrivals = arrivals
        self.world.run(seconds)

    @rule(arrivals=st.lists(st.sampled_from(ARRIVALS), min_size=3, max_size=6))
    def traffic_bursts(self, arrivals: list[float]) -> None:
        for each in arrivals:
            self.world.traffic.arrivals = each
            self.world.run(7)

    @rule(name=st.sampled_from(["ttft", "tbt"]), value=st.sampled_from([0.01, 3.0]))
    def latency_is_bad_for_a_while(self, name: str, value: float) -> None:
        usual = getattr(self.world.traffic, name)
        setattr(self.world.traffic, name, value)
        self.world.run(40)
        setattr(self.world.traffic, name, usual)

    @rule()
    def all_is_well_again(self) -> None:
        self.world.calm_down()
        self.wish(ResumeService("", "chat"))
        self.world.run(60)

    # ---- agents: what is wrong with them passes, or lasts until all is well again ----------------

    @rule(which=WHICH, lag=st.sampled_from([1.0, 4.0, 11.0]), lasts=LASTS)
    def an_agent_answers_late(self, which: int, lag: float, lasts: bool) -> None:
        self.suffer(which, lasts, lag=lag)

    @rule(which=WHICH, lasts=LASTS)
    def an_agents_engines_never_start(self, which: int, lasts: bool) -> None:
        agent = self.agent(which)
        agent.stillborn = True
        self.world.run(20)
        agent.stillborn = lasts

    @rule(which=WHICH, lasts=LASTS)
    def reports_get_lost(self, which: int, lasts: bool) -> None:
        self.suffer(which, lasts, mute=True)

    @rule(which=WHICH, lie=st.sampled_from(["idle", *GARBAGE]), lasts=LASTS)
    def an_agents_readings_are_garbage(self, which: int, lie: str, lasts: bool) -> None:
        self.suffer(which, lasts, garbage=lie)

    @rule(which=WHICH, refuses=st.sampled_from(["", "no such template"]), lasts=LASTS)
    def an_agent_refuses_or_cannot_scrape(self, which: int, refuses: str, lasts: bool) -> None:
        agent = self.agent(which)
        agent.refuses, agent.blind = refuses, not refuses
        self.world.run(20)
        if not lasts:
            agent.refuses, agent.blind = "", False

    @rule(which=WHICH, rebooted=st.booleans())
    def an_agent_restarts(self, which: int, rebooted: bool) -> None:
        self.world.restart_agent(self.agent(which), rebooted=rebooted)
        self.world.run(5)

    @rule(
        which=st.sets(WHICH, min_size=1, max_size=4),
        seconds=st.sampled_from([3, 10, 35]),
        lasts=LASTS,
    )
    def agents_fall_silent(self, which: set[int], seconds: int, lasts: bool) -> None:
        for index in which:
            self.agent(index).silent = True
        self.world.run(seconds)
        for index in which if not lasts else ():
            self.world.come_back(self.agent(index))
        self.world.run(5)

    @rule(which=st.integers(0, 9))
    def an_engine_dies(self, which: int) -> None:
        running = [key for agent in self.world.agents.values() for key in agent.engines]
        if running:
            self.world.kill(running[which % len(running)])

    # ---- the coordinator -------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([2, 9, 40]))
    def the_disk_is_full_for_a_while(self, seconds: int) -> None:
        self.world.disk_full = True
        self.world.run(seconds)
        self.world.disk_full = False

    @rule(away=st.sampled_from([1, 8, 40, 200]))
    def the_coordinator_restarts(self, away: int) -> None:
        self.world.restart_coordinator(away)
        self.world.run(5)

    # ---- operators -------------------------------------------------------------------------------

    @rule(spec=specs())
    def a_specification_is_applied(self, spec: ServiceSpec) -> None:
        self.apply(spec)

    @rule(prefill=st.integers(1, 5), decode=st.integers(1, 9))
    def somebody_scales(self, prefill: int, decode: int) -> None:
        self.wish(ScaleService("", "chat", {P: prefill, D: decode}))

    @rule(seconds=st.sampled_from([5, 40]), lasts=LASTS)
    def somebody_pauses(self, seconds: int, lasts: bool) -> None:
        self.wish(PauseService("", "chat", "to look at it"))
        self.world.run(seconds)
        if not lasts:
            self.wish(ResumeService("", "chat"))

    @rule(which=st.integers(0, 9))
    def somebody_drains(self, which: int) -> None:
        if found := self.instance(which):
            self.wish(DrainInstance("", found))

    @rule(which=st.integers(0, 9))
    def somebody_reinstates(self, which: int) -> None:
        if found := self.instance(which, S.WITHDRAWN, S.DRAINING):
            self.wish(ReinstateInstance("", found))

    @rule(which=st.integers(0, 9), role=st.sampled_from([P, D]))
    def somebody_switches_a_role(self, which: int, role: Role) -> None:
        if found := self.instance(which, S.IN_SERVICE):
            self.wish(SwitchInstanceRole("", found, role))

    @rule(which=WHICH)
    def somebody_forgets_an_agent(self, which: int) -> None:
        self.wish(ForgetAgent("", self.agent(which).agent_id))

    if DEEP:

        @rule(which=WHICH, gpu=st.sampled_from([None, None, 0, 1]), opens=st.booleans())
        def somebody_cordons(self, which: int, gpu: int | None, opens: bool) -> None:
            node, gpus, why = self.agent(which).agent_id, () if gpu is None else (gpu,), "a look"
            self.wish(UncordonNode("", node) if opens else CordonNode("", node, gpus, why))

        @rule(which=WHICH, effect=st.sampled_from([None, *TaintEffect]))
        def a_node_is_tainted(self, which: int, effect: TaintEffect | None) -> None:
            self.taint(which, effect)

    @precondition(lambda self: "chat" in self.world.state.services)
    @rule(drain=st.booleans(), spec=specs())
    def somebody_deletes_and_begins_anew(self, drain: bool, spec: ServiceSpec) -> None:
        self.begin_anew(drain, spec)

    # ---- the end ---------------------------------------------------------------------------------

    def teardown(self) -> None:
        """After enough quiet time nothing is left half done."""
        if self.world.agents:
            self.world.calm_down()
            self.wish(ResumeService("", "chat"))
            self.world.run(QUIET)
            check_the_end(self.world)

    # ---- helpers ---------------------------------------------------------------------------------

    def suffer(self, which: int, lasts: bool, **faults: Any) -> None:
        """Let an agent's faults be for a while, or for longer."""
        agent = self.agent(which)
        self.world.faults[agent.agent_id] = replace(self.world.faults_of(agent), **faults)
        self.world.run(20)
        if not lasts:
            self.world.faults.pop(agent.agent_id)

    def taint(self, which: int, effect: TaintEffect | None) -> None:
        """Let an agent tell of one taint, or of none."""
        agent = self.agent(which)
        taints = () if effect is None else (Taint("dedicated", "train", effect),)
        told = f"{agent.agent_id} {effect}"
        agent.inventory = replace(agent.inventory, hash=told, taints=taints)
        self.world.send(InventoryLearned(agent.agent_id, agent.inventory))
        self.world.run(1)

    def agent(self, which: int) -> TwinAgent:
        agents = list(self.world.agents.values())
        return agents[which % len(agents)]

    def instance(self, which: int, *states: S) -> str:
        known = self.world.state.instances.values()
        found = sorted(i.instance_id for i in known if not states or i.state in states)
        return found[which % len(found)] if found else ""

    def begin_anew(self, drain: bool, spec: ServiceSpec) -> None:
        """Delete the service, and apply another of its name a while later."""
        self.wish(DeleteService("", "chat", drain=drain))
        self.world.run(30)
        self.apply(spec)

    def apply(self, spec: ServiceSpec) -> None:
        self.wish(ApplyService("", "chat", spec, ""))

    def wish(self, wish: Wish) -> None:
        """Have a wish granted or refused, in a turn of its own."""
        self.world.send(wish)
        self.world.run(1)


def profile() -> settings:
    """Return how long to search: short and the same every time, or as long as somebody asks."""
    if not DEEP:
        return SHORT
    return settings(
        SHORT,
        max_examples=max(200, int(DEEP)),
        stateful_step_count=50,
        derandomize=False,
        phases=tuple(Phase),
    )


class OneRole(Machine):
    """The same, of a service whose engines do both halves; at times it is split, and joined again."""

    @initialize(agents=st.integers(3, 7), gpus=st.integers(2, 4), spec=specs("one"))
    def a_fleet_and_a_service(self, agents: int, gpus: int, spec: ServiceSpec) -> None:
        self.begin(agents, gpus, spec)

    @rule(spec=specs("one"))
    def a_specification_is_applied(self, spec: ServiceSpec) -> None:
        self.apply(spec)

    @rule(count=st.integers(1, 9))
    def somebody_scales_it(self, count: int) -> None:
        self.wish(ScaleService("", "chat", {Role.AGGREGATED: count}))


class SplitPrefill(Machine):
    """The same, of a service whose prefill is attention and ffn; at times it is joined again."""

    @initialize(agents=st.integers(4, 7), gpus=st.integers(2, 4), spec=specs("split"))
    def a_fleet_and_a_service(self, agents: int, gpus: int, spec: ServiceSpec) -> None:
        self.begin(agents, gpus, spec)

    @rule(spec=specs("split"))
    def a_specification_is_applied(self, spec: ServiceSpec) -> None:
        self.apply(spec)

    @rule(
        attention=st.integers(1, 5),
        decode=st.integers(1, 9),
        ffn=st.one_of(st.none(), st.integers(1, 6)),
    )
    def somebody_scales(self, attention: int, decode: int, ffn: int | None) -> None:
        counts = {Role.ATTENTION: attention, D: decode}
        counts |= {} if ffn is None else {Role.FFN: ffn}
        self.wish(ScaleService("", "chat", counts))

    @precondition(lambda self: "chat" in self.world.state.services)
    @rule(drain=st.booleans(), spec=st.one_of(specs("split"), specs("split"), specs()))
    def somebody_deletes_and_begins_anew(self, drain: bool, spec: ServiceSpec) -> None:
        self.begin_anew(drain, spec)


class Federated(Machine):
    """The same on two sub-clusters with quotas; at times most of one falls silent, or refuses."""

    @initialize(
        agents=st.integers(5, 7), gpus=st.integers(2, 4), spec=specs(), quota=st.integers(2, 9)
    )
    def a_fleet_and_a_service(
        self, agents: int, gpus: int, spec: ServiceSpec, quota: int = 9
    ) -> None:
        self.limit(quota)
        self.begin(agents, gpus, spec)

    def levels(self, index: int, half: str) -> dict[str, str]:
        """Return where an agent stands: east and west by turns."""
        site = SITES[index // 2 % 2]
        return {"s1": f"{site}-{half}", "s2": site, "physical_cluster": site}

    def limit(self, quota: int) -> None:
        """Let the operator set quotas and prices."""
        told = {
            "east": {"quotas": dict.fromkeys(KINDS, quota), "serviceQuotas": {"chat": quota + 2}},
            "west": {"prices": {"H20": 1.0}},
        }
        rules = Rules.model_validate({"subClusters": told})
        state = self.world.state
        state.rules = state.rules.model_copy(update={"sub_clusters": rules.sub_clusters})

    @rule(site=st.sampled_from(SITES), seconds=st.sampled_from([3, 10, 35]), lasts=LASTS)
    def a_sub_cluster_falls_silent(self, site: str, seconds: int, lasts: bool) -> None:
        members = self.members(site)
        for agent in members:
            agent.silent = True
        self.world.run(seconds)
        for agent in members if not lasts else ():
            self.world.come_back(agent)
        self.world.run(5)

    @rule(site=st.sampled_from(SITES), seconds=st.sampled_from([5, 40]))
    def a_sub_cluster_refuses(self, site: str, seconds: int) -> None:
        for agent in self.members(site):
            agent.refuses = "no quota"
        self.world.run(seconds)
        for agent in self.members(site):
            agent.refuses = ""

    def members(self, site: str) -> list[TwinAgent]:
        known = self.world.agents.values()
        return [a for a in known if a.inventory.topology["physical_cluster"] == site]


TestFederated = Federated.TestCase
TestMachine, TestOneRole = Machine.TestCase, OneRole.TestCase
TestSplitPrefill = SplitPrefill.TestCase
TestMachine.settings = profile()
FEWER = settings(profile(), max_examples=max(5, profile().max_examples // 3))
TestOneRole.settings = TestSplitPrefill.settings = TestFederated.settings = FEWER
# Hundreds of lives: minutes where others work on the machine too, and no end at all for a deep search.
PATIENCE_S = 0 if DEEP else 1200
TestMachine = pytest.mark.timeout(PATIENCE_S)(TestMachine)
TestOneRole = pytest.mark.timeout(PATIENCE_S)(TestOneRole)
TestSplitPrefill = pytest.mark.timeout(PATIENCE_S)(TestSplitPrefill)
TestFederated = pytest.mark.timeout(PATIENCE_S)(TestFederated)
