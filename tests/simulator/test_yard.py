"""The life of instances in virtual time: states, gates, leases, drains, and what is billed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_simulator.fleet import hosts
from heteroscale_simulator.world.twin import Order, Post, Twin
from heteroscale_simulator.world.yard import Yard
from tests.simulator.test_world import fleet, service
from tests.simulator.toy_plant import OUTPUT, PROMPT, ToyPlant

S = InstanceState
FIXED = "  launchFailures: 0\n  gate: {opening: 2s, closing: 3s}\n  stop: 4s\n"


class Ground:
    """A yard with one service and a toy plant, moved on second by second."""

    def __init__(self, more: str = FIXED, seed: int = 1) -> None:
        spec = fleet(more.replace("  launchFailures: 0\n", ""))
        spec = spec.model_copy(update={"startup": spec.startup.model_copy(update={"p90": None})})
        if "launchFailures: 1" in more:
            spec = spec.model_copy(update={"launch_failures": 1.0})
        self.plant = ToyPlant()
        self.yard = Yard(spec, hosts(spec), seed)
        self.yard.add("chat", service(), self.plant)
        self.now = 0.0

    def order(self, name: str, role: Role = Role.DECODE, *gpus: int) -> Order:
        return Order(name, "chat", role, "H20", (Post("h20-1", gpus or (0,)),))

    def run(self, seconds: int, requests: float = 0.0) -> None:
        number = np.array([requests])
        for _ in range(seconds):
            self.plant.advance(number, number * PROMPT, number * OUTPUT)
            self.now += 1.0
            self.yard.step(self.now)

    def held(self, end: float) -> dict[S, float]:
        """Return the seconds billed in each state."""
        seconds: dict[S, float] = {}
        for one in self.yard.intervals(end):
            seconds[one.state] = seconds.get(one.state, 0.0) + one.end - one.begin
        return seconds


def in_service(ground: Ground) -> Twin:
    return ground.yard.stand(ground.order("one"))


def test_a_launch_goes_through_its_states_and_all_are_billed() -> None:
    ground = Ground()
    twin = ground.yard.launch(ground.order("one"), 0.0)
    ground.run(70)
    assert (twin.state, twin.gate, twin.startup_time) == (S.IN_SERVICE, GateState.OPEN, 60.0)
    assert ground.held(70.0) == {S.PENDING: 1, S.LAUNCHING: 60, S.WARMING: 2, S.IN_SERVICE: 7}


def test_gpus_are_held_from_the_promise_to_the_end() -> None:
    ground = Ground()
    ground.yard.launch(ground.order("one", Role.DECODE, 0, 1), 0.0)
    with pytest.raises(ValueError, match="not free"):
        ground.yard.launch(ground.order("two", Role.DECODE, 1), 0.0)
    ground.run(80)
    ground.yard.drain(ground.yard.twins["one"], ground.now)
    ground.run(30)
    assert "one" not in ground.yard.twins
    ground.yard.launch(ground.order("two", Role.DECODE, 1), ground.now)
    gpu_seconds = sum(i.gpu_hours for i in ground.yard.intervals(ground.now)) * 3600
    held = ground.held(ground.now)
    assert held[S.DRAINING] == 3 + 5 + 2 + 4  # closing, settle, three looks, stop
    assert gpu_seconds == pytest.approx(2 * sum(held.values()))


def test_a_drain_under_load_loses_nothing() -> None:
    ground = Ground()
    for number, role in enumerate((Role.PREFILL, Role.DECODE, Role.DECODE, Role.PREFILL)):
        ground.yard.stand(ground.order(f"n{number}", role, number))
    ground.run(60, requests=25)  # two decodes carry 20 a second: a queue has grown
    assert ground.plant.held("n2") > 100
    ground.yard.drain(ground.yard.twins["n2"], ground.now)
    ground.run(5, requests=5)
    assert ground.yard.twins["n2"].state is S.DRAINING
    ground.run(120, requests=5)
    assert "n2" not in ground.yard.twins
    assert ground.plant.lost == 0
    assert ground.yard.forced == 0


def test_new_requests_stop_when_the_gate_has_closed() -> None:
    ground = Ground()
    ground.yard.stand(ground.order("p", Role.PREFILL, 1))
    ground.yard.stand(ground.order("d", Role.DECODE, 2))
    twin = in_service(ground)
    ground.yard.withdraw(twin, ground.now, WithdrawReason.SOFT_SCALE_IN, 1000.0)
    ground.run(2, requests=10)
    assert twin.gate is GateState.CLOSING
    ground.run(20, requests=5)
    assert (twin.state, twin.gate) == (S.WITHDRAWN, GateState.CLOSED)
    assert ground.plant.held("one") == 0
    assert ground.plant.held("d") > 0


def test_a_lease_that_is_not_renewed_brings_it_back() -> None:
    ground = Ground()
    twin = in_service(ground)
    ground.yard.withdraw(twin, ground.now, WithdrawReason.SOFT_SCALE_IN, 30.0)
    ground.run(20)
    ground.yard.renew(twin, ground.now + 30)
    ground.run(29)
    assert twin.state is S.WITHDRAWN
    ground.run(1)
    assert (twin.state, twin.gate) == (S.IN_SERVICE, GateState.OPENING)
    ground.run(2)
    assert twin.gate is GateState.OPEN


def test_a_renewal_never_shortens_a_lease_nor_gives_one() -> None:
    ground = Ground()
    twin = in_service(ground)
    ground.yard.withdraw(twin, 0.0, WithdrawReason.SOFT_SCALE_IN, 100.0)
    ground.yard.renew(twin, 50.0)
    assert twin.lease_until == 100.0
    ground.yard.drain(twin, 0.0)
    ground.yard.renew(twin, 50.0)
    ground.run(3)
    assert twin.state is S.DRAINING


def test_a_leased_drain_comes_back_unless_term_was_sent() -> None:
    ground = Ground()
    ground.yard.stand(ground.order("p", Role.PREFILL, 1))
    twin = in_service(ground)
    ground.run(10, requests=50)
    ground.yard.drain(twin, ground.now, lease=10.0)
    ground.run(10)
    assert twin.state is S.IN_SERVICE
    ground.run(120)
    ground.yard.drain(twin, ground.now, lease=12.0)
    ground.run(11)
    assert twin.terminating
    ground.run(5)
    assert ground.yard.twins.keys() == {"p"}


def test_a_drain_is_forced_after_its_time_and_the_loss_is_seen() -> None:
    ground = Ground()
    ground.yard.stand(ground.order("p", Role.PREFILL, 1))
    twin = in_service(ground)
    drain = ground.yard.tenants["chat"].spec.drain.model_copy(update={"force_after": 20.0})
    tenant = ground.yard.tenants["chat"]
    tenant.spec = tenant.spec.model_copy(update={"drain": drain})
    ground.run(40, requests=20)
    ground.yard.drain(twin, ground.now)
    ground.run(25)
    assert twin.state is S.TERMINATED
    assert ground.yard.forced == 1
    assert ground.plant.lost > 0


def test_a_launch_that_fails_gives_its_gpus_back() -> None:
    ground = Ground("  launchFailures: 1\n")
    twin = ground.yard.launch(ground.order("one"), 0.0)
    ground.run(70)
    assert twin.state is S.FAILED
    assert ground.yard.failed == 1
    assert ground.plant.joined == []
    assert ground.held(70.0) == {S.PENDING: 1, S.LAUNCHING: 60}
    ground.yard.launch(ground.order("two"), ground.now)


def test_a_start_up_longer_than_the_role_allows_fails() -> None:
    ground = Ground()
    tenant = ground.yard.tenants["chat"]
    decode = tenant.spec.roles[Role.DECODE].model_copy(update={"startup_timeout": 30.0})
    roles = {**tenant.spec.roles, Role.DECODE: decode}
    tenant.spec = tenant.spec.model_copy(update={"roles": roles})
    twin = ground.yard.launch(ground.order("one"), 0.0)
    ground.run(40)
    assert twin.state is S.FAILED
    assert "not ready after 30 s" in twin.message


def test_start_ups_belong_to_the_launches_number_whatever_else_happens() -> None:
    def drawn(gap: int) -> list[float]:
        spec = fleet()
        yard = Yard(spec, hosts(spec), 7)
        yard.add("chat", service(), ToyPlant())
        twins = []
        for number in range(4):
            order = Order(f"i{number}", "chat", Role.DECODE, "H20", (Post("h20-1", (number,)),))
            twins.append(yard.launch(order, float(number * gap)))
            for second in range(number * gap, (number + 1) * gap):
                yard.step(second + 1.0)
        return [twin.ready_at - twin.launched_at for twin in twins]

    assert drawn(5) == pytest.approx(drawn(11))
    assert len(set(drawn(5))) == 4  # and each is its own


def test_a_launch_held_for_the_ratio_waits_out_of_service_until_its_deadline() -> None:
    ground = Ground()
    twin = ground.yard.launch(replace(ground.order("one"), hold=40.0), 0.0)
    ground.run(61)
    assert (twin.state, twin.reason) == (S.WITHDRAWN, WithdrawReason.RATIO_HOLD)
    ground.yard.renew(twin, 500.0)
    ground.run(39)
    assert (twin.state, twin.gate) == (S.WITHDRAWN, GateState.CLOSED)
    ground.run(3)
    assert (twin.state, twin.gate) == (S.IN_SERVICE, GateState.OPEN)
    assert ground.held(ground.now)[S.IN_SERVICE] == 2


def test_every_rank_holds_gpus_and_counts() -> None:
    ground = Ground()
    posts = (Post("h20-1", (0, 1)), Post("h20-2", (0, 1)))
    twin = ground.yard.launch(Order("big", "chat", Role.DECODE, "H20", posts), 0.0)
    assert twin.gpus == 4
    assert 0 not in ground.yard.free["h20-2"]
    ground.run(100)
    ground.yard.drain(twin, ground.now)
    ground.run(30)
    assert ground.yard.free["h20-2"] == set(range(8))
