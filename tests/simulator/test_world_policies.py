"""Drivers: what rivals see and get, how the core hears its agents, and holes in what is heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetTooSmallError, hosts, parse_fleet
from heteroscale_simulator.policies.port import Counts, Seen
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.result import WorldResult
from heteroscale_simulator.world.rival_driver import within
from heteroscale_simulator.world.seats import seat
from heteroscale_simulator.world.simulation import ServiceRun, simulate
from heteroscale_simulator.world.twin import Order, Post
from heteroscale_simulator.world.yard import Yard
from tests.simulator.test_world import FLEET, SERVICE, fleet, hump, run, service
from tests.simulator.toy_plant import OUTPUT, PROMPT, ToyPlant, steady

P, D = Role.PREFILL, Role.DECODE
S = InstanceState


@dataclass
class Scripted:
    """A rival that says what a script says, and keeps what it saw."""

    script: Callable[[Seen], Counts]
    name: str = "scripted"
    interval: float = 15.0
    seen: list[dict[str, float | None]] = field(default_factory=list)

    def decide(self, seen: Seen) -> Counts:
        self.seen.append(
            {
                "now": seen.now,
                "prefill": seen.offered(P, 60.0),
                "decode": seen.offered(D, 60.0),
                "rate": seen.rate("generation_tokens", D, 60.0),
                "running": sum(seen.gauge("running", D).values()),
                "ready": float(seen.ready[D]),
                "present": float(seen.present[D]),
            }
        )
        return self.script(seen)


def play(
    script: Callable[[Seen], Counts],
    load: Load,
    more: str = "",
    initial: Mapping[Role, int] | None = None,
) -> tuple[WorldResult, Scripted, ToyPlant]:
    rival, plant = Scripted(script), ToyPlant()
    one = ServiceRun("chat", service(), load, plant, initial or {P: 2, D: 4})
    return simulate([one], fleet(more), lambda _: rival, seed=3), rival, plant


def at(*steps: tuple[float, int, int]) -> Callable[[Seen], Counts]:
    """Return a script: from each time on, so many prefill and decode."""

    def script(seen: Seen) -> Counts:
        _, prefill, decode = [step for step in steps if step[0] <= seen.now][-1]
        return {P: prefill, D: decode}

    return script


def test_a_rival_sees_rates_late_and_whole() -> None:
    _, rival, _ = play(at((0, 2, 4)), steady(np.full(300, 20.0)))
    assert rival.seen[0]["prefill"] is None
    last = rival.seen[-1]
    assert last["prefill"] == pytest.approx(20 * PROMPT)
    assert last["decode"] == pytest.approx(20 * OUTPUT)
    assert last["rate"] == pytest.approx(20 * OUTPUT)
    assert last["running"] == pytest.approx(20, abs=1)


def test_an_overload_shows_in_what_is_offered_not_in_what_is_served() -> None:
    load = steady(np.concatenate([np.full(120, 15.0), np.full(180, 60.0)]))
    _, rival, _ = play(at((0, 4, 2)), load, initial={P: 4, D: 2})
    last = rival.seen[-1]
    assert last["rate"] == pytest.approx(2 * 2000)
    assert last["decode"] == pytest.approx(60 * OUTPUT, rel=0.05)


def test_counts_follow_what_a_rival_says_and_nothing_is_lost() -> None:
    result, rival, plant = play(at((0, 2, 4), (100, 4, 9), (300, 1, 3)), steady(np.full(600, 12.0)))
    told = result.services["chat"]
    assert [(d.at, dict(d.delta)) for d in told.decisions] == [
        (106.0, {P: 2, D: 5}),
        (301.0, {P: -3, D: -6}),
    ]
    counts = told.counts[D, S.IN_SERVICE]
    assert (counts[0], counts[4], counts[-1]) == (4, 9, 3)
    assert told.counts[D, S.LAUNCHING].max() > 0
    assert told.counts[D, S.DRAINING].max() > 0
    assert plant.lost == 0
    present = [seen["present"] for seen in rival.seen if 110 < (seen["now"] or 0) < 160]
    assert set(present) == {9.0}


def test_what_starts_goes_first_and_the_newest_of_it() -> None:
    result, _, plant = play(at((0, 2, 4), (30, 2, 8), (60, 2, 6)), steady(np.full(240, 12.0)))
    ended = [one for one in result.intervals if one.state is S.LAUNCHING and one.end <= 62]
    assert len(ended) == 2
    assert plant.lost == 0
    assert result.services["chat"].counts[D, S.IN_SERVICE][-1] == 6


def test_bounds_hold_a_rival() -> None:
    spec = service().model_copy(update={"max_gpus": 12})
    assert within({P: 0, D: 500}, spec) == {P: 1, D: 11}
    assert within({P: 8, D: 8}, service()) == {P: 8, D: 8}
    assert within({P: 99, D: 1}, service()) == {P: 20, D: 1}


def test_a_failed_launch_is_tried_again() -> None:
    more = "  launchFailures: 0.5\n"
    result, _, _ = play(at((0, 2, 4), (15, 2, 12)), steady(np.full(900, 12.0)), more)
    assert result.launches_failed > 0
    assert result.services["chat"].counts[D, S.IN_SERVICE][-1] == 12


def test_no_room_is_no_error_and_is_counted() -> None:
    small = parse_fleet(FLEET.replace("nodes: 8", "nodes: 1")).spec
    one = ServiceRun("chat", service(), steady(np.full(240, 12.0)), ToyPlant(), {P: 2, D: 4})
    result = simulate([one], small, lambda _: Scripted(at((0, 2, 4), (30, 2, 9))), seed=1)
    assert result.services["chat"].counts[D, S.IN_SERVICE][-1] == 6
    assert result.services["chat"].holds["no room"] > 0


@pytest.mark.parametrize(
    ("types", "launched"),
    [("H20, L20", {"H20": 2, "L20": 6}), ("L20, H20", {"L20": 8}), ("", {"H20": 2, "L20": 6})],
)
def test_launches_take_the_preferred_type_first_and_the_next_when_it_is_full(
    types: str, launched: dict[str, int]
) -> None:
    pools = FLEET.replace("nodes: 8", "nodes: 1") + "    - {name: l20, nodes: 1, gpuType: L20}\n"
    spec = service(SERVICE.replace("[H20], min: 1, max: 40", f"[{types}], min: 1, max: 40"))
    one = ServiceRun("chat", spec, steady(np.full(240, 12.0)), ToyPlant(), {P: 2, D: 4})
    rival = Scripted(at((0, 2, 4), (30, 2, 12)))
    result = simulate([one], parse_fleet(pools).spec, lambda _: rival, seed=1)
    assert Counter(i.gpu_type for i in result.intervals if i.state is S.PENDING) == launched


def test_a_launch_stands_near_the_other_role() -> None:
    pools = FLEET.replace("gpusPerNode: 8", "topology: {nodesPerS1: 2}")
    fleet_spec = parse_fleet(pools).spec
    yard = Yard(fleet_spec, hosts(fleet_spec), 1)
    yard.add("chat", service(), ToyPlant())
    tenant = yard.tenants["chat"]
    yard.stand(Order("p1", "chat", P, "H20", (Post("h20-5", (0,)),)))
    found = seat(yard, tenant, D, "d1")
    assert found is not None
    assert found.posts == (Post("h20-5", (1,)),)
    for number in range(15):
        order = seat(yard, tenant, D, f"d{number + 1}")
        assert order is not None
        assert yard.hosts[order.posts[0].host].topology["s1"] == "h20-s1-3"
        yard.stand(order)
    beyond = seat(yard, tenant, D, "d99")
    assert beyond is not None
    assert beyond.posts[0].host == "h20-1"


# ---- the core ------------------------------------------------------------------------------


def test_launches_that_fail_are_replaced_by_the_core() -> None:
    result, plant = run(hump(5400, 20, 120), on=fleet("  launchFailures: 0.2\n"))
    told = result.services["chat"]
    assert result.launches_failed > 0
    assert "repair" in {decision.action for decision in told.decisions}
    assert plant.lost == 0
    assert told.counts[D, S.IN_SERVICE].max() >= 14


def test_some_missing_scrapes_move_nothing() -> None:
    """A steady load inside the band, three scrapes in ten lost: nothing may be scaled for that."""
    load = steady(np.full(1800, 26.0))
    more = "  telemetry: {missing: 0.3}\n"
    result, _ = run(load, on=fleet(more))
    assert [d.reason for d in result.services["chat"].decisions] == []


def test_when_no_scrape_comes_nothing_is_scaled_at_all() -> None:
    result, _ = run(hump(1800, 20, 100), on=fleet("  telemetry: {missing: 1}\n"))
    told = result.services["chat"]
    assert told.decisions == ()
    assert told.holds.keys() == {"coverage"}


def test_noise_moves_nothing_either() -> None:
    result, _ = run(steady(np.full(1800, 26.0)), on=fleet("  telemetry: {noise: 0.05}\n"))
    assert [d.reason for d in result.services["chat"].decisions] == []


# ---- several services ----------------------------------------------------------------------


def two(policy: Callable[[ServiceRun], Scripted] | None) -> WorldResult:
    loads = {"day": hump(3600, 20, 100), "night": hump(3600, 100, 20)}
    services = [ServiceRun(name, service(), load, ToyPlant(), None) for name, load in loads.items()]
    return simulate(services, fleet(), policy, seed=5)


def test_two_services_share_a_fleet_and_never_a_gpu() -> None:
    result = two(None)
    assert {one.service for one in result.intervals} == {"day", "night"}
    for name in ("day", "night"):
        serving = result.services[name].counts[D, S.IN_SERVICE]
        assert serving.max() > serving.min()
    marks = [(one.begin, one.gpus) for one in result.intervals]
    marks += [(one.end, -one.gpus) for one in result.intervals]
    held, most = 0, 0
    for _, change in sorted(marks):
        held += change
        most = max(most, held)
    assert 0 < most <= 64


def test_each_service_has_a_rival_of_its_own() -> None:
    made: list[str] = []

    def rival(of: ServiceRun) -> Scripted:
        made.append(of.name)
        return Scripted(at((0, 3, 5)))

    result = two(rival)
    assert made == ["day", "night"]
    for told in result.services.values():
        assert told.counts[D, S.IN_SERVICE][-1] == 5


# ---- beginnings and ends -------------------------------------------------------------------


def test_every_policy_begins_with_the_same_instances_in_the_same_places() -> None:
    joint, _ = run(steady(np.full(120, 20.0)))
    counts = joint.services["chat"].initial
    rival, _, _ = play(lambda _: counts, steady(np.full(120, 20.0)), initial=counts)

    def first(result: WorldResult) -> Counter[tuple[str, str]]:
        return Counter((i.instance_id, i.role) for i in result.intervals if i.begin == 0)

    assert first(joint) == first(rival)
    assert counts == {P: 2, D: 3}


def test_what_is_inside_at_the_end_is_served_and_only_the_trace_is_billed() -> None:
    load = steady(np.concatenate([np.full(60, 5.0), np.full(60, 60.0)]))
    result, _, plant = play(at((0, 4, 2)), load, initial={P: 4, D: 2})
    assert plant.finished == pytest.approx(plant.arrived)
    assert result.ran > result.seconds == 120
    assert sum(one.gpu_hours for one in result.intervals) == pytest.approx(6 * 120 / 3600)


def test_a_run_that_is_never_served_ends_after_ten_minutes() -> None:
    load = steady(np.full(120, 300.0))
    result, _, plant = play(at((0, 2, 1)), load, initial={P: 2, D: 1})
    assert result.ran == 120 + 600
    assert plant.finished < plant.arrived


def test_stated_counts_without_room_are_refused() -> None:
    one = ServiceRun("chat", service(), steady(np.full(60, 500.0)), ToyPlant(), {P: 40, D: 20})
    with pytest.raises(FleetTooSmallError, match=r"H20: 60 GPUs wanted.*, 32 there"):
        simulate([one], parse_fleet(FLEET.replace("nodes: 8", "nodes: 4")).spec)


@pytest.mark.parametrize("rate", [500.0, 1e6])
def test_overload_begins_with_what_the_fleet_has_room_for(rate: float) -> None:
    runs = [
        ServiceRun(name, service(), steady(np.full(60, rate)), ToyPlant()) for name in ("a", "b")
    ]
    result = simulate(runs, parse_fleet(FLEET.replace("nodes: 8", "nodes: 4")).spec)
    first = [result.services[name].initial for name in ("a", "b")]
    assert first[0] == first[1]
    assert 26 <= sum(sum(counts.values()) for counts in first) <= 32
    assert min(first[0].values()) >= 1


def test_aggregated_services_are_refused() -> None:
    spec = ServiceSpec.model_validate({"roles": {"aggregated": {"template": "t"}}})
    with pytest.raises(ValueError, match="needs prefill and decode"):
        simulate([ServiceRun("chat", spec, steady(np.ones(5)), ToyPlant())], fleet())
