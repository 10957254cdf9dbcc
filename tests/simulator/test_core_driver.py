"""The core's driver: agents are heard as real ones, commands obeyed, leases kept while it lives."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetSpec, hosts
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.agents import Reporters
from heteroscale_simulator.world.core_driver import START, CoreDriver, QuarantinedError
from heteroscale_simulator.world.simulation import ServiceRun, simulate
from heteroscale_simulator.world.telemetry import Telemetry
from heteroscale_simulator.world.twin import Order, Post
from heteroscale_simulator.world.yard import Yard
from tests.simulator.test_world import SERVICE, fleet, hump, service
from tests.simulator.toy_plant import OUTPUT, PROMPT, ToyPlant, steady

P, D = Role.PREFILL, Role.DECODE
S = InstanceState


class Ground:
    """A coordinator over eight hosts, two of which have engines at first."""

    def __init__(self, on: FleetSpec, spec: ServiceSpec, prefill: int, decode: int) -> None:
        self.plant = ToyPlant()
        self.yard = Yard(on, hosts(on), 1)
        self.yard.add("chat", spec, self.plant)
        for number in range(prefill):
            self.stand(f"p{number}", P, "h20-1", number)
        for number in range(decode):
            self.stand(f"d{number}", D, "h20-2", number)
        self.telemetry = {"chat": Telemetry(self.plant, on.telemetry, [1], keep=4)}
        self.driver = CoreDriver(self.yard, self.telemetry)
        self.driver.start()
        self.second = 0

    def stand(self, name: str, role: Role, host: str, gpu: int) -> None:
        self.yard.stand(Order(name, "chat", role, "H20", (Post(host, (gpu,)),)))

    def run(self, seconds: int, requests: float, *, decides: bool = True) -> None:
        number = np.array([requests])
        for _ in range(seconds):
            self.plant.advance(number, number * PROMPT, number * OUTPUT)
            self.second += 1
            self.yard.step(float(self.second))
            self.telemetry["chat"].look(float(self.second))
            if decides:
                self.driver.second(self.second)

    @property
    def now(self) -> float:
        return START + self.second


def test_agents_with_and_without_engines_are_never_silent() -> None:
    ground = Ground(fleet(), service(), 2, 4)
    for _ in range(60):
        ground.run(1, 20)
        ages = [ground.now - agent.heard_at for agent in ground.driver.state.agents.values()]
        assert len(ages) == 8
        assert max(ages) <= 10


def test_nothing_starts_on_what_is_at_fault() -> None:
    faults = """  faults:
    - {host: h20-3, gpus: [0, 1]}
    - {host: h20-4, down: true}
    - {host: h20-5, links: [2]}
"""
    ground = Ground(fleet(faults), service(), 2, 4)
    ground.run(240, 200)
    used = {
        (p.host, gpu) for t in ground.yard.twins.values() for p in t.order.posts for gpu in p.gpus
    }
    assert {host for host, _ in used} >= {"h20-1", "h20-2", "h20-3"}
    assert not {("h20-3", 0), ("h20-3", 1)} & used
    assert not {"h20-4", "h20-5"} & {host for host, _ in used}


def test_every_engine_is_reported_every_interval_as_old_as_the_delay() -> None:
    ground = Ground(fleet("  telemetry: {delay: 2s}\n"), service(), 2, 4)
    ground.run(30, 20)
    ages = set()
    for _ in range(5):
        ground.run(1, 20)
        for track in ground.driver.state.tracks.values():
            ages.add(track.age(ground.now))
    assert len(ground.driver.state.tracks) == 6
    assert ages == {2.0, 3.0, 4.0, 5.0, 6.0}


def test_agents_take_turns_over_the_interval() -> None:
    ground = Ground(fleet(), service(), 2, 4)
    reporters = Reporters(ground.yard, ground.telemetry, START)
    spoken = [len(reporters.second(second, float(second))) for second in range(10)]
    assert sum(spoken[:5]) == 8  # all, in one of two intervals
    assert sum(spoken[5:]) == 2  # then those with engines alone
    assert max(spoken) == 2


def test_an_engine_that_does_not_answer_yet_is_missing_not_zero() -> None:
    ground = Ground(fleet(), service(), 2, 4)
    ground.run(10, 20)
    ground.yard.launch(Order("new", "chat", D, "H20", (Post("h20-3", (0,)),)), 10.0)
    ground.run(10, 20, decides=False)
    reporters = Reporters(ground.yard, ground.telemetry, START)
    samples = {
        s.instance_id: s for n in range(5) for r in reporters.second(n, 20.0) for s in r.engines
    }
    assert samples["new"].quality is ScrapeQuality.MISSING
    assert samples["new"].running is None
    assert samples["d0"].quality is ScrapeQuality.OK


def withdrawn(ground: Ground) -> list[str]:
    return [t.instance_id for t in ground.yard.twins.values() if t.state is S.WITHDRAWN]


def test_leases_are_renewed_while_it_lives_and_end_when_it_dies() -> None:
    text = f"{SERVICE}  policy: {{hold: 0s, observation: 5m}}\n"
    ground = Ground(fleet(), service(text), 4, 8)
    ground.run(100, 20)
    out = withdrawn(ground)
    assert out
    ground.run(60, 20)  # twice the lease
    assert withdrawn(ground) == out
    ground.run(31, 20, decides=False)
    assert withdrawn(ground) == []
    assert {ground.yard.twins[name].state for name in out} == {S.IN_SERVICE}


def test_a_service_finds_what_runs_and_wants_it() -> None:
    ground = Ground(fleet(), service(), 3, 7)
    ground.run(10, 40)
    assert ground.driver.state.services["chat"].memory.wanted == {P: 3, D: 7}
    assert ground.driver.decisions("chat") == ()


def test_instances_of_several_ranks_live_as_one() -> None:
    text = SERVICE.replace("template: d,", "template: d, gpus: 2, ranks: 2,")
    spec, plant = service(text.replace("max: 40", "max: 12")), ToyPlant()
    one = ServiceRun("chat", spec, hump(5400, 20, 80), plant)
    result = simulate([one], fleet("  launchFailures: 0.1\n"), seed=2)
    decode = [i for i in result.intervals if i.role is D]
    assert {i.gpus for i in decode} == {4}
    states = {state for role, state in result.services["chat"].counts if role is D}
    assert {S.PENDING, S.LAUNCHING, S.IN_SERVICE, S.WITHDRAWN, S.DRAINING} <= states
    assert plant.lost == 0


def test_a_service_that_the_core_gives_up_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("it broke")

    monkeypatch.setattr("heteroscale_coordinator.core.step.evaluate", broken)
    load: Load = steady(np.full(30, 20.0))
    with pytest.raises(QuarantinedError, match="chat: ValueError: it broke"):
        simulate([ServiceRun("chat", service(), load, ToyPlant())], fleet())


def test_hardware_reaches_the_core_with_the_reports_of_its_host() -> None:
    ground = Ground(fleet(), service(), 2, 4)
    ground.run(40, 80.0)
    seen = ground.plant.readings()
    tracks = ground.driver.state.tracks
    for name, busy, active in zip(seen.ids, seen.gpu_util, seen.sm_activity, strict=True):
        if name not in ("p0", "p1", "d0", "d1", "d2", "d3"):
            continue
        samples = tracks[name].window(ground.now, 20.0)
        assert samples.value("gpu_util", -1) == pytest.approx(busy, abs=0.05)
        assert samples.value("sm_activity", -1) == pytest.approx(active, abs=0.05)
        assert samples.value("rdma_share", -1) == 0
    assert tracks["p0"].window(ground.now, 20.0).value("gpu_util", -1) > 0.5
    told = [gpu.utilization_percent for gpu in ground.driver.state.agents["h20-1"].devices.gpus()]
    assert told[0] is not None
    assert told[7] is None, "no engine speaks for it"


def test_a_role_switch_empties_the_engine_and_takes_it_back_in_its_new_role() -> None:
    on = fleet("  roleSwitch: {settle: 2s, takes: 10s}\n")
    ground = Ground(on, service(), 2, 4)
    ground.run(60, 5.0)
    twin = ground.yard.twins["d0"]
    members = ground.driver.state.agents["h20-1"].inventory.templates
    assert all(template.switches_role for template in members)
    ground.yard.switch(twin, float(ground.second), P)
    ground.run(5, 5.0)
    assert (twin.state, twin.role, twin.becomes) == (S.WITHDRAWN, D, P)
    ground.run(40, 5.0)
    assert (twin.state, twin.role, twin.becomes) == (S.IN_SERVICE, P, None)
    assert ground.plant.joined.count("d0") == 2
    assert ground.plant.lost == 0
    seen = ground.driver.state.instances["d0"]
    assert (seen.role, seen.state) == (P, S.IN_SERVICE)
    held = {
        (i.role, i.state)
        for i in ground.yard.intervals(float(ground.second))
        if i.instance_id == "d0"
    }
    assert {(D, S.IN_SERVICE), (D, S.WITHDRAWN), (P, S.IN_SERVICE)} <= held


def test_no_engine_switches_on_a_fleet_that_does_not_say_so() -> None:
    ground = Ground(fleet(), service(), 2, 4)
    templates = ground.driver.state.agents["h20-1"].inventory.templates
    assert not any(template.switches_role for template in templates)


def test_the_coordinator_knows_the_prices_that_the_fleets_file_names() -> None:
    on = fleet()
    assert Ground(on, service(), 1, 2).driver.state.rules.prices == {}
    priced = tuple(pool.model_copy(update={"price_per_gpu_hour": 2.5}) for pool in on.pools)
    on = on.model_copy(update={"pools": priced})
    assert Ground(on, service(), 1, 2).driver.state.rules.prices == {"H20": 2.5}
    own = on.rules.model_copy(update={"prices": {"H20": 3.0}})
    on = on.model_copy(update={"rules": own})
    assert Ground(on, service(), 1, 2).driver.state.rules.prices == {"H20": 3.0}
