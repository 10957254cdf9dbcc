"""Gates over the life of an instance: they are held against the wish again and again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.words import GateState, InstanceState, Outcome
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.journal import Journal
from heteroscale_agent.ledger import instance_entry
from heteroscale_agent.model import Terminate
from tests.agent.body_twins import SOFT, SPEC, FakeGate, World, launch


async def test_a_restarted_router_is_told_again(world: World) -> None:
    await world.serving()
    world.gate.places["r1"].clear()
    await world.passes(3)
    assert world.gate.places == {"r1": {"i1"}}
    await world.do(SOFT)
    await world.passes(2)
    world.gate.places["r1"].add("i1")
    await world.passes(3)
    assert world.gate.places == {"r1": set()}
    assert world.status().state is InstanceState.WITHDRAWN


def narrow(folder: Path, ports: int) -> World:
    """Return a host with few ports, of which each engine draws one."""
    template = {**SPEC["templates"]["decode"], "ports": 1}
    there = {"first": 21000, "last": 21000 + ports - 1}
    return World(folder, ports=there, templates={"decode": template})


class SharedGate(FakeGate):
    """Routers that know workers by where they serve, as real ones do."""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        return await super().reconcile(
            replace(member, instance_id=member.endpoint), wanted_in=wanted_in
        )


@pytest.mark.parametrize("journal_knows_it_is_out", [True, False])
async def test_an_ended_instance_never_takes_out_the_next_one_on_its_port(
    tmp_path: Path, *, journal_knows_it_is_out: bool
) -> None:
    world = narrow(tmp_path, 1)
    world.gates["sglang-router"] = gate = SharedGate()
    await world.body.start()
    await world.serving()
    await world.do(Terminate(1.0))
    await world.passes(5)
    await world.serving("i2")
    endpoint = world.status("i2").endpoint
    assert world.status().endpoint == endpoint
    await world.die()
    journal = Journal(tmp_path, wall=world.wall)
    ended = journal.records()["i1"]
    assert ended["gate_out"] is True
    journal.append([instance_entry("i1", {**ended, "gate_out": journal_knows_it_is_out})])
    journal.close()
    await world.restart()
    for _ in range(20):
        await world.passes(0.5)
        assert gate.places == {"r1": {endpoint}}
    assert world.status("i2").gate_state is GateState.OPEN
    if journal_knows_it_is_out:
        asked = gate.asked
        world.processes.end(world.processes.only, 1)
        await world.passes(30)
        # Only the second is taken out, once and for ever.
        assert gate.places == {"r1": set()}
        assert 1 <= gate.asked - asked <= 3
    await world.body.close()


async def test_ports_of_an_ended_instance_are_held_until_no_router_has_them(tmp_path: Path) -> None:
    world = narrow(tmp_path, 1)
    await world.body.start()
    await world.serving()
    world.processes.end(world.processes.only, 1)
    world.gate.silent = {"r1"}
    await world.passes(5)
    assert "no 1 free ports" in (await world.do(launch(), "i2")).message
    world.gate.silent = set()
    await world.passes(10)
    assert (await world.do(launch(), "i3")).outcome is Outcome.DONE
    await world.body.close()


async def test_ports_of_an_ended_instance_are_the_last_choice(tmp_path: Path) -> None:
    world = narrow(tmp_path, 3)
    await world.body.start()
    drawn = []
    for name in ("i1", "i2", "i3", "i4"):
        await world.serving(name)
        drawn.append(world.status(name).endpoint)
        world.processes.end(world.processes.only, 1)
        await world.passes(5)
    assert len(set(drawn[:3])) == 3
    assert drawn[3] in drawn[:3]
    await world.body.close()


async def test_an_agreed_gate_is_looked_at_only_now_and_then(world: World) -> None:
    await world.serving()
    before = world.gate.asked
    await world.passes(20)
    assert 8 <= world.gate.asked - before <= 12
