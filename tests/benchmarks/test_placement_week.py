"""The week of churn and the sweep of speeds: what they count, and that they run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from benchmarks.placement import table
from benchmarks.placement.__main__ import main
from benchmarks.placement.cases import TEMPLATE, fleet_of
from benchmarks.placement.churn import INVENTORY, LEAST_NODES, SMALL, Life, fleet_wish
from benchmarks.placement.placers import PLACERS
from benchmarks.placement.port import Held
from benchmarks.placement.speed import Figures, measure
from benchmarks.placement.sweep import exponent, goals
from benchmarks.placement.week import HOUR, LOAD, Tenant, Wanted, week

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts, Rank
from heteroscale_coordinator.core.placement import Ask, NodeView, Spot
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec
from heteroscale_simulator.inventory import Wish

P, D = Role.PREFILL, Role.DECODE
FLEET = fleet_of(Wish(SMALL, ports=4, s1_per_s2=4, mixed_s1=0.15, mixed_s2=0.5))


def node(name: str, s1: str, s2: str, kind: str = "H20") -> NodeView:
    topology = {"s1": s1, "s2": s2, "logical_cluster": "c"}
    types = dict.fromkeys(range(4), kind)
    return NodeView(name, name, topology, types, (0, 1, 2, 3), frozenset([TEMPLATE]))


# ---- what is wanted ----------------------------------------------------------------------------


def test_the_same_seed_wants_the_same_week() -> None:
    first, again, other = (week(FLEET, 48, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(early.at <= late.at for early, late in pairwise(first))


def test_the_load_is_what_was_asked_for_and_stays() -> None:
    events = week(FLEET, 120, 3)
    sound = sum(len(n.free) for n in FLEET if n.usable)
    now: dict[str, int] = {}
    shares = []
    looks = iter([24.0, 48.0, 72.0, 96.0, 119.0, inf])
    look = next(looks)
    for event in events:
        while event.at > look * HOUR:
            shares.append(sum(now.values()) / sound)
            look = next(looks)
        roles = event.tenant.roles
        now[event.tenant.name] = sum(roles[r].gpus * n for r, n in event.counts.items())
    assert sum(shares) / len(shares) == pytest.approx(LOAD, abs=0.25)
    assert any(not event.counts for event in events), "some depart"


def test_walls_that_cannot_hold_a_service_are_not_required_of_it() -> None:
    alone = [node(f"n{i}", f"m{i}", f"b{i}", ("H20", "H100")[i % 2]) for i in range(40)]
    for event in week(alone, 2, 0):
        types = {spec.gpu_types for spec in event.tenant.roles.values()}
        assert not (event.tenant.placement.required and len(types) > 1)


def test_the_inventory_of_real_nodes_is_grown(tmp_path: Path) -> None:
    rows = ["A10,1,1,1,2", "CPU-only,0,1,1,900", "T4,2,1,1,7", "T4,2,9,9,1"]
    text = "\n".join(["model,gpu,cpu_milli,memory_mib,nodes", *rows])
    (tmp_path / INVENTORY).write_text(text, "utf-8")
    wish = fleet_wish(tmp_path, small=False)
    assert {(kind.gpu_type, kind.gpus): kind.nodes for kind in wish.kinds} == {
        ("A10", 1): 800,
        ("T4", 2): 3200,
    }
    assert wish.nodes == LEAST_NODES
    assert fleet_wish(None, small=False).nodes >= LEAST_NODES


# ---- what is counted ---------------------------------------------------------------------------


class Script:
    """A placer that puts instances where it is told, in their order; None: it refuses."""

    name = "script"

    def __init__(self, *answers: Sequence[tuple[Role, str]] | None) -> None:
        self._answers = list(answers)
        self._next = Counter[str]()

    def place(self, ask: Ask, standing: Sequence[Held], now: float) -> tuple[Spot, ...] | None:
        answer = self._answers.pop(0)
        return None if answer is None else tuple(self._spot(*one) for one in answer)

    def _spot(self, role: Role, agent: str) -> Spot:
        self._next[agent] += 1
        return Spot(role, (Rank(agent, (self._next[agent] - 1,)),), "g", "H20")

    def victims(self, delta: Counts, standing: Sequence[Held], now: float) -> Sequence[Held]:
        return [one for one in standing if delta.get(one.spot.role, 0)][:1]

    def give(self, spot: Spot) -> None:
        """Nothing is kept."""


def tenant(**placement: object) -> Tenant:
    roles = {role: RoleSpec(template=TEMPLATE, gpu_types=("H20",)) for role in (P, D)}
    where = PlacementSpec.model_validate(placement)
    return Tenant("s", roles, where, 1.0, 1.0, 0.0, 0.0)


NODES = [node("a", "m1", "b1"), node("b", "m2", "b1"), node("c", "m3", "b2")]


def test_a_week_is_counted_by_hand() -> None:
    one = tenant()
    events = [Wanted(0.0, one, {P: 1, D: 1}), Wanted(1.5 * HOUR, one, {P: 2, D: 1})]
    told = Life("x", Script([(P, "a"), (D, "c")], None), NODES).live(events, 2)
    assert (told.asked, told.refused, told.services) == (2, 1, 1)
    assert told.unserved == pytest.approx(1 / 5), "one GPU of the second hour's three"
    assert told.cross_s2 == 1.0
    assert told.kv_lost == pytest.approx(1 - 12 / 45)
    assert told.fragmented == pytest.approx(6 / 10), "a and c are in part used, b is whole"
    assert told.high_waste == 0.0


def test_departures_and_scale_ins_give_their_gpus_back() -> None:
    one = tenant()
    events = [
        Wanted(0.0, one, {P: 1, D: 2}),
        Wanted(1.0, one, {P: 1, D: 1}),
        Wanted(2.0, one, {}),
    ]
    life = Life("x", Script([(P, "a"), (D, "a"), (D, "b")]), NODES)
    told = life.live(events, 1)
    assert told.fragmented == 0.0
    assert told.unserved == 0.0


def test_high_class_is_wasted_on_who_can_do_without() -> None:
    nodes = [node("a", "m1", "b1"), node("b", "m1", "b1", "H100"), node("c", "m2", "b2")]
    loose, strict = tenant(), tenant(affinity="s1", required=True)
    strict = replace(
        strict, roles={**strict.roles, P: RoleSpec(template=TEMPLATE, gpu_types=("H100",))}
    )
    assert (loose.needs_high, strict.needs_high) == (False, True)
    told = Life("x", Script([(P, "a"), (D, "a")]), nodes).live(
        [Wanted(0.0, loose, {P: 1, D: 1})], 1
    )
    assert told.high_waste == pytest.approx(2 / 8)


@pytest.mark.parametrize("name", PLACERS)
def test_every_placer_lives_through_a_day(name: str) -> None:
    events = week(FLEET, 24, 0)
    told = Life(name, PLACERS[name](FLEET), FLEET).live(events, 24)
    assert told.asked > 50
    assert told.refused < told.asked
    for share in (told.unserved, told.high_waste, told.cross_s2, told.fragmented, told.kv_lost):
        assert 0 <= share <= 1


# ---- how fast ----------------------------------------------------------------------------------


def test_one_size_is_measured() -> None:
    found = measure(60, 5)
    assert (found.nodes, found.services) == (60, 5)
    assert found.placed + found.refused == 6
    assert found.pieces == 3, "the sorting, a turn that thinks again for one, and one that commits"
    assert min(found.update_us, found.step_ms, found.cycle_s, found.loop_ms) > 0


def test_growth_is_the_slope_of_the_logarithms() -> None:
    sizes = [replace(Figures(n, 10, 8 * n), cycle_s=n**1.5) for n in (100, 1000, 10_000)]
    grown = exponent(sizes, lambda one: one.cycle_s)
    assert grown == pytest.approx(1.5)
    assert exponent(sizes[:1], lambda one: one.cycle_s) is None
    said = {goal.name: goal.met for goal in goals(sizes)}
    assert said["a cycle's growth"] is False
    assert said["the view's memory"] is True
    assert said["a cycle's pieces within 20 ms"] is False
    assert "MISSED" in table.speed([replace(one, loop_ms=1.0) for one in sizes])


def test_a_quick_run_of_speed_and_churn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--only", "speed,churn", "--quick", "--sizes", "40:4", "--hours", "3"]
    assert main([*line, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["nodes"] for one in found["speed"]] == [40]
    assert [one["placer"] for one in found["churn"]] == list(PLACERS)
    told = capsys.readouterr().out
    assert "high-class waste" in told
    assert "a node's update" in told
